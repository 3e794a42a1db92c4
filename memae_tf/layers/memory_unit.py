"""The memory of a MemAE as a Keras layer."""

import math

import keras
import numpy as np
from keras import ops

# Inside logarithms and norms, where 0 would give NaN values or gradients.
EPSILON = 1e-12

SIMILARITIES = ("cosine", "dot")
FALLBACKS = ("softmax", "zero")


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

    Addressing is computed in float32 under every dtype policy.

    Example:

    >>> memory = MemoryUnit(num_slots=50, scale=10.0)
    >>> queries = np.random.normal(size=(32, 3)).astype("float32")
    >>> memory(queries).shape
    (32, 3)
    >>> read, addressing = memory(queries, return_addressing=True)
    >>> addressing.shape
    (32, 50)

    Args:
        num_slots: Integer, the number of slots N.
        similarity: `"cosine"`, as in the paper, or `"dot"`, as in its authors' code.
        scale: Factor on the similarity (an inverse temperature): a positive float; `"learned"`
            for a trainable scale that starts at the default; or `None` for the default, 10 with
            cosine and 1 with dot. The paper has 1, with which the softmax of a cosine
            is nearly flat: with many slots hardly a weight exceeds 1/N and shrinkage removes all.
        shrink: Non-negative float, the shrinkage threshold in units of 1/N. The paper recommends
            1 to 3. 0 switches shrinkage off ("MemAE-nonSpar").
        entropy_weight: Non-negative float, the weight of the entropy loss (0.0002 in the paper).
        fallback: What a query reads whose weights are all at or below the threshold: `"softmax"`,
            the read with its unshrunk weights, which keeps a gradient; or `"zero"`, a vector of
            zeros, as the authors' code does (such a query stops learning).
        memory_initializer: Initializer of the slots. `None` is uniform within 1/sqrt(C), as in
            the authors' code.
        memory_regularizer: Regularizer of the slots.
        memory_constraint: Constraint on the slots.

    Call arguments:
        queries: Float tensor (..., C) of rank 2 or more; rank 2 is one query a sample, rank 4 and
            5 are one query a position of a feature map (channels last).
        return_addressing: Boolean, whether to return the addressing weights as well.

    Input shape:
        `(batch, ..., C)`, C known.

    Output shape:
        The shape of the queries; with `return_addressing=True` a pair of it and `(batch, ..., N)`
        (float32 weights that sum to 1, or to 0 for a query that fell back to `"zero"`).

    Raises:
        ValueError: If an argument is out of its range, or the last axis of the queries unknown.

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
        memory_initializer=None,
        memory_regularizer=None,
        memory_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(num_slots, bool) or not isinstance(num_slots, int) or num_slots < 1:
            raise ValueError(
                f"`num_slots` must be a positive integer. Received: num_slots={num_slots}"
            )
        if similarity not in SIMILARITIES:
            raise ValueError(
                f"`similarity` must be one of {SIMILARITIES}. Received: similarity={similarity}"
            )
        if isinstance(scale, str) or scale is None:
            valid_scale = scale in ("learned", None)
        else:
            valid_scale = math.isfinite(scale) and scale > 0
        if not valid_scale:
            raise ValueError(
                f"`scale` must be a positive number, 'learned' or None. Received: scale={scale}"
            )
        if not 0 <= shrink < num_slots:
            raise ValueError(
                "`shrink` is in units of 1/num_slots and must be in [0, num_slots). "
                f"Received: shrink={shrink} with num_slots={num_slots}"
            )
        if not (math.isfinite(entropy_weight) and entropy_weight >= 0):
            raise ValueError(
                "`entropy_weight` must be a number of 0 or more. "
                f"Received: entropy_weight={entropy_weight}"
            )
        if fallback not in FALLBACKS:
            raise ValueError(
                f"`fallback` must be one of {FALLBACKS}. Received: fallback={fallback}"
            )
        self.num_slots = num_slots
        self.similarity = similarity
        self.scale = scale
        self.shrink = shrink
        self.entropy_weight = entropy_weight
        self.fallback = fallback
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
        else:
            self.fixed_scale = default_scale if self.scale is None else float(self.scale)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: channels})

    def call(self, queries, return_addressing=False):
        weights, total = self._address(queries)
        if self.entropy_weight > 0:
            # The entropy of v = weights / total, without building v.
            plogp = ops.sum(weights * ops.log(weights + EPSILON), axis=-1, keepdims=True)
            entropy = ops.log(total) - plogp / total
            self.add_loss(self.entropy_weight * ops.mean(entropy))
        # Normalising after the product costs (queries x C) instead of (queries x N).
        memory = ops.cast(self.memory, self.compute_dtype)
        read = ops.matmul(ops.cast(weights, self.compute_dtype), memory)
        read = ops.cast(ops.cast(read, "float32") / total, self.compute_dtype)
        return (read, weights / total) if return_addressing else read

    def _address(self, queries):
        """Unnormalised addressing: weights (..., N) and their sum (..., 1), both float32.

        Softmax weights are exp(logit - max) / S, so that "w > l" is "exp(...) > l * S" and the
        largest weight survives exactly where l * S < 1.
        """
        logits = self._similarity(queries) * self._scale()
        largest = ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
        weights = ops.exp(logits - largest)
        if self.shrink == 0:
            return weights, ops.sum(weights, axis=-1, keepdims=True)
        threshold = ops.sum(weights, axis=-1, keepdims=True) * (self.shrink / self.num_slots)
        if self.fallback == "softmax":
            # -1 keeps every weight of a query whose largest one would go.
            threshold = ops.where(threshold < 1.0, threshold, -1.0)
        weights = ops.where(weights > threshold, weights, 0.0)
        total = ops.sum(weights, axis=-1, keepdims=True)
        if self.fallback == "zero":
            # All weights are 0 where the total is: 0 / 1 reads zeros.
            total = ops.where(total > 0, total, 1.0)
        return weights, total

    def _similarity(self, queries):
        """Cosine or dot product of queries (..., C) with the slots, float32 (..., N)."""
        memory = ops.cast(self.memory, "float32")
        queries = ops.cast(queries, "float32")
        if self.similarity == "cosine":
            memory, queries = _unit(memory), _unit(queries)
        # The product is the bulk of the work: in the compute dtype where that is a smaller one.
        product = ops.matmul(
            ops.cast(queries, self.compute_dtype),
            ops.transpose(ops.cast(memory, self.compute_dtype)),
        )
        return ops.cast(product, "float32")

    def _scale(self):
        if self.scale == "learned":
            return ops.exp(ops.cast(self.log_scale, "float32"))
        return self.fixed_scale

    def compute_output_spec(self, queries, return_addressing=False):
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
            "memory_initializer": keras.initializers.serialize(self.memory_initializer),
            "memory_regularizer": keras.regularizers.serialize(self.memory_regularizer),
            "memory_constraint": keras.constraints.serialize(self.memory_constraint),
        }

    def health(self, addressing) -> dict[str, float]:
        """Summarises whether the memory is alive.

        Args:
            addressing: Float array (..., N), what `return_addressing=True` gives.

        Returns:
            A dict of `live_share` (share of the queries of which a weight exceeds the threshold;
            the others fell back), `slots_per_query` (mean number of slots kept), `slots_used` and
            `dead_slots` (slots that some query, or none, kept), `perplexity` (exponential of the
            entropy of the mean use, from 1 to N) and `largest_weight` (mean over the queries).
        """
        weights = ops.convert_to_numpy(addressing)
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


def _unit(vectors):
    """Vectors (..., C) at unit length; a zero vector stays zero, with a finite gradient."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, EPSILON))
