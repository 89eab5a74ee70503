"""Decides what happens next in a study: stopping rules, rungs, the surrogate and the budget."""
