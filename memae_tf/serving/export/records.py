"""Exports whose input is records of named fields."""

import numpy as np
import tensorflow as tf

from memae_tf.models import Detector
from memae_tf.serving.export import NUM_TOP
from memae_tf.serving.export.interface import (
    Entry,
    Interface,
    Tensors,
    example,
    examples_entry,
)

MISSING = {"float32": float("nan"), "string": ""}


class RecordInterface(Interface):
    """The inputs and explanations of a detector that takes records.

    Args:
        detector: A detector whose featurizer is a `RecordFeaturizer`.
    """

    kind = "records"

    def __init__(self, detector: Detector):
        super().__init__(detector)
        self.dtypes = detector.featurizer.input_dtypes()
        inputs = {name: tf.TensorSpec((None,), dtype, name) for name, dtype in self.dtypes.items()}
        samples = self._samples()
        rows = zip(*samples.values(), strict=True)
        examples = [example(dict(zip(samples, row, strict=True))) for row in rows]
        self.raw = Entry(detector.featurizer, inputs, samples)
        self.examples = examples_entry(lambda x: detector.featurizer(self._parse(x)), examples)

    def _parse(self, serialized: tf.Tensor) -> Tensors:
        """Records of serialized tf.Examples; a field that an example lacks is a missing value."""
        features = {
            name: tf.io.FixedLenFeature((), dtype, default_value=MISSING[dtype])
            for name, dtype in self.dtypes.items()
        }
        return tf.io.parse_example(serialized, features)

    def _samples(self) -> dict[str, np.ndarray]:
        """Two records to try a model with: known categories in the first, missing ones in the
        second; numbers of the size of the training data's."""
        featurizer = self.detector.featurizer
        records = featurizer.inverse(np.outer([1, 0], np.ones(featurizer.num_features)))
        for name, dtype in self.dtypes.items():
            if dtype == "string":
                records[name][1] = MISSING[dtype]
        for name in featurizer.numeric:
            # Six digits, so that they read well in JSON; of a code all digits count.
            records[name] = np.array([f"{value:.6g}" for value in records[name]], "float32")
        return records

    def explain(self, features: tf.Tensor) -> Tensors:
        """Decision, the error of every field, the fields with the largest, and the slots used."""
        answer = super().explain(features)
        fields = tf.math.top_k(answer["field_error"], min(NUM_TOP, len(self.dtypes)))
        answer["top_fields"] = tf.gather(tf.constant(self.detector.field_names), fields.indices)
        return answer

    def example_request(self) -> dict:
        instance = {
            name: column[0] if column.dtype == object else float(str(column[0]))
            for name, column in self.raw.samples.items()
        }
        return {"instances": [instance]}

    def describe(self) -> dict:
        return {
            "kind": self.kind,
            "fields": self.dtypes,
            **self.detector.featurizer.describe_features(),
        }
