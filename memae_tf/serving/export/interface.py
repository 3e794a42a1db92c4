"""The part of an export that depends on the kind of input."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from memae_tf.models import Detector
from memae_tf.serving.export import NUM_TOP

Tensors = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Entry:
    """A form in which a detector takes samples.

    Attributes:
        featurize: Turns named tensors into features.
        inputs: The specs of the tensors, by name.
        samples: Two samples to try a model with, by name.
    """

    featurize: Callable[[Tensors], tf.Tensor]
    inputs: dict[str, tf.TensorSpec]
    samples: dict[str, np.ndarray]


class Interface(ABC):
    """The inputs and explanations of a detector, from which `saved_model` builds its signatures.

    Attributes:
        kind: The name of this kind of input in the manifest.
        raw: The entry for raw input.
        examples: The entry for serialized tf.Examples.
        files: The entry for encoded files; `None` if this kind of input has none.

    Args:
        detector: The detector.
    """

    kind: str
    raw: Entry
    examples: Entry
    files: Entry | None = None

    def __init__(self, detector: Detector):
        self.detector = detector

    def explain(self, features: tf.Tensor) -> Tensors:
        """The decision, where the error is, and the slots used."""
        detector, model = self.detector, self.detector.model
        answer = detector.explain_features(features)
        if model.memory is not None:
            code = model.encode(features)
            _, addressing = model.memory(code, return_addressing=True)
            slots = tf.math.top_k(addressing, min(NUM_TOP, model.memory.num_slots))
            answer["top_slots"], answer["top_weights"] = slots.indices, slots.values
        return answer

    @abstractmethod
    def example_request(self) -> dict:
        """The body of a request to the REST API with the first sample."""

    @abstractmethod
    def describe(self) -> dict:
        """What a client must know about the input and the order of outputs."""

    def description(self) -> dict:
        """`input`, from `describe`; `threshold`; and `reduction`, which says whether a score is the
        sum or the mean of the errors of a sample."""
        return {
            "input": self.describe(),
            "threshold": float(self.detector.threshold.numpy()),
            "reduction": self.detector.model.reduction,
        }


def examples_entry(
    featurize: Callable[[tf.Tensor], tf.Tensor], samples: list[tf.train.Example]
) -> Entry:
    """An entry for serialized tf.Examples (batch,)."""
    serialized = np.array([example.SerializeToString() for example in samples], object)
    return Entry(
        # Classify and Regress require this name.
        lambda inputs: featurize(inputs["inputs"]),
        {"inputs": tf.TensorSpec((None,), tf.string)},
        {"inputs": serialized},
    )


def example(values: dict) -> tf.train.Example:
    """A tf.Example with text, bytes and numbers."""
    features = {}
    for name, value in values.items():
        value = value.encode() if isinstance(value, str) else value
        if isinstance(value, bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        else:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features))


def checked(value: tf.Tensor, condition: tf.Tensor, *complaint) -> tf.Tensor:
    """The value, if the condition holds; otherwise the client gets INVALID_ARGUMENT with the
    complaint, which is text and tensors."""
    with tf.control_dependencies([tf.debugging.Assert(condition, complaint)]):
        return tf.identity(value)
