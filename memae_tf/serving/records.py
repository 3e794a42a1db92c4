"""What of an export depends on the input being records of named fields."""

from functools import cached_property

import numpy as np
import tensorflow as tf

from memae_tf.models import Detector

MISSING = {"float32": float("nan"), "string": ""}
NUM_TOP = 5

Tensors = dict[str, tf.Tensor]


class RecordInterface:
    """The inputs and explanations of a detector that takes records.

    Another kind of input is another class with the same attributes; `saved_model` builds the same
    signatures from either.

    Attributes:
        kind: What the manifest calls this kind of input.
        inputs: The spec of every raw input, by name.

    Args:
        detector: A detector whose featurizer is a `RecordFeaturizer`.
    """

    kind = "records"

    def __init__(self, detector: Detector):
        self.detector = detector
        self.dtypes = detector.featurizer.input_dtypes()
        self.inputs = {
            name: tf.TensorSpec((None,), dtype, name) for name, dtype in self.dtypes.items()
        }

    def parse(self, serialized: tf.Tensor) -> Tensors:
        """Records of serialized tf.Examples; a field that an example lacks is a missing value."""
        features = {
            name: tf.io.FixedLenFeature((), dtype, default_value=MISSING[dtype])
            for name, dtype in self.dtypes.items()
        }
        return tf.io.parse_example(serialized, features)

    def explain(self, records: Tensors) -> Tensors:
        """Decision, the error of every field, the fields with the largest, and the slots used."""
        detector, model = self.detector, self.detector.model
        answer = detector.explain(records)
        fields = tf.math.top_k(answer["field_error"], min(NUM_TOP, len(self.dtypes)))
        answer["top_fields"] = tf.gather(tf.constant(detector.field_names), fields.indices)
        if model.memory is not None:
            code = model.encoder(detector.featurizer(records), training=False)
            _, addressing = model.memory(code, return_addressing=True)
            slots = tf.math.top_k(addressing, min(NUM_TOP, model.memory.num_slots))
            answer["top_slots"], answer["top_weights"] = slots.indices, slots.values
        return answer

    @cached_property
    def samples(self) -> dict[str, np.ndarray]:
        """Two records to try a model with: known categories in the first, missing ones in the
        second; numbers of the size of the training data's."""
        featurizer = self.detector.featurizer
        records = featurizer.inverse(np.outer([1, 0], np.ones(featurizer.num_features)))
        for name, dtype in self.dtypes.items():
            if dtype == "string":
                records[name][1] = MISSING[dtype]
            else:
                # Six digits, so that they read well in JSON.
                records[name] = np.array([f"{value:.6g}" for value in records[name]], "float32")
        return records

    def sample_json(self) -> dict:
        """The first sample as an instance of the REST API's row format."""
        return {
            name: column[0] if column.dtype == object else float(str(column[0]))
            for name, column in self.samples.items()
        }

    @cached_property
    def sample_examples(self) -> list[tf.train.Example]:
        """The samples as tf.Examples."""
        rows = zip(*self.samples.values(), strict=True)
        return [_example(dict(zip(self.samples, row, strict=True))) for row in rows]

    def describe(self) -> dict:
        """What a client must know of the input and of the order of outputs, for the manifest."""
        return {
            "kind": self.kind,
            "fields": self.dtypes,
            "feature_names": self.detector.featurizer.feature_names,
        }


def _example(record: dict) -> tf.train.Example:
    features = {}
    for name, value in record.items():
        if isinstance(value, str):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        else:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features))
