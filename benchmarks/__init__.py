"""Measures the project against references: each module prints its ratios last."""
