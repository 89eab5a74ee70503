"""Who proposes hyperparameters: samplers, designs and points of the unit cube; Optuna is asked here alone."""
