"""Learning curves of real trainings on the public samples, and the memory that is made of them."""
