"""Training samples for the loop: the base class, and features in an array.

Everything random about the samples of an epoch is in its plan, which follows from the seed and the
epoch alone: a run sees the same samples whether or not it is resumed in the middle of an epoch,
streams its data, or has several replicas.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from keras import ops

# A tensor of the backend.
Tensor = Any
Tensors = dict[str, Tensor]
Arrays = dict[str, np.ndarray]


class Spec(NamedTuple):
    """Shape and dtype of one sample."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class TrainingSamples(ABC):
    """A training set as the feeds and the loop take it.

    Attributes:
        shape: Shape of all features, (samples, ...).
        nbytes: Bytes of `resident()`.
        sample_nbytes: Bytes of one sample as `read` and `gather` give it.
    """

    shape: tuple[int, ...]
    nbytes: int
    sample_nbytes: int

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The features of the samples at an index, float32."""

    @abstractmethod
    def resident(self) -> np.ndarray:
        """The data to keep on each device, from which `gather` takes samples."""

    @abstractmethod
    def plan(self, order: np.ndarray, seed: int, epoch: int) -> Arrays:
        """What determines the samples of an epoch: arrays (samples, ...) in the given order."""

    @abstractmethod
    def gather(self, resident: Tensor, plan: Tensors) -> Tensors:
        """The samples of a part of a plan, from `resident()` on the device.

        They have the leading axes of the plan's tensors.
        """

    @abstractmethod
    def read(self, plan: Arrays) -> Arrays:
        """The samples of a part of a plan, from the host's memory or disk."""

    @abstractmethod
    def specs(self) -> dict[str, Spec]:
        """Shape and dtype of one sample as `read` and `gather` give it, by name."""

    @abstractmethod
    def prepare(self, samples: Tensors) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs, targets and weights (batch,) of a batch; weights of `None` are 1."""


class ArraySamples(TrainingSamples):
    """Features in an array, which may be memory-mapped.

    Args:
        x: Float32 array (samples, ...).
    """

    def __init__(self, x: np.ndarray):
        self.x = x
        self.shape = x.shape
        self.nbytes = x.nbytes
        self.sample_nbytes = x[0].nbytes

    def __getitem__(self, index):
        return self.x[index]

    def resident(self):
        return self.x

    def plan(self, order, seed, epoch):
        return {"index": order}

    def gather(self, resident, plan):
        return {"x": ops.take(resident, plan["index"], axis=0)}

    def read(self, plan):
        return {"x": self.x[plan["index"]]}

    def specs(self):
        return {"x": Spec(self.shape[1:], self.x.dtype.name)}

    def prepare(self, samples):
        return samples["x"], samples["x"], None
