"""What baselines that are networks share: training and scoring in batches."""

import abc
import time

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from memae_tf.config import Conv2DModel, DenseModel, TrainingConfig

# Elements of a batch in scoring, at most.
BATCH_NUMBERS = 2**20


class Network(keras.Model, abc.ABC):
    """A model with a loss for each sample, and a score that may differ from it."""

    @abc.abstractmethod
    def sample_loss(self, x):
        """The losses that training minimises, float32 (batch,)."""

    @abc.abstractmethod
    def sample_score(self, x):
        """The anomaly scores, float32 (batch,)."""

    def call(self, x):
        return self.sample_score(x)

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = ops.mean(self.sample_loss(x))
        self._loss_tracker.update_state(loss, sample_weight=ops.shape(x)[0])
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": self._loss_tracker.result()}


class NetworkBaseline:
    """Trains a network with Adam, and scores with it.

    Args:
        network: A `Network`.
        training: Has epochs, batch size and learning rate.
    """

    def __init__(self, network: Network, training: TrainingConfig):
        self.network = network
        self.training = training

    def fit(self, x: np.ndarray) -> list[dict]:
        """Learns from features; an entry with `epoch`, `loss` and `seconds` for each epoch."""
        training, network = self.training, self.network
        network.compile(keras.optimizers.Adam(training.learning_rate), jit_compile=False)
        clock = _Clock()
        history = network.fit(
            x,
            batch_size=training.batch_size,
            epochs=training.epochs,
            verbose=0,
            callbacks=[clock, keras.callbacks.TerminateOnNaN()],
        )
        entries = zip(history.history["loss"], clock.seconds, strict=True)
        return [
            {"epoch": number, "loss": float(loss), "seconds": seconds}
            for number, (loss, seconds) in enumerate(entries, start=1)
        ]

    def score(self, x: np.ndarray) -> np.ndarray:
        size = max(1, min(1024, BATCH_NUMBERS // int(np.prod(x.shape[1:]))))
        return self.network.predict(x, batch_size=size, verbose=0).astype("float32")


class _Clock(keras.callbacks.Callback):
    """The seconds of every epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def net_for(
    net: DenseModel | Conv2DModel | None, shape: tuple[int, ...]
) -> DenseModel | Conv2DModel:
    """Checks that a network takes samples of a shape; without one, gives `paper_net`.

    Raises:
        ValueError: If it takes samples of another rank.
    """
    net = net or paper_net(shape)
    if isinstance(net, Conv2DModel) != (len(shape) == 3):
        raise ValueError(f"net.name={net.name} does not take samples of the shape {shape}")
    return net


def paper_net(shape: tuple[int, ...]) -> DenseModel | Conv2DModel:
    """The paper's network for samples of a shape, so that baselines have the size of MemAE.

    For images up to 28 pixels it is the one for MNIST (but with kernels of size 3 in the first
    layer, too), for larger ones the one for CIFAR-10.
    """
    if len(shape) == 1:
        return DenseModel(name="dense")
    if max(shape[:2]) <= 28:
        return Conv2DModel(name="conv2d", kernels=[3, 3, 3])
    return Conv2DModel(name="conv2d", filters=[64, 128, 128, 256], kernels=[3] * 4, strides=[2] * 4)
