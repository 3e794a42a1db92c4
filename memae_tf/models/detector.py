"""A detector: everything between raw input and a decision, in one Keras model."""

import json
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from memae_tf.backend import Untracked, as_graph
from memae_tf.errors import UserError
from memae_tf.layers import ClipFeaturizer, Featurizer
from memae_tf.layers.arguments import positive_integer
from memae_tf.models.memae import MemAE
from memae_tf.models.precision import in_precision
from memae_tf.precision import Precision
from memae_tf.threshold import as_threshold

# JAX has 64-bit integers only if it is configured to.
DECISION_DTYPE = "int32" if keras.backend.backend() == "jax" else "int64"
# Characters that are quoted of Keras's message about a file that it cannot load.
MAX_QUOTED = 300


@keras.saving.register_keras_serializable(package="memae_tf")
class Detector(keras.Model):
    """Featurizer, MemAE, score and threshold: what is saved, exported and served.

    It goes from raw input to scores and decisions. `detect` takes what a user has (a DataFrame, a
    list of images, ...) and gives NumPy arrays; as a Keras model, it takes and gives tensors.

    Examples:
        >>> detector = load_detector("runs/kddcup/detector.keras")
        >>> detector.detect([{"duration": 0, "protocol_type": "tcp", ...}])
        {'score': array([0.31], dtype=float32), 'is_anomaly': array([0]), 'threshold': ...}
        >>> detector.detect(records, threshold=2.5, explain=True)["field_error"].shape
        (1, 41)
        >>> detector = load_detector("runs/mnist/detector.keras")
        >>> detector.detect(images, explain=True)["heat_map"].shape
        (500, 28, 28)
        >>> detector = load_detector("runs/ped2/detector.keras")
        >>> detector.detect(clips)["frame_score"].shape
        (40, 16)

    Args:
        featurizer: Layer from raw input to what the model takes; for records an adapted
            `RecordFeaturizer`, whose docstring says what unseen, missing and extreme values mean;
            for images an `ImageFeaturizer`, for clips a `ClipFeaturizer`.
        model: A built `MemAE`.
        threshold: Float; scores above it are anomalies.

    Input shape:
        What the featurizer takes.

    Output shape:
        A dict of `score` (float32), `is_anomaly` (int64, on JAX int32; 1 where the score exceeds
        the threshold) and `threshold` (float32), each `(batch,)`. For clips also `frame_score`,
        float32 `(batch, frames)`, to which the threshold applies as well.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1904.02639), section 3: the score is the
          reconstruction error
    """

    def __init__(
        self,
        featurizer: Featurizer,
        model: MemAE,
        threshold: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(featurizer, Featurizer) or not isinstance(model, MemAE):
            raise ValueError(
                "The order is Detector(featurizer, model, threshold), with a featurizer of this "
                f"package and a MemAE. Received: featurizer={featurizer}, model={model}"
            )
        # As in RecordFeaturizer: strings are not converted to tensors, and XLA has no hash tables.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        self.supports_jit = False
        self.featurizer = featurizer
        self.model = model
        self._threshold = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(as_threshold(threshold)),
            dtype="float32",
            trainable=False,
            autocast=False,
        )
        self.built = True

    def call(self, x, threshold=None):
        """Scores and decisions; a `threshold` (scalar, or one a sample) replaces the own one."""
        return self.score_features(self.featurizer(x), threshold)

    def explain(self, x, threshold=None):
        """What `call` gives, and the parts of each sample that its squared error is made of.

        For records `field_error` (batch, fields), the part of each field, in the order of
        `field_names`. For images `heat_map` (batch, height, width), the part of each pixel, at the
        size at which the model sees them; for clips `heat_map` (batch, frames, height, width). All
        are float32.
        """
        return self.explain_features(self.featurizer(x), threshold)

    def score_features(self, features, threshold=None):
        """What `call` gives, from features: the outputs of the featurizer."""
        return self._judge(features, self.model(features, training=False), threshold)

    def explain_features(self, features, threshold=None):
        """What `explain` gives, from features: the outputs of the featurizer."""
        reconstruction = self.model(features, training=False)
        error = self.model.element_error(features, reconstruction)
        answer = self._judge(features, reconstruction, threshold)
        return {**answer, **self.featurizer.explain(error)}

    def _judge(self, features, reconstruction, threshold):
        """Scores and decisions; for clips also the scores of frames, whose mean is the clip's."""
        if not isinstance(self.featurizer, ClipFeaturizer):
            return self.decide(self.model.sample_error(features, reconstruction), threshold)
        error = self.featurizer.frame_scoring.error
        frame_score = self.model.frame_error(features, reconstruction, error)
        answer = self.decide(ops.mean(frame_score, axis=1), threshold)
        return {**answer, "frame_score": frame_score}

    def decide(self, score, threshold=None):
        """The decisions on scores (batch,): `score`, `is_anomaly` and `threshold` as in `call`."""
        threshold = ops.convert_to_tensor(self.threshold if threshold is None else threshold)
        threshold = ops.cast(threshold, "float32") + ops.zeros_like(score)
        return {
            "score": score,
            "is_anomaly": ops.cast(score > threshold, DECISION_DTYPE),
            "threshold": threshold,
        }

    @property
    def threshold(self) -> keras.Variable:
        """Scores above it are anomalies: a float32 scalar, to which a number may be assigned."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._threshold.assign(_number(value))

    @property
    def field_names(self) -> list[str]:
        """The names of the fields that a record must have."""
        return self.featurizer.field_names

    def detect(
        self,
        x,
        threshold: float | None = None,
        explain: bool = False,
        batch_size: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores and decisions for any number of samples, as NumPy arrays.

        Args:
            x: Records: a dict of columns, a DataFrame of pandas or polars, a table of pyarrow, an
                array with named fields, or a list of dicts; `None` and NaN are missing values,
                other fields than the detector's own are ignored. Images: a uint8 array (images,
                height, width[, channels]), or a list of arrays (height, width[, channels]) of any
                sizes. Clips: a uint8 array (clips, frames, height, width[, channels]), or a list
                of arrays (frames, height, width[, channels]) of any sizes.
            threshold: Replaces the detector's own.
            explain: Whether to add `field_error` or `heat_map`.
            batch_size: Samples in a batch; `None` is what suits the kind of input.

        Returns:
            A dict of `score`, `is_anomaly`, `threshold` (samples,) and, where asked for,
            `field_error` (records, fields) or `heat_map` (images, height, width), of the size at
            which the model sees images. Of clips also `frame_score` (clips, frames), whose mean is
            the clip's score; their `heat_map` is (clips, frames, height, width).

        Raises:
            UserError: If a field is missing, a numeric one holds text, or `threshold` is not a
                number.
            ValueError: If `x` has something that is no image or clip, or `batch_size` is not a
                positive integer.
        """
        threshold = self.threshold if threshold is None else _number(threshold)
        if batch_size is None:
            batch_size = self.featurizer.batch_size
        batch_size = positive_integer("batch_size", batch_size)
        x = self.featurizer.as_input(x)
        total = self.featurizer.count(x)
        if total == 0:
            # The graphs need a sample: score an empty one, and drop it.
            nothing = self.detect(self.featurizer.empty(), threshold, explain)
            return {name: values[:0] for name, values in nothing.items()}
        answers: dict[str, np.ndarray] = {}
        for places, batch in self.featurizer.batches(x, batch_size):
            for name, value in self._graph(explain, batch)(batch, threshold).items():
                value = ops.convert_to_numpy(value)
                whole = (total, *value.shape[1:])
                answers.setdefault(name, np.empty(whole, value.dtype))[places] = value
        return answers

    def _graph(self, explain: bool, batch):
        """`call` or `explain`, as a compiled graph on backends that have those."""
        graphs = self.__dict__.setdefault("_graphs", Untracked()).values
        specs = self.featurizer.input_specs(batch)
        key = explain, str(specs), self.model.revision
        if key not in graphs:
            graphs[key] = as_graph(self.explain if explain else self, specs)
        return graphs[key]

    def in_precision(self, precision: Precision) -> "Detector":
        """The same detector, whose model computes in another precision.

        For instance in float32 on a CPU what was trained in 16 bits on a GPU, or in bfloat16 on a
        processor that is faster with it. Weights and threshold stay as they are. Rounding changes
        scores, those of most samples by a percent or two, so look at the threshold again.

        Args:
            precision: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.

        Raises:
            ValueError: If `precision` is another one.
            UserError: If a layer is quantized.
        """
        model = in_precision(self.model, precision, self.featurizer.feature_shape)
        return Detector(self.featurizer, model, float(ops.convert_to_numpy(self.threshold)))

    def quantize(self, *args, **kwargs):
        """Quantizes the model, as `keras.Model.quantize` does; raw input is encoded as before."""
        self.model.quantize(*args, **kwargs)
        # Keras resets these of the inner model alone.
        self.predict_function = self.test_function = None

    def score(self, x, batch_size: int | None = None) -> np.ndarray:
        """The anomaly scores of samples, float32 (samples,); see `detect`."""
        return self.detect(x, batch_size=batch_size)["score"]

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


def _number(threshold: object) -> float | keras.Variable:
    """A threshold as a float; a detector's own one stays the variable that it is."""
    return threshold if isinstance(threshold, keras.Variable) else as_threshold(threshold)


def load_detector(path: str | Path) -> Detector:
    """Loads a `detector.keras`.

    Args:
        path: The file, or the directory of a run.

    Raises:
        UserError: If the file is missing, cut short, or holds something else.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "detector.keras"
    if not path.is_file():
        raise UserError(f"{path}: there is no such detector")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: is not a detector (a .keras file), or is cut off")
    try:
        detector = keras.saving.load_model(path)
    except Exception as error:  # Keras raises whatever its reader met: zip, JSON, HDF5, ...
        raise UserError(f"{path}: cannot be read as a detector ({_why(path, error)})") from error
    if not isinstance(detector, Detector):
        raise UserError(f"{path}: holds a {type(detector).__name__}, not a Detector")
    return detector


def _why(path: Path, error: Exception) -> str:
    """Why Keras cannot load a file: a newer version saved it, or what Keras says, cut short."""
    try:
        with zipfile.ZipFile(path) as archive:
            version = json.loads(archive.read("metadata.json"))["keras_version"]
        if _release(version) > _release(keras.__version__):
            return f"it was saved by Keras {version}, and this is {keras.__version__}"
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        pass
    # The inner error, without the whole configuration that Keras puts in front of it.
    return str(error).rpartition("Exception encountered: ")[2][:MAX_QUOTED]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
