"""What happens next in a study: its course, the rules and rungs, the forest, the budget."""
