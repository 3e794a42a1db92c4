"""A detector: everything between raw input and a decision, in one Keras model."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
from keras import ops

from memae_tf.columns import columns_of
from memae_tf.errors import UserError
from memae_tf.graphs import as_graph
from memae_tf.layers.record_featurizer import RecordFeaturizer
from memae_tf.models.memae import MemAE

# JAX has no 64-bit integers unless told to.
DECISION_DTYPE = "int32" if keras.backend.backend() == "jax" else "int64"


@keras.saving.register_keras_serializable(package="memae_tf")
class Detector(keras.Model):
    """Featurizer, MemAE, score and threshold: what is saved, exported and served.

    Called on raw input it answers, for every sample, `score` (float32), `is_anomaly` (int64, 1
    where the score exceeds the threshold) and `threshold` (float32), each (batch,).

    Example:

    >>> detector = load_detector("runs/kddcup/detector.keras")
    >>> detector.detect([{"duration": 0, "protocol_type": "tcp", ...}])
    {'score': array([0.31], dtype=float32), 'is_anomaly': array([0]), 'threshold': ...}
    >>> detector.detect(records, threshold=2.5, explain=True)["field_error"].shape
    (1, 41)

    Args:
        featurizer: Layer from raw input to what the model takes; for records an adapted
            `RecordFeaturizer`, whose docstring says what unseen, missing and extreme values mean.
        model: A built `MemAE`.
        threshold: Float; scores above it are anomalies.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1904.02639), section 3: the score is the
          reconstruction error
    """

    def __init__(self, featurizer: RecordFeaturizer, model: MemAE, threshold: float, **kwargs):
        super().__init__(**kwargs)
        # As in RecordFeaturizer: strings pass as they are, and XLA has no hash tables.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.supports_jit = False
        self.featurizer = featurizer
        self.model = model
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(float(threshold)),
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.built = True

    def call(self, records, threshold=None):
        """Scores and decisions; a `threshold` (scalar, or one value a sample) replaces the own."""
        features = self.featurizer(records)
        score = self.model.sample_error(features, self.model(features, training=False))
        return self.decide(score, threshold)

    def explain(self, records, threshold=None):
        """What `call` gives, and `field_error` (batch, fields): the share of each field in the
        squared error, in the order of `field_names`."""
        features = self.featurizer(records)
        reconstruction = self.model(features, training=False)
        error = self.model.element_error(features, reconstruction)
        decision = self.decide(self.model.sample_error(features, reconstruction), threshold)
        return {**decision, "field_error": self.featurizer.field_errors(error)}

    def decide(self, score, threshold=None):
        """`score`, `is_anomaly` and `threshold` of scores (batch,), as `call` gives them."""
        threshold = ops.convert_to_tensor(self.threshold if threshold is None else threshold)
        threshold = ops.cast(threshold, "float32") + ops.zeros_like(score)
        return {
            "score": score,
            "is_anomaly": ops.cast(score > threshold, DECISION_DTYPE),
            "threshold": threshold,
        }

    @property
    def field_names(self) -> list[str]:
        """The names of the fields that a record must have."""
        return self.featurizer.field_names

    def detect(
        self,
        records: Mapping[str, Iterable] | Iterable[Mapping],
        threshold: float | None = None,
        explain: bool = False,
        batch_size: int = 8192,
    ) -> dict[str, np.ndarray]:
        """Answers for any number of records, as NumPy arrays.

        Args:
            records: A dict of columns, a pandas DataFrame, an array with named fields, or a list of
                dicts. `None` and NaN are missing values; other fields than the detector's own are
                ignored.
            threshold: Replaces the detector's own.
            explain: Whether to add `field_error`.
            batch_size: Records a step.

        Returns:
            A dict of `score`, `is_anomaly`, `threshold` (records,) and, where asked for,
            `field_error` (records, fields).

        Raises:
            UserError: If a field is missing or a numeric one holds text.
        """
        columns = columns_of(records, self.featurizer.input_dtypes())
        answer = self._graph(explain)
        total = len(columns[self.field_names[0]])
        if total == 0:
            # Reductions have no answer for no records: score an empty one and leave it out.
            nothing = self.detect([{}], threshold, explain)
            return {name: values[:0] for name, values in nothing.items()}
        threshold = self.threshold if threshold is None else threshold
        batches = []
        for start in range(0, total, batch_size):
            batch = {name: column[start : start + batch_size] for name, column in columns.items()}
            batches.append(
                {k: ops.convert_to_numpy(v) for k, v in answer(batch, threshold).items()}
            )
        return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}

    def _graph(self, explain: bool):
        """`call` or `explain`, compiled where that is to be had."""
        # Kept outside Keras's tracking, as they refer to the detector.
        graphs = self.__dict__.setdefault("_graphs", {})
        if explain not in graphs:
            function = self.explain if explain else self
            graphs[explain] = as_graph(function, self.featurizer.input_dtypes())
        return graphs[explain]

    def score(self, records, batch_size: int = 8192) -> np.ndarray:
        """The anomaly scores of records, float32 (records,); see `detect`."""
        return self.detect(records, batch_size=batch_size)["score"]

    def get_config(self):
        return {
            **super().get_config(),
            "featurizer": keras.saving.serialize_keras_object(self.featurizer),
            "model": keras.saving.serialize_keras_object(self.model),
            "threshold": float(ops.convert_to_numpy(self.threshold)),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for part in ("featurizer", "model"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)


def load_detector(path: str | Path) -> Detector:
    """Loads a `detector.keras`.

    Raises:
        UserError: If the file is missing, cut short, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such detector")
    try:
        detector = keras.saving.load_model(path)
    except Exception as error:  # Keras raises whatever its reader met: zip, JSON, HDF5, ...
        raise UserError(f"{path}: cannot be read as a detector ({error})") from error
    if not isinstance(detector, Detector):
        raise UserError(f"{path}: holds a {type(detector).__name__}, not a Detector")
    return detector
