"""MemAE for tables, as an estimator of scikit-learn."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pydantic
from pandas.api import types
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from memae_tf.columns import word
from memae_tf.config import DenseModel, MemoryConfig, TrainingConfig
from memae_tf.config.section import Section
from memae_tf.data.dataset import Dataset
from memae_tf.evaluation.thresholds import top_ratio
from memae_tf.layers import RecordFeaturizer
from memae_tf.training.experiment import fit, require_finite


class OutlierDetector(OutlierMixin, BaseEstimator):
    """A memory-augmented autoencoder of tables, with the verbs of scikit-learn's outlier detectors.

    It learns what most samples look like; what it cannot rebuild from that is an outlier. Arrays
    are numeric. Of a pandas DataFrame, columns of numbers and booleans are numeric, and all others
    categorical, with at most 256 categories each. `RecordFeaturizer` says what missing values (NaN)
    mean, and categories that were not there in training. Needs the TensorFlow backend of Keras.

    Example:

    >>> from memae_tf import OutlierDetector
    >>> detector = OutlierDetector(contamination=0.05, random_state=0).fit(X)
    >>> detector.predict(X_new)  # 1 for inliers, -1 for outliers
    >>> detector.detector_.save("detector.keras")  # for `python -m memae_tf.score`, `export`, ...

    Args:
        variant: `"memae"`; `"memae-nonspar"`, no slot is cut; `"ae"`, without a memory.
        hidden: Units of the encoder's hidden layers; the decoder has the same, mirrored.
        code: Units of the encoding.
        activation: Of the hidden layers: `"tanh"`, `"relu"`, `"gelu"`, `"elu"` or `"silu"`.
        num_slots, similarity, scale, shrink, entropy_weight: Of the memory, see `MemoryUnit`.
        scaling, clip: Of numeric columns, see `RecordFeaturizer`. `"log"` suits counts and sizes
            with long tails.
        epochs: Passes over the training samples.
        batch_size: Samples of a step.
        learning_rate: Of Adam.
        contamination: Float in (0, 0.5], the share of the training samples that `predict` calls
            outliers. It sets `offset_` alone.
        random_state: Of the initial weights and the order of samples. `None` is another one each
            time, drawn from NumPy's.

    Attributes:
        detector_: `Detector`, of records with the columns' names ("x0", "x1", ... for arrays): its
            `detect(..., explain=True)` says which columns are to blame.
        history_: An entry with `loss`, `reconstruction`, `penalty`, `seconds`, ... for each epoch.
        offset_: Minus the detector's threshold: `decision_function` is `score_samples - offset_`.
        n_features_in_: Number of columns.
        feature_names_in_: Their names, where all of them are strings.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1904.02639), sections 3 and 4.3
    """

    def __init__(
        self,
        *,
        variant="memae",
        hidden=(60, 30, 10),
        code=3,
        activation="tanh",
        num_slots=50,
        similarity="cosine",
        scale=None,
        shrink=1.0,
        entropy_weight=0.0002,
        scaling="standard",
        clip=10.0,
        epochs=50,
        batch_size=128,
        learning_rate=0.001,
        contamination=0.01,
        random_state=None,
    ):
        self.variant = variant
        self.hidden = hidden
        self.code = code
        self.activation = activation
        self.num_slots = num_slots
        self.similarity = similarity
        self.scale = scale
        self.shrink = shrink
        self.entropy_weight = entropy_weight
        self.scaling = scaling
        self.clip = clip
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X, y=None):  # noqa: N803
        """Learns from samples, a few outliers among them.

        Args:
            X: Array (samples, features) or DataFrame.
            y: Ignored, by convention.

        Returns:
            The estimator.

        Raises:
            ValueError: If `X` or an argument is at fault.
            TrainingDivergedError: A ValueError, if the loss becomes NaN.
        """
        architecture, training = self._sections()
        columns = self._columns(X, reset=True)
        numeric = [name for name, column in columns.items() if column.dtype != object]
        featurizer = RecordFeaturizer(
            numeric=numeric,
            categorical=[name for name in columns if name not in numeric],
            scaling=self.scaling,
            clip=self.clip,
        )
        featurizer.adapt(columns)
        train = featurizer.as_input(columns)
        dataset = Dataset(
            name="samples",
            protocol="none",
            simulated=False,
            featurizer=featurizer,
            train=train,
            test=None,
            labels=None,
            threshold="train_quantile",
        )
        with _own_randomness():
            self.detector_, self.history_ = fit(architecture, training, dataset)
        scores = self.detector_.score(train)
        require_finite(scores, training)
        self.detector_.threshold = top_ratio(scores, self.contamination)
        self.offset_ = -float(self.detector_.threshold.numpy())
        return self

    def score_samples(self, X):  # noqa: N803
        """Minus the anomaly scores: the lower, the less normal.

        Args:
            X: Array (samples, features) or DataFrame.

        Returns:
            Float64 array (samples,), computed in float32.
        """
        check_is_fitted(self)
        return -self.detector_.score(self._columns(X, reset=False)).astype("float64")

    def decision_function(self, X):  # noqa: N803
        """`score_samples` less `offset_`: negative for outliers, float64 (samples,)."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):  # noqa: N803
        """1 for inliers, -1 for outliers, int64 (samples,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def _sections(self) -> tuple[DenseModel, TrainingConfig]:
        """The arguments as sections of a configuration."""
        contamination = self.contamination
        if not isinstance(contamination, (int, float)) or not 0 < contamination <= 0.5:
            raise ValueError(
                "`contamination` must be a number in (0, 0.5]. "
                f"Received: contamination={contamination!r}"
            )
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        memory = self._section(MemoryConfig)
        architecture = self._section(DenseModel, name="dense", memory=memory)
        return architecture, self._section(TrainingConfig, seed=seed)

    def _section(self, schema: type[Section], **others) -> Section:
        """A section of those of its keys that are arguments here, and of `others`.

        Raises:
            ValueError: If a value does not fit, naming it.
        """
        given = self.get_params(deep=False)
        values = {key: _plain(given[key]) for key in schema.model_fields if key in given}
        try:
            return schema(**values, **others)
        except pydantic.ValidationError as error:
            problem = error.errors()[0]
            name, message = problem["loc"][0], problem["msg"]
            message = message[:1].lower() + message[1:]
            raise ValueError(f"`{name}`: {message}. Received: {name}={values[name]!r}") from None

    def _columns(self, X, reset: bool) -> dict[str, np.ndarray]:  # noqa: N803
        """Columns of float64 and, of a DataFrame, of objects of str, by name.

        Args:
            X: What a user has.
            reset: Whether to learn number and names of the columns, or to compare with them.
        """
        if isinstance(X, pd.DataFrame) and not all(map(types.is_numeric_dtype, X.dtypes)):
            validate_data(self, X, reset=reset, skip_check_array=True)
            columns = _columns_of(X)
        else:
            columns = validate_data(
                self, X, reset=reset, dtype="float64", ensure_all_finite="allow-nan"
            ).T
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(len(columns))])
        return dict(zip(names, columns, strict=True))


def _plain(value):
    """A parameter as Python has it, also where a search draws it from NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def _columns_of(table: pd.DataFrame) -> list[np.ndarray]:
    """Numbers as float64, everything else as words.

    Raises:
        ValueError: If a column holds times or infinite numbers, or there are no rows.
    """
    if not len(table):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    columns = []
    for name, column in table.items():
        if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
            raise ValueError(
                f"Column '{name}' holds times, of which every one is new: turn it into what should "
                f"count, such as the hour, or leave it out. Received: dtype={column.dtype}"
            )
        if types.is_numeric_dtype(column):
            columns.append(column.to_numpy(dtype="float64", na_value=np.nan))
            if np.isinf(columns[-1]).any():
                raise ValueError(f"Column '{name}' contains infinity.")
        else:
            columns.append(np.array([word(value) for value in column], dtype=object))
    return columns


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """Leaves Python's and NumPy's generators as they were: the training seeds them for itself."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
