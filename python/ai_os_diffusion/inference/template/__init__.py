"""Evaluating chat templates: all work is metered, and every text keeps its origin."""
