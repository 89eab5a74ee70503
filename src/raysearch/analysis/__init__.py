"""Analyses of a study: importances, parallel coordinates, its optimization history and replays."""
