"""The only room that imports MLflow: a study's runs, and its model in the registry."""
