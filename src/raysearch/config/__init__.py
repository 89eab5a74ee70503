"""The space file, the table of hyperparameters, and the resolved parameters of a trial."""
