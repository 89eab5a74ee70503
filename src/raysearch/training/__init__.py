"""Training of one trial over its folds; it does not depend on Ray, Optuna or MLflow."""
