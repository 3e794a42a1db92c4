"""Training: strategy, loop, run directory and checkpoints, monitor, and a whole experiment."""
