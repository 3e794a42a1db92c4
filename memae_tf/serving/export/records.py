"""Exports of detectors of records with named fields."""

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
        """Records from serialized tf.Examples; absent fields are missing values."""
        features = {
            name: tf.io.FixedLenFeature((), dtype, default_value=MISSING[dtype])
            for name, dtype in self.dtypes.items()
        }
        return tf.io.parse_example(serialized, features)

    def _samples(self) -> dict[str, np.ndarray]:
        """Two records to try a model with: known categories in the first, missing ones in the
        second, and numbers as large as in the training data."""
        featurizer = self.detector.featurizer
        records = featurizer.inverse(np.outer([1, 0], np.ones(featurizer.num_features)))
        for name, dtype in self.dtypes.items():
            if dtype == "string":
                records[name][1] = MISSING[dtype]
        for name in featurizer.numeric:
            # Six digits, which are easier to read in JSON; codes have all digits.
            records[name] = np.array([f"{value:.6g}" for value in records[name]], "float32")
        return records

    def explain(self, features: tf.Tensor) -> Tensors:
        """The decision, the errors of all fields, those with the largest, and the slots used."""
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
