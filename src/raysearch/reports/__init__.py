"""What people read: how a champion was chosen, how it did on every set, and its card."""
