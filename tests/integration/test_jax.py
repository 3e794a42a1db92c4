"""A file for each backend: the two run beside each other."""

from backends import run_layers_and_models


def test_layers_and_models():
    run_layers_and_models("jax")
