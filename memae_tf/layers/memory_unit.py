"""The memory of a MemAE as a Keras layer."""

import math
from numbers import Integral
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from memae_tf.layers.arguments import is_number, positive_integer

# Least value to divide by or take the root of, as 0 would give NaN values or gradients.
EPSILON = 1e-12

# How many addressing weights inference computes at a time: 8 MB, which fit into a CPU's caches.
BLOCK = 2**21

SIMILARITIES = ("cosine", "dot")
FALLBACKS = ("softmax", "zero")


class _Slots(NamedTuple):
    """The memory in the compute dtype.

    Attributes:
        keys: (C, N); the product of scaled queries and keys gives the logits.
        values: (N, C), what queries read.
    """

    keys: Any
    values: Any


@keras.saving.register_keras_serializable(package="memae_tf")
class MemoryUnit(keras.layers.Layer):
    """Replaces each query by a sparse convex combination of learned slots.

    The layer holds `num_slots` prototypes of normal encodings. A query `z` addresses them by
    similarity, small addressing weights are cut to zero, and the read is the weighted sum of the
    slots that are left:

        w = softmax(scale * similarity(z, m_i))        over the N slots
        v = w where w > shrink / N, else 0             hard shrinkage
        v = v / sum(v)
        read = v @ M

    What the paper writes as `max(w - l, 0) * w / (|w - l| + eps)` (section 3.3.2, equation 7) is
    the thresholding above, up to `eps`; written as a threshold it has the same gradient without
    the spike that `eps` makes next to `w = l`.

    `entropy_weight` times the mean entropy of `v` over all queries is added to the losses, which
    drives the addressing towards few slots (section 3.3.2).

    Under mixed precision the products of queries and slots are computed in half precision, which
    changes weights by a few percent; softmax, shrinkage, entropy and the normalisation of reads are
    in float32, as they are under float64. A mask is passed on; the entropy is the mean over all
    queries, masked ones included.

    Inference takes the queries block by block, so that its memory grows with the number of slots
    or that of queries, not with their product: 100,000 slots are fine. Training and
    `return_addressing=True` hold the weights of all queries at once.

    Examples:
        >>> memory = MemoryUnit(num_slots=50, scale=10.0)
        >>> queries = np.random.normal(size=(32, 3)).astype("float32")
        >>> memory(queries).shape
        (32, 3)
        >>> read, addressing = memory(queries, return_addressing=True)
        >>> addressing.shape
        (32, 50)

    Args:
        num_slots: Integer, the number of slots N.
        similarity: `"cosine"`, as in the paper, or `"dot"`, as in its authors' code. The cosine is
            right for vectors with norms from 1e-6 to 1e19. For shorter ones it falls to 0 with the
            norm; for longer ones, whose squares overflow float32, it is 0.
        scale: Factor on the similarity (an inverse temperature): a positive float; `"learned"`
            for a trainable scale that starts at the default; or `None` for the default, 10 with
            cosine and 1 with dot. In the paper it is 1, with which the softmax of a cosine is
            nearly flat: with many slots hardly any weight exceeds 1.3/N, and a threshold of 2/N
            cuts all of them.
        shrink: Non-negative float, the shrinkage threshold in units of 1/N. The paper recommends
            1 to 3. 0 switches shrinkage off ("MemAE-nonSpar").
        entropy_weight: Non-negative float, the weight of the entropy loss (0.0002 in the paper).
        fallback: What a query reads if all its weights are at or below the threshold: `"softmax"`,
            the read with its weights before shrinkage, which keeps a gradient; or `"zero"`, a
            vector of zeros, as in the authors' code (such a query stops learning).
        warmup_steps: Non-negative integer. During this many training calls, threshold and entropy
            weight grow linearly from 0 to their values, so that every slot gets gradients before
            shrinkage cuts most of them. The layer counts its training calls in a weight; inference
            uses what training has reached. With 0 there is no warm-up and no such weight.
        memory_initializer: Initializer of the slots. `None` is uniform within 1/sqrt(C), as in
            the authors' code.
        memory_regularizer: Regularizer of the slots.
        memory_constraint: Constraint on the slots.

    Call arguments:
        - queries: Float tensor (..., C) of rank 2 or more; rank 2 is one query a sample, rank 4 and
          5 are one query a position of a feature map (channels last).
        - training: Boolean, whether the call counts as a step of the warm-up.
        - return_addressing: Boolean, whether to return the addressing weights as well.

    Input shape:
        `(batch, ..., C)`, C known.

    Output shape:
        The shape of the queries; with `return_addressing=True` a pair of it and `(batch, ..., N)`
        (float32 weights that sum to 1, or to 0 for a query that fell back to `"zero"`).

    Raises:
        ValueError: If an argument is out of its range, or the last axis of the queries is unknown.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1904.02639), section 3.3
    """

    def __init__(
        self,
        num_slots: int,
        similarity: str = "cosine",
        scale: float | str | None = None,
        shrink: float = 1.0,
        entropy_weight: float = 0.0002,
        fallback: str = "softmax",
        warmup_steps: int = 0,
        memory_initializer=None,
        memory_regularizer=None,
        memory_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        num_slots = positive_integer("num_slots", num_slots)
        if similarity not in SIMILARITIES:
            raise ValueError(
                f"`similarity` must be one of {SIMILARITIES}. Received: similarity={similarity}"
            )
        if scale is not None and scale != "learned" and not (is_number(scale) and scale > 0):
            raise ValueError(
                f"`scale` must be a positive number, 'learned' or None. Received: scale={scale!r}"
            )
        if not (is_number(shrink) and 0 <= shrink < num_slots):
            raise ValueError(
                "`shrink` is in units of 1/num_slots and must be in [0, num_slots). "
                f"Received: shrink={shrink!r} with num_slots={num_slots}"
            )
        if not (is_number(entropy_weight) and entropy_weight >= 0):
            raise ValueError(
                "`entropy_weight` must be a number of 0 or more. "
                f"Received: entropy_weight={entropy_weight!r}"
            )
        if fallback not in FALLBACKS:
            raise ValueError(
                f"`fallback` must be one of {FALLBACKS}. Received: fallback={fallback}"
            )
        if not (
            isinstance(warmup_steps, Integral) and is_number(warmup_steps) and warmup_steps >= 0
        ):
            raise ValueError(
                "`warmup_steps` must be an integer of 0 or more. "
                f"Received: warmup_steps={warmup_steps!r}"
            )
        self.num_slots = num_slots
        self.similarity = similarity
        # As Python's numbers: JSON, which configurations are saved as, has none of NumPy's.
        self.scale = scale if scale in (None, "learned") else float(scale)
        self.shrink = float(shrink)
        self.entropy_weight = float(entropy_weight)
        self.fallback = fallback
        self.warmup_steps = int(warmup_steps)
        self.memory_initializer = keras.initializers.get(memory_initializer)
        self.memory_regularizer = keras.regularizers.get(memory_regularizer)
        self.memory_constraint = keras.constraints.get(memory_constraint)
        self.supports_masking = True
        # A rank of 2 or more; the last axis is fixed in `build`.
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                "The last axis of the queries must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        limit = 1.0 / math.sqrt(channels)
        self.memory = self.add_weight(
            name="memory",
            shape=(self.num_slots, channels),
            initializer=self.memory_initializer or keras.initializers.RandomUniform(-limit, limit),
            regularizer=self.memory_regularizer,
            constraint=self.memory_constraint,
            autocast=False,
        )
        default_scale = 10.0 if self.similarity == "cosine" else 1.0
        if self.scale == "learned":
            # Its logarithm is learned, so that the scale stays positive.
            self.log_scale = self.add_weight(
                name="log_scale",
                shape=(),
                initializer=keras.initializers.Constant(math.log(default_scale)),
                dtype="float32",
                autocast=False,
            )
        self.default_scale = default_scale
        if self.warmup_steps > 0:
            # Without `aggregation`, each replica has its own count, and all counts are the same.
            self.steps = self.add_weight(
                name="steps",
                shape=(),
                initializer="zeros",
                dtype="int32",
                trainable=False,
                autocast=False,
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: channels})

    def call(self, queries, training=None, return_addressing=False):
        warmth = self._warmth(training)
        # Variables are read here, once: a branch of a graph that reads one is never left out, even
        # if its result is not used.
        slots = self._slots()
        scaled = self._scaled(queries)
        if return_addressing:
            weights, per_total, entropy = self._address(scaled, slots, warmth)
            read = self._read(weights, per_total, slots)
        elif training:
            read, entropy = self._recall(scaled, slots, warmth)
        else:
            read, entropy = self._recall_in_blocks(scaled, slots, warmth)
        if self.entropy_weight > 0:
            # Like Keras's own losses: TensorFlow does not add up losses of different dtypes.
            self.add_loss(ops.cast(self._penalty(entropy, warmth), keras.config.floatx()))
        return (read, weights * per_total) if return_addressing else read

    def recall_columns(self, queries):
        """A training call for queries in columns, as `training/columnwise.py` has them.

        Args:
            queries: Float tensor (C, queries), of a layer that is built.

        Returns:
            Reads (C, queries), and the weighted entropy, a float32 scalar, which is not added to
            the losses.
        """
        warmth = self._warmth(training=True)
        slots = self._slots()
        read, entropy = self._recall(self._scaled(queries, axis=0), slots, warmth, axis=0)
        return read, self._penalty(entropy, warmth)

    def _penalty(self, entropy, warmth):
        return self.entropy_weight * warmth * mean_or_zero(entropy)

    def _warmth(self, training):
        """The share of the warm-up before this call; a training call then counts as a step."""
        if self.warmup_steps == 0:
            return 1.0
        warmth = ops.cast(self.steps, "float32") / self.warmup_steps
        if training:
            self.steps.assign(ops.minimum(self.steps + 1, self.warmup_steps))
        return warmth

    def _recall_in_blocks(self, queries, slots, warmth):
        """`_recall` of as many queries at a time as have `BLOCK` addressing weights.

        All queries at once would need several arrays of queries x slots.
        """
        shape = ops.shape(queries)
        queries = ops.reshape(queries, (-1, shape[-1]))
        num_blocks = _divide_up(ops.shape(queries)[0], max(BLOCK // self.num_slots, 1))

        def recall(block):
            return self._recall(block, slots, warmth)

        if not ops.is_tensor(num_blocks):
            # It may also be symbolic, in an export of JAX, and then cannot be compared.
            several = isinstance(num_blocks, int) and num_blocks > 1
            read, entropy = _map_blocks(recall, queries, num_blocks) if several else recall(queries)
        else:
            # In a graph of TensorFlow it is known when that runs. Read and entropy have a `cond`
            # each, so that the one of the entropy is left out where losses are not used. XLA
            # compiles both branches even for an empty batch, where a division by 0 would fail.
            at_least_one = ops.maximum(num_blocks, 1)
            read, entropy = (
                ops.cond(
                    num_blocks > 1,
                    lambda i=i: _map_blocks(lambda block: recall(block)[i], queries, at_least_one),
                    lambda i=i: recall(queries)[i],
                )
                for i in range(2)
            )
        return ops.reshape(read, shape), entropy

    # From here on, queries are rows (..., C) as the docstrings say or, with `axis=0`, columns.
    #
    # Nothing here has more than two uses with a gradient. TensorFlow adds three gradients in the
    # order in which it can reuse their memory (AddN), so that the last bits of a training would
    # depend on how busy the machine is.

    def _recall(self, queries, slots, warmth, axis=-1):
        """Reads of scaled queries (..., C), and the entropies (..., 1) of their addressing."""
        weights, per_total, entropy = self._address(queries, slots, warmth, axis)
        return self._read(weights, per_total, slots, axis), entropy

    def _read(self, weights, per_total, slots, axis=-1):
        if self.compute_dtype == "float16":
            # Normalised first: the sum over all slots may exceed float16's range, 65,504.
            return _product(ops.cast(weights * per_total, "float16"), slots.values, axis)
        # Normalising after the product costs (queries x C) instead of (queries x N).
        read = _product(ops.cast(weights, self.compute_dtype), slots.values, axis)
        return ops.cast(ops.cast(read, "float32") * per_total, self.compute_dtype)

    def _address(self, queries, slots, warmth, axis=-1):
        """Unnormalised addressing by scaled queries, all float32.

        Softmax weights are exp(logit - max) / S, so that "w > l" is "exp(...) > l * S" and the
        largest weight survives exactly where l * S < 1.

        Returns:
            Weights (..., N), the reciprocal of their sum (..., 1), and the entropy (..., 1) of
            the weights once their sum is 1.
        """
        logits = ops.cast(_product(queries, slots.keys, axis), "float32")
        # `max` of an empty tensor needs `initial`. Others do without, as on PyTorch Keras puts
        # `initial` onto the CPU, wherever the tensor is.
        initial = -math.inf if 0 in logits.shape else None
        largest = ops.max(logits, axis=axis, keepdims=True, initial=initial)
        logits = logits - ops.stop_gradient(largest)
        softmax = ops.exp(logits)
        cut = self._cut(softmax, warmth, axis)
        weights = ops.where(cut, 0.0, softmax)
        total = ops.sum(weights, axis=axis, keepdims=True)
        if self.fallback == "zero":
            # Where the total is 0 all weights are, and 0 / 1 reads zeros.
            total = ops.where(total > 0, total, 1.0)
        per_total = 1.0 / total
        # The logits are the logarithms of the weights.
        weighted = ops.where(cut, 0.0, softmax * logits)
        mean_logit = ops.sum(weighted, axis=axis, keepdims=True) * per_total
        return weights, per_total, ops.log(total) - mean_logit

    def _cut(self, weights, warmth, axis):
        """Which unnormalised softmax weights are not above the threshold of the shrinkage.

        NaN is not cut, so that a query that is NaN reads NaN.
        """
        threshold = warmth * (self.shrink / self.num_slots)
        threshold = threshold * ops.sum(weights, axis=axis, keepdims=True)
        if self.fallback == "softmax":
            # A threshold of -1 keeps all weights of a query that would lose even its largest one.
            threshold = ops.where(threshold < 1.0, threshold, -1.0)
        return weights <= threshold

    def _slots(self):
        values = ops.cast(self.memory, "float32")
        keys = ops.transpose(values)
        if self.similarity == "cosine":
            keys = _unit(keys, axis=0)
        # Normalised in float32; their products, the bulk of the work, are in the compute dtype.
        return _Slots(ops.cast(keys, self.compute_dtype), ops.cast(values, self.compute_dtype))

    def _scaled(self, queries, axis=-1):
        queries = ops.cast(queries, "float32")
        if self.similarity == "cosine":
            queries = _unit(queries, axis)
        return ops.cast(queries * self._scale(), self.compute_dtype)

    def _scale(self):
        if self.scale == "learned":
            return ops.exp(ops.cast(self.log_scale, "float32"))
        return self.default_scale if self.scale is None else self.scale

    def compute_output_spec(self, queries, training=None, return_addressing=False):
        read = keras.KerasTensor(queries.shape, dtype=self.compute_dtype)
        if not return_addressing:
            return read
        return read, keras.KerasTensor((*queries.shape[:-1], self.num_slots), dtype="float32")

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_slots": self.num_slots,
            "similarity": self.similarity,
            "scale": self.scale,
            "shrink": self.shrink,
            "entropy_weight": self.entropy_weight,
            "fallback": self.fallback,
            "warmup_steps": self.warmup_steps,
            "memory_initializer": keras.initializers.serialize(self.memory_initializer),
            "memory_regularizer": keras.regularizers.serialize(self.memory_regularizer),
            "memory_constraint": keras.constraints.serialize(self.memory_constraint),
        }

    def health(self, addressing) -> dict[str, float]:
        """Figures that tell whether the memory is in use or has collapsed.

        The threshold is the full one, even during a warm-up.

        Args:
            addressing: Float array (..., N), what `return_addressing=True` gives.

        Returns:
            A dict of `live_share` (share of the queries with a weight above the threshold; the
            others fell back), `slots_per_query` (mean number of slots kept), `slots_used` and
            `dead_slots` (number of slots kept by some query, and by none), `perplexity`
            (exponential of the entropy of the mean use, from 1 to N) and `largest_weight` (of a
            query, mean over the queries).

        Raises:
            ValueError: If there is no query, or the last axis is not one weight a slot.
        """
        weights = ops.convert_to_numpy(addressing)
        if weights.size == 0 or weights.shape[-1:] != (self.num_slots,):
            raise ValueError(
                f"`addressing` must be the weights of one query or more, (..., {self.num_slots}). "
                f"Received: addressing of shape {weights.shape}"
            )
        weights = weights.reshape(-1, self.num_slots)
        # After a fallback the largest weight is still at or below the threshold.
        live = weights.max(axis=1) > self.shrink / self.num_slots
        used = int((weights > 0).any(axis=0).sum())
        use = weights.mean(axis=0, dtype="float64")
        use = use[use > 0] / max(use.sum(), EPSILON)
        return {
            "live_share": float(live.mean()),
            "slots_per_query": float((weights > 0).sum(axis=1).mean()),
            "slots_used": used,
            "dead_slots": self.num_slots - used,
            "perplexity": float(np.exp(-(use * np.log(use)).sum())),
            "largest_weight": float(weights.max(axis=1).mean()),
        }


def mean_or_zero(values):
    """The mean of all elements; 0 if there are none, as on a replica that gets no sample."""
    count = ops.cast(ops.maximum(ops.size(values), 1), values.dtype)
    return ops.sum(values) / count


def _map_blocks(function, rows, num_blocks):
    """`function` of (rows, C), computed in blocks of one size, for which the rows are padded."""
    num_rows = ops.shape(rows)[0]
    size = _divide_up(num_rows, num_blocks)
    padded = ops.pad(rows, ((0, num_blocks * size - num_rows), (0, 0)))
    blocks = ops.reshape(padded, (num_blocks, size, rows.shape[-1]))
    return keras.tree.map_structure(
        lambda x: ops.reshape(x, (-1, x.shape[-1]))[:num_rows], ops.map(function, blocks)
    )


def _divide_up(a, b):
    return -(-a // b)


def _product(vectors, matrix, axis):
    """`vectors @ matrix`, for vectors along the last axis or, as columns, along axis 0."""
    if axis == 0:
        return ops.matmul(ops.transpose(matrix), vectors)
    return ops.matmul(vectors, matrix)


def _unit(vectors, axis=-1):
    """Scales vectors along an axis to unit length; a zero vector, without a direction, stays zero.

    Its gradient is zero, too. Multiplied by the factor of the shortest vectors, 1e6, it would drown
    all others: a network whose biases are still zero encodes a black image as zeros.
    """
    squares = ops.sum(ops.square(vectors), axis=axis, keepdims=True)
    factor = ops.where(squares > 0, ops.rsqrt(ops.maximum(squares, EPSILON)), 0.0)
    return vectors * factor
