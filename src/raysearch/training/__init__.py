"""The loop over fold-epochs; knows nothing of Ray, Optuna or MLflow."""
