"""Training: strategy, loop, run directory and checkpoints, monitoring, and a whole experiment."""
