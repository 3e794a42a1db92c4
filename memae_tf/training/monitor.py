"""What a run shows of itself in TensorBoard."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from memae_tf.models import MemAE

# Enough samples for steady figures, few enough to cost nothing beside an epoch.
NUM_SAMPLES = 4096


class Monitor:
    """Writes losses, speed, and the health of the memory after every epoch.

    Args:
        directory: For the event files.
        model: The model in training.
        x: Training data; the addressing of up to 4,096 samples, the same ones every time, is
            looked at.
        seed: Of the choice of those samples.
    """

    def __init__(self, directory: Path, model: MemAE, x: np.ndarray, seed: int):
        self.model = model
        self.writer = tf.summary.create_file_writer(str(directory))
        chosen = np.random.default_rng(seed).permutation(len(x))[:NUM_SAMPLES]
        self.samples = x[np.sort(chosen)]

    def write(self, epoch: dict) -> None:
        """Writes one entry of the history; its `epoch` is the step."""
        with self.writer.as_default(step=epoch["epoch"]):
            for name in ("loss", "reconstruction", "penalty"):
                tf.summary.scalar(f"loss/{name}", epoch[name])
            tf.summary.scalar("speed/samples_per_second", epoch["samples_per_second"])
            if self.model.memory is not None:
                addressing = self.model.addressing(self.samples, batch_size=NUM_SAMPLES)
                for name, value in self.model.memory.health(addressing).items():
                    tf.summary.scalar(f"memory/{name}", value)
                largest = addressing.reshape(-1, addressing.shape[-1]).max(axis=1)
                tf.summary.histogram("memory/addressing", largest)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
