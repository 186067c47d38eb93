"""Predictors of what a policy will turn out to be, learned from what was evaluated; no torch."""
