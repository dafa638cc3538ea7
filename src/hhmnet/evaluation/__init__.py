"""Scores of a model on a split, and what they are worth."""
