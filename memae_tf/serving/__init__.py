"""Serving of exported detectors."""
