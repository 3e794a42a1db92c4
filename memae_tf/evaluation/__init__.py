"""Evaluation: thresholds, metrics, and the report."""
