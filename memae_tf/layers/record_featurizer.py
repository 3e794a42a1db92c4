"""Records of named fields to feature vectors, as a Keras layer."""

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import keras
import numpy as np
from keras import ops

from memae_tf.columns import columns_of, word
from memae_tf.layers.arguments import is_number, positive_integer

SCALINGS = ("log", "standard", "minmax")
# What `inverse` gives for a field without a category; to `call` it is an unseen category.
NO_CATEGORY = "(none)"
BATCH_SIZE = 8192
# Smallest spread in units of the largest number: several times the resolution of float32.
SMALLEST_SPREAD = 1e-6
# What varies by less than this is constant but for the rounding of float64.
ROUNDING = 1e-14
# Between these, float32 has all its digits, and differences and inverses stay finite.
SMALLEST_NUMBER = 1e-30
LARGEST_NUMBER = 4e37
# The look-ups' token for unseen categories; Keras's own, "[UNK]", may be a category in the data.
UNSEEN = "\0unseen"


@keras.saving.register_keras_serializable(package="memae_tf")
class RecordFeaturizer(keras.layers.Layer):
    """Turns records of named numeric and categorical fields into one float vector each.

    The features are the numeric fields, in their order, then a one-hot block for each categorical
    field. `adapt` learns scales and vocabularies; they are saved with the layer.

    - A **numeric** field is transformed (`scaling`), then clipped to [-clip, clip], so that no
      number, however far out of the range seen by `adapt`, gives more than `clip`; infinities
      become plus or minus `clip`. A missing number (NaN) becomes the field's mean feature.
      A field that was constant in `adapt` has scale 1. So has one that varies by less than float32
      resolves; where its numbers are so large that this is more than 1, it has that as its scale.
    - A **categorical** field has a 1 at its category. A category that `adapt` did not see, or a
      missing one (NaN; "" unless `adapt` saw it), gives all zeros.

    No input gives NaN.

    Examples:
        >>> records = {"bytes": np.array([0.0, 10.0, 1000.0]), "flag": np.array(["SF", "S0", "SF"])}
        >>> featurizer = RecordFeaturizer(numeric=["bytes"], categorical=["flag"])
        >>> featurizer.adapt(records)
        >>> featurizer(records).shape
        (3, 3)

    Args:
        numeric: Names of the numeric fields.
        categorical: Names of the categorical fields; or, as saved, a dict of name to vocabulary,
            a list of strings (the field's values are strings) or of numbers (they are numbers).
        scaling: Of the numeric fields: `"log"`, sign(x) * log(1 + |x|) and then a z-score, for
            counts and sizes with long tails; `"standard"`, a z-score; `"minmax"`, to [0, 1].
        clip: Positive float, the largest absolute value of a feature.
        max_categories: Largest size of a vocabulary; `adapt` keeps the most frequent categories
            and treats the others as unseen.

    Input shape:
        A dict of name to tensor (batch,) or (batch, 1): float32 for numeric fields and for
        categorical fields with numbers as categories, string for the others.

    Output shape:
        `(batch, num_features)`, float32.

    Raises:
        ValueError: If an argument is out of its range, the layer is used before `adapt`, or a field
            is missing from the input or has another shape.
    """

    def __init__(
        self,
        numeric: Sequence[str] = (),
        categorical: Sequence[str] | Mapping[str, list] = (),
        scaling: str = "log",
        clip: float = 10.0,
        max_categories: int = 256,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        if scaling not in SCALINGS:
            raise ValueError(f"`scaling` must be one of {SCALINGS}. Received: scaling={scaling}")
        if not (is_number(clip) and clip > 0):
            raise ValueError(f"`clip` must be a positive number. Received: clip={clip!r}")
        if isinstance(numeric, str) or isinstance(categorical, str):
            raise ValueError(
                "`numeric` and `categorical` must be lists of names. "
                f"Received: numeric={numeric!r}, categorical={categorical!r}"
            )
        self.numeric = list(numeric)
        if isinstance(categorical, Mapping):
            for name, words in categorical.items():
                if isinstance(words, str):
                    raise ValueError(
                        "`categorical` must have a list of categories for each name. "
                        f"Received: {name}={words!r}"
                    )
            self.categorical = {name: list(words) for name, words in categorical.items()}
        else:
            self.categorical = {name: None for name in categorical}
        names = self.field_names
        if not names or len(set(names)) != len(names):
            raise ValueError(
                "`numeric` and `categorical` must name one field or more, each once. "
                f"Received: numeric={self.numeric}, categorical={list(self.categorical)}"
            )
        self.scaling = scaling
        self.clip = clip
        self.max_categories = positive_integer("max_categories", max_categories)
        # JAX and PyTorch have no tensors of strings, so inputs reach `call` as they are.
        self._convert_input_args = False
        self._allow_non_tensor_positional_args = True
        # The string look-up is a TensorFlow hash table, which XLA cannot compile.
        self.supports_jit = False
        shape = (len(self.numeric),)
        # feature = (transformed value - offset) / spread; `missing` is the feature of a NaN.
        self.offset = self._statistic("offset", shape, "zeros")
        self.spread = self._statistic("spread", shape, "ones")
        self.missing = self._statistic("missing", shape, "zeros")
        self._make_lookups()
        self.built = True

    def _statistic(self, name, shape, initializer):
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype="float32", trainable=False
        )

    def _make_lookups(self):
        self.lookups = {
            name: keras.layers.StringLookup(
                vocabulary=vocabulary, num_oov_indices=1, oov_token=UNSEEN
            )
            for name, vocabulary in self.categorical.items()
            if self._is_text(name)
        }

    def _is_text(self, name: str) -> bool:
        """Whether the categories of an adapted field are strings."""
        vocabulary = self.categorical.get(name)
        return bool(vocabulary) and isinstance(vocabulary[0], str)

    @property
    def is_adapted(self) -> bool:
        """Whether the vocabularies are known: from `adapt`, or as they were given."""
        return all(vocabulary is not None for vocabulary in self.categorical.values())

    @property
    def field_names(self) -> list[str]:
        """The names of all fields, in the order of `field_errors`."""
        return [*self.numeric, *self.categorical]

    @property
    def feature_names(self) -> list[str]:
        """A name for every feature: the field, or `field=category`."""
        one_hot = [
            f"{name}={word if isinstance(word, str) else _digits(word)}"
            for name, words in self.categorical.items()
            for word in words
        ]
        return [*self.numeric, *one_hot]

    @property
    def num_features(self) -> int:
        """The length of a feature vector."""
        return len(self.numeric) + sum(len(words) for words in self.categorical.values())

    @property
    def feature_shape(self) -> tuple[int]:
        """The shape of one record as the model takes it."""
        return (self.num_features,)

    @property
    def batch_size(self) -> int:
        """The number of records in a batch, if nothing else is asked for."""
        return BATCH_SIZE

    def input_dtypes(self) -> dict[str, str]:
        """The dtype, "float32" or "string", of every field."""
        return {name: "string" if self._is_text(name) else "float32" for name in self.field_names}

    @property
    def coded_fields(self) -> list[str]:
        """The names of the categorical fields whose categories are numbers."""
        return [name for name in self.categorical if not self._is_text(name)]

    def adapt(self, records: Mapping[str, np.ndarray]) -> None:
        """Learns scales and vocabularies from training records.

        Args:
            records: A dict of name to array (rows,) or (rows, 1), as `call` takes it.

        Raises:
            ValueError: If a field is missing or has several values a row, or there are no rows.
        """
        self._require_fields(records)
        columns = {name: _as_column(name, np.asarray(records[name])) for name in self.field_names}
        if min(map(len, columns.values())) == 0:
            raise ValueError("`adapt` needs one record or more. Received: no records")
        self.categorical = {
            name: _vocabulary(columns[name], self.max_categories) for name in self.categorical
        }
        self._make_lookups()
        if self.numeric:
            measured = [self._measure(columns[name]) for name in self.numeric]
            *statistics, vanishing = zip(*measured, strict=True)
            variables = (self.offset, self.spread, self.missing)
            for variable, values in zip(variables, statistics, strict=True):
                variable.assign(np.array(values, "float32"))
            _warn_of_vanishing(itertools.compress(self.numeric, vanishing))

    def _measure(self, values: np.ndarray) -> tuple[float, float, float, bool]:
        """The offset, spread and mean feature of one numeric field, in float64.

        The last value is whether it varies by too little for float32, in which `call` computes;
        then it counts as constant.
        """
        values = values.astype("float64")
        values = values[np.isfinite(values)]
        if values.size == 0:
            return 0.0, 1.0, 0.0, False
        if self.scaling == "log":
            values = np.sign(values) * np.log1p(np.abs(values))
        if self.scaling == "minmax":
            offset, spread = values.min(), np.ptp(values)
        else:
            # Squares of numbers beyond float32's range may overflow float64.
            with np.errstate(over="ignore"):
                offset, spread = values.mean(), values.std()
        largest = np.abs(values).max()
        smallest = max(SMALLEST_SPREAD * largest, SMALLEST_NUMBER)
        is_constant = spread <= smallest
        vanishes = is_constant and spread > max(ROUNDING * largest, SMALLEST_NUMBER)
        if is_constant:
            spread = max(1.0, smallest)
        offset, spread = np.clip([offset, spread], -LARGEST_NUMBER, LARGEST_NUMBER)
        values = np.clip(values, -LARGEST_NUMBER, LARGEST_NUMBER)
        features = np.clip((values - offset) / spread, -self.clip, self.clip)
        return offset, spread, features.mean(), vanishes

    def call(self, records):
        self._require_fields(records)
        self._require_adapted()
        records = {name: _as_column(name, records[name]) for name in self.field_names}
        blocks = [self._numbers(records)] if self.numeric else []
        blocks += [self._one_hot(name, records[name]) for name in self.categorical]
        return ops.concatenate(blocks, axis=-1)

    def _numbers(self, records):
        x = ops.stack([ops.cast(records[name], "float32") for name in self.numeric], axis=-1)
        missing = ops.isnan(x)
        x = ops.where(missing, 0.0, x)
        if self.scaling == "log":
            x = ops.sign(x) * ops.log1p(ops.abs(x))
        x = ops.clip(x, -LARGEST_NUMBER, LARGEST_NUMBER)
        x = ops.clip((x - self.offset) / self.spread, -self.clip, self.clip)
        return ops.where(missing, ops.convert_to_tensor(self.missing), x)

    def _one_hot(self, name, values):
        vocabulary = self.categorical[name]
        if self._is_text(name):
            # The look-up gives 0 for an unseen category, and `one_hot` gives zeros for -1.
            index = ops.cast(self.lookups[name](_words(values)), "int32") - 1
            return ops.one_hot(index, len(vocabulary), dtype="float32")
        values = ops.expand_dims(ops.cast(values, "float32"), -1)
        return ops.cast(ops.equal(values, ops.array(vocabulary, dtype="float32")), "float32")

    # What a detector asks of a featurizer.

    def as_input(self, records: Mapping[str, Iterable] | Iterable[Mapping]) -> dict:
        """Records from a user as columns of the dtypes that the layer takes.

        Args:
            records: A dict of columns, a DataFrame of pandas or polars, a table of pyarrow, an
                array with named fields, or a list of dicts. `None` and NaN are missing values; so
                is text in a field whose categories are numbers. Other fields than the layer's own
                are left out.

        Raises:
            UserError: If a field is missing or a numeric one holds text.
            ValueError: If the layer is used before `adapt`, which takes columns as they are.
        """
        self._require_adapted()
        return columns_of(records, self.input_dtypes(), self.coded_fields)

    def count(self, records: Mapping[str, np.ndarray]) -> int:
        """The number of records in columns."""
        return len(records[self.field_names[0]])

    def batches(
        self, records: Mapping[str, np.ndarray], batch_size: int
    ) -> Iterator[tuple[slice, dict]]:
        """The records in batches, with their places among all records."""
        for start in range(0, self.count(records), batch_size):
            places = slice(start, start + batch_size)
            yield places, {name: column[places] for name, column in records.items()}

    def empty(self) -> dict[str, np.ndarray]:
        """One record without values, to find out what answers look like where there are none."""
        return self.as_input([{}])

    def input_specs(self, batch: Mapping[str, np.ndarray]) -> dict[str, keras.InputSpec]:
        """The shapes and dtypes that a graph for batches takes."""
        return {
            name: keras.InputSpec(dtype=dtype, shape=(None,))
            for name, dtype in self.input_dtypes().items()
        }

    def describe_features(self) -> dict:
        """What the features are, in JSON's types: the `feature_names`, in their order."""
        return {"feature_names": self.feature_names}

    def explain(self, feature_errors):
        """`field_error`, see `field_errors`."""
        return {"field_error": self.field_errors(feature_errors)}

    def field_errors(self, feature_errors):
        """Adds the errors of the features of each field.

        Args:
            feature_errors: Float tensor (batch, num_features).

        Returns:
            Float tensor (batch, fields), in the order of `field_names`.
        """
        sizes = [1] * len(self.numeric) + [len(words) for words in self.categorical.values()]
        membership = np.repeat(np.eye(len(sizes), dtype="float32"), sizes, axis=0)
        return ops.matmul(feature_errors, membership)

    def inverse(self, features) -> dict[str, np.ndarray]:
        """The records that features stand for: what a reconstruction or a slot looks like.

        Numeric fields come back in their original units, as far as clipping allows. Of a
        categorical field the category with the largest feature is taken; where no feature exceeds
        0.5, which is nearer to all zeros than to any category, it is "(none)", or NaN if the
        categories are numbers. `call` turns both into zeros again.

        Args:
            features: Float array (batch, num_features), as `call` gives it or a model rebuilds it.

        Returns:
            A dict of name to array (batch,), in the order of `field_names`: float32 for numeric
            fields and for categorical fields with numbers as categories, objects of str for the
            others.

        Raises:
            ValueError: If the layer is used before `adapt`, or the features are of another shape.
        """
        self._require_adapted()
        features = ops.convert_to_numpy(features).astype("float64")
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ValueError(
                f"`features` must be of shape (batch, {self.num_features}). "
                f"Received: features of shape {features.shape}"
            )
        records = dict(zip(self.numeric, self._inverse_numbers(features).T, strict=True))
        start = len(self.numeric)
        for name, words in self.categorical.items():
            records[name] = self._inverse_one_hot(name, features[:, start : start + len(words)])
            start += len(words)
        return records

    def _inverse_numbers(self, features: np.ndarray) -> np.ndarray:
        # A decoder may exceed the clip, which no record does.
        values = np.clip(features[:, : len(self.numeric)], -self.clip, self.clip)
        values = values * ops.convert_to_numpy(self.spread) + ops.convert_to_numpy(self.offset)
        # What exceeds float32 is infinite, and `call` clips that as it does any large number.
        with np.errstate(over="ignore"):
            if self.scaling == "log":
                values = np.sign(values) * np.expm1(np.abs(values))
            return values.astype("float32")

    def _inverse_one_hot(self, name: str, features: np.ndarray) -> np.ndarray:
        is_text = self._is_text(name)
        words = np.array(
            [NO_CATEGORY if is_text else np.nan, *self.categorical[name]],
            dtype=object if is_text else "float32",
        )
        none = np.full((len(features), 1), 0.5)
        return words[np.concatenate([none, features], axis=1).argmax(axis=1)]

    def _require_adapted(self):
        if not self.is_adapted:
            raise ValueError("RecordFeaturizer is used before `adapt`.")

    def _require_fields(self, records):
        absent = [name for name in self.field_names if name not in records]
        if absent:
            raise ValueError(
                f"The records lack the field(s) {absent}. Received: fields={sorted(records)}"
            )

    def compute_output_spec(self, records):
        batch = records[self.field_names[0]].shape[0]
        return keras.KerasTensor((batch, self.num_features), dtype="float32")

    def get_config(self):
        categorical = self.categorical if self.is_adapted else list(self.categorical)
        return {
            **super().get_config(),
            "numeric": self.numeric,
            "categorical": categorical,
            "scaling": self.scaling,
            "clip": self.clip,
            "max_categories": self.max_categories,
        }


def _warn_of_vanishing(names: Iterable[str]) -> None:
    listed = ", ".join(f"'{name}'" for name in names)
    if listed:
        warnings.warn(
            f"numeric fields that vary by less than float32 can tell count as constant: {listed}; "
            "subtract an offset, such as the smallest number",
            stacklevel=3,
        )


def _as_column(name: str, values):
    """The values (batch,) of a field that may have come as (batch, 1)."""
    shape = getattr(values, "shape", None)
    if shape is None or getattr(shape, "rank", 1) is None:
        # A list, or a tensor whose rank TensorFlow does not know until the graph runs.
        return values
    shape = tuple(shape)
    if len(shape) == 2 and shape[1] == 1:
        return values[:, 0]
    if len(shape) != 1:
        raise ValueError(
            f"The field '{name}' must be of shape (batch,) or (batch, 1). Received: shape={shape}"
        )
    return values


def _digits(number: float) -> str:
    """A category that is a number as text, with as many digits as float32 needs."""
    return np.format_float_positional(np.float32(number), trim="-")


def _words(values):
    """Texts as look-ups take them: missing ones in columns of NumPy or pandas become empty."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, np.ndarray) and values.dtype == object:
        return np.array([word(value) for value in values], dtype=object)
    return values


def _vocabulary(values: np.ndarray, limit: int) -> list:
    """The most frequent `limit` categories of a field, sorted; numbers stay numbers."""
    if values.dtype.kind in "biuf":
        cells = values[np.isfinite(values)].astype("float32").tolist()
    elif values.dtype == object:
        cells = map(word, values)
    else:
        cells = values.astype(str).tolist()
    counts = Counter(cells)
    # Sorting is stable: of equally frequent categories the first ones in their order are kept.
    frequent = sorted(sorted(counts), key=counts.get, reverse=True)[:limit]
    return sorted(frequent)
