"""MemAE for tables, as a scikit-learn estimator."""

import contextlib
import random
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pydantic
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from memae_tf.columns import as_pandas, word
from memae_tf.config import DenseModel, MemoryConfig, TrainingConfig
from memae_tf.config.data import RecordData
from memae_tf.config.section import Section
from memae_tf.data.dataset import Dataset
from memae_tf.data.kinds import check_categories, infer_kind, is_boolean
from memae_tf.evaluation.thresholds import top_ratio
from memae_tf.layers import RecordFeaturizer
from memae_tf.tables import as_numbers
from memae_tf.training.fit import fit, require_finite
from memae_tf.training.loop import TrainingDivergedError
from memae_tf.training.run_metrics import memory_health, some_features
from memae_tf.training.strategy import local_strategy
from memae_tf.training.training_health import diagnose_training

# Initial weights are drawn from Python's random generator, which all threads share.
DRAWING = threading.Lock()


class OutlierDetector(OutlierMixin, BaseEstimator):
    """A memory-augmented autoencoder for tables, with the API of scikit-learn's outlier detectors.

    It learns what most samples look like; what it cannot rebuild from that is an outlier. Arrays
    are numeric. In a DataFrame (one of polars, or a table of pyarrow, is converted to pandas),
    columns of numbers are numeric, columns of text and booleans categorical, and so is any column
    with the dtype `category`. For missing values (NaN) and categories that did not occur in
    training, see `RecordFeaturizer`. It trains on the machine's GPUs or CPU, on Keras's TensorFlow
    backend; fits in several threads run one by one.

    Examples:
        >>> from memae_tf import OutlierDetector
        >>> detector = OutlierDetector(contamination=0.05, random_state=0).fit(X)
        >>> detector.predict(X_new)  # 1 for inliers, -1 for outliers
        >>> detector.detector_.save("detector.keras")  # for the commands `score`, `export`

    Args:
        variant: `"memae"`; `"memae-nonspar"`, without shrinkage; or `"ae"`, without a memory.
        hidden: Units of the encoder's hidden layers; the decoder has the same, mirrored.
        code: Units of the encoding.
        activation: Activation of the hidden layers: `"tanh"`, `"relu"`, `"gelu"`, `"elu"` or
            `"silu"`.
        num_slots, similarity, scale, shrink, entropy_weight: Arguments of the memory, see
            `MemoryUnit`.
        scaling, clip: Scaling of numeric columns, see `RecordFeaturizer`. `"log"` suits counts and
            sizes with long tails.
        epochs: Passes over the training samples.
        batch_size: Samples in a training step.
        learning_rate: Learning rate of Adam.
        contamination: Float in (0, 0.5], the share of the training samples that `predict` calls
            outliers. Only `offset_` depends on it.
        random_state: Seed or `RandomState` for the initial weights and the order of samples. `None`
            draws another seed in each fit, from NumPy's global generator.

    Attributes:
        detector_: The `Detector`, for records with the columns' names ("x0", "x1", ... for arrays);
            its `detect(..., explain=True)` gives the error of each column.
        history_: A list with `loss`, `reconstruction`, `penalty`, `seconds`, ... of each epoch.
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

    def fit(self, X: Any, y: Any = None) -> "OutlierDetector":  # noqa: N803
        """Learns from samples, among which there may be a few outliers.

        Gives a `ConvergenceWarning` if the training or the memory has failed.

        Args:
            X: Array (samples, features) or DataFrame.
            y: Ignored, by convention.

        Returns:
            The estimator.

        Raises:
            ValueError: If `X` or an argument is not valid; if training diverges.
        """
        architecture, training, numbers = self._sections()
        columns = self._columns(X, reset=True)
        kinds = {name: _kind(column) for name, column in columns.items()}
        check_categories(
            [columns[name] for name, kind in kinds.items() if kind == "categorical"],
            "X",
            lambda _: "leave them out, or make their dtype `category`",
        )
        featurizer = RecordFeaturizer(
            numeric=[name for name, kind in kinds.items() if kind == "numeric"],
            categorical=[name for name, kind in kinds.items() if kind == "categorical"],
            scaling=numbers.scaling,
            clip=numbers.clip,
        )
        featurizer.adapt({name: _cells(column, kinds[name]) for name, column in columns.items()})
        train = self._records(featurizer, columns)
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
        try:
            with _drawing_from(training.seed):
                self.detector_, self.history_ = fit(
                    architecture, training, dataset, strategy=local_strategy()
                )
            scores = self.detector_.score(train)
            require_finite(scores, training)
        except TrainingDivergedError:
            raise TrainingDivergedError(
                "training diverged: `learning_rate` should be smaller. "
                f"Received: learning_rate={self.learning_rate}"
            ) from None
        self.detector_.threshold = top_ratio(scores, self.contamination)
        self.offset_ = -float(self.detector_.threshold.numpy())
        self._warn_of_failures(dataset, training)
        return self

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """The negative anomaly scores: lower scores are less normal.

        Args:
            X: Array (samples, features) or DataFrame.

        Returns:
            Float64 array (samples,), computed in float32.
        """
        check_is_fitted(self, "detector_")
        columns = self._columns(X, reset=False)
        records = self._records(self.detector_.featurizer, columns)
        return -self.detector_.score(records).astype("float64")

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """`score_samples` minus `offset_`: negative for outliers, float64 (samples,)."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """1 for inliers, -1 for outliers, int64 (samples,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def _sections(self) -> tuple[DenseModel, TrainingConfig, RecordData]:
        """The arguments as sections of a configuration."""
        contamination = _plain(self.contamination)
        if not isinstance(contamination, (int, float)) or not 0 < contamination <= 0.5:
            raise ValueError(
                "`contamination` must be a number in (0, 0.5]. "
                f"Received: contamination={self.contamination!r}"
            )
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        memory = self._section(MemoryConfig)
        if self.variant == "memae" and memory.shrink >= memory.num_slots:
            raise ValueError(
                "`shrink` is in units of 1/num_slots and must be less than `num_slots`. "
                f"Received: shrink={memory.shrink}, num_slots={memory.num_slots}"
            )
        architecture = self._section(DenseModel, name="dense", memory=memory)
        return architecture, self._section(TrainingConfig, seed=seed), self._section(RecordData)

    def _section(self, schema: type[Section], **others) -> Section:
        """A section made from the arguments that are keys of it, and from `others`.

        Raises:
            ValueError: If a value does not fit, naming the argument.
        """
        given = self.get_params(deep=False)
        values = {key: _plain(given[key]) for key in schema.model_fields if key in given}
        try:
            return schema(**values, **others)
        except pydantic.ValidationError as error:
            name = error.errors()[0]["loc"][0]
            # There is a problem for each type that the value may have.
            message = ", or ".join(_said(p) for p in error.errors() if p["loc"][0] == name)
            raise ValueError(f"`{name}`: {message}. Received: {name}={values[name]!r}") from None

    def _warn_of_failures(self, dataset: Dataset, training: TrainingConfig) -> None:
        """Warns of a training or a memory that is of no use although all numbers are finite."""
        model, batch_size = self.detector_.model, dataset.featurizer.batch_size
        features = some_features(model, dataset)
        problems = [diagnose_training(model, features, self.history_, training, batch_size)]
        if model.memory is not None:
            problems.append(memory_health(model, features, batch_size)["diagnosis"])
        for problem in filter(None, problems):
            # What are keys of a configuration elsewhere are arguments here.
            told = re.sub(r"\b(training|model\.memory)\.", "", problem)
            warnings.warn(told, ConvergenceWarning, stacklevel=3)

    def _columns(self, X: Any, reset: bool) -> Mapping[str, np.ndarray | pd.Series]:  # noqa: N803
        """The columns by name: those of a DataFrame as they are, those of an array in float64.

        Args:
            X: Array or DataFrame.
            reset: Whether to set number and names of the columns, or to check them.
        """
        X = as_pandas(X)  # noqa: N806
        if isinstance(X, pd.DataFrame):
            if not X.columns.is_unique:
                repeated = X.columns[X.columns.duplicated()][0]
                raise ValueError(f"Names of columns must differ. Received: {repeated!r} twice")
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X):
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
            if not len(X.columns):
                raise ValueError("Found array with 0 feature(s) while a minimum of 1 is required.")
            columns = [_dense(column) for _, column in X.items()]
        else:
            columns = validate_data(
                self, X, reset=reset, dtype="float64", ensure_all_finite="allow-nan"
            ).T
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(len(columns))])
        return dict(zip(names, columns, strict=True))

    def _records(self, featurizer: RecordFeaturizer, columns: Mapping) -> dict[str, np.ndarray]:
        """Columns in the dtypes that the detector takes.

        Raises:
            ValueError: If a numeric column holds text or infinite numbers.
        """
        records = featurizer.as_input(columns)
        for name in featurizer.numeric:
            if np.isinf(_numbers(columns[name])).any():
                raise ValueError(f"Column '{name}' contains infinity.")
        return records


def _dense(column: pd.Series) -> pd.Series:
    """A column without pandas's sparse dtype."""
    return column.sparse.to_dense() if isinstance(column.dtype, pd.SparseDtype) else column


def _plain(value: Any) -> Any:
    """A parameter as a Python value; searches may set NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def _said(problem: Mapping[str, Any]) -> str:
    """The text of pydantic's problem, but not of our own validator's, which speaks of YAML."""
    text = "input should be a number" if problem["type"] == "value_error" else problem["msg"]
    return text[:1].lower() + text[1:]


def _kind(column: np.ndarray | pd.Series) -> str:
    """The kind of a column: "numeric" or "categorical".

    Raises:
        UserError: If it cannot be a feature, see `infer_kind`.
    """
    if isinstance(column, np.ndarray):
        return "numeric"
    return infer_kind(column, "X", "leave it out", "make its dtype `category`")


def _cells(column: np.ndarray | pd.Series, kind: str) -> np.ndarray:
    """A column for `RecordFeaturizer.adapt`: float64, or objects of str."""
    if kind == "numeric" or is_boolean(column):
        return _numbers(column)
    return np.array([word(value) for value in column], dtype=object)


def _numbers(column: np.ndarray | pd.Series) -> np.ndarray:
    """Numbers and booleans as float64, NaN where they are missing."""
    return as_numbers(pd.Series(column)).to_numpy(dtype="float64", na_value=np.nan)


@contextlib.contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seeds Python's random generator, and restores its state at the end."""
    with DRAWING:
        state = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
