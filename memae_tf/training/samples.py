"""What the training loop learns from: arrays of features, or clips over prepared footage.

Everything random about the samples of an epoch is in its plan, which follows from the seed and the
epoch alone: a run that goes on in the middle of an epoch, streams, or has another number of
replicas sees the same samples.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from keras import ops

# Of the backend.
Tensor = Any
Tensors = dict[str, Tensor]
Arrays = dict[str, np.ndarray]


class Spec(NamedTuple):
    """Of one sample."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class TrainingSamples(ABC):
    """A training set as feeds and loop take it.

    Attributes:
        shape: (samples, ...), of the features.
        nbytes: What is kept on a device, where all of it is.
        sample_nbytes: Bytes of one sample as it reaches a step.
    """

    shape: tuple[int, ...]
    nbytes: int
    sample_nbytes: int

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The features of the samples at places, float32."""

    @abstractmethod
    def resident(self) -> np.ndarray:
        """What is put on a device."""

    @abstractmethod
    def plan(self, order: np.ndarray, seed: int, epoch: int) -> Arrays:
        """All that says what the samples of an epoch are, in their order: arrays (samples, ...)."""

    @abstractmethod
    def gather(self, resident: Tensor, plan: Tensors) -> Tensors:
        """The samples of a part of a plan, tensors (..., ) of its leading axes, on the device."""

    @abstractmethod
    def read(self, plan: Arrays) -> Arrays:
        """The same from host memory or disk."""

    @abstractmethod
    def specs(self) -> dict[str, Spec]:
        """Of one sample as `read` and `gather` give it."""

    @abstractmethod
    def prepare(self, samples: Tensors) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the model gets, what it should give, and weights (batch,), of a batch."""


class ArraySamples(TrainingSamples):
    """Features in an array, which may be mapped into memory.

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
