"""The memory-augmented autoencoder as a Keras model."""

import keras
import numpy as np
from keras import ops

from memae_tf.backend import IS_TENSORFLOW, Untracked, own_losses
from memae_tf.layers.memory_unit import MemoryUnit, mean_or_zero
from memae_tf.models.folding import call_folded

REDUCTIONS = ("sum", "mean")
ERRORS = ("squared", "absolute")


@keras.saving.register_keras_serializable(package="memae_tf")
class MemAE(keras.Model):
    """An autoencoder that decodes what its memory holds, instead of the encoding itself.

    Trained on normal data, the memory holds normal encodings. An anomaly is rebuilt from these, so
    it is rebuilt badly, and its reconstruction error is its anomaly score.

    `compile(optimizer)` and `fit(x)` train it to reconstruct `x`: no loss and no target are
    needed. With a target, `fit(x, y)`, it reconstructs `y` (for instance from a noisy `x`).
    Sample weights need the target too, `fit(x, x, sample_weight=w)`: without one, Keras drops them.

    Examples:
        >>> encoder, decoder = dense(num_features=120)
        >>> model = MemAE(encoder, MemoryUnit(50), decoder)
        >>> model.compile("adam")
        >>> model.fit(x_normal, epochs=20, batch_size=1024)
        >>> scores = model.score(x)

    Args:
        encoder: Keras layer or model, inputs (batch, ...) to encodings (batch, ..., C).
        memory: `MemoryUnit` (or a layer like it) that maps encodings to reads of the same shape;
            `None` for a plain autoencoder.
        decoder: Keras layer or model, reads to reconstructions of the shape of the inputs.
        reduction: How the squared errors of a sample become its score and its part of the loss:
            `"sum"`, as the paper writes (equation 9), or `"mean"`, as its authors' code does. The
            same `entropy_weight` weighs more beside a mean.

    Input shape:
        `(batch, ...)`, what the encoder takes.

    Output shape:
        The same as the input's: reconstructions.

    Raises:
        ValueError: If `reduction` is not one of the two, a part is no layer, or the encoder or the
            decoder is a `MemoryUnit`; in `build`, if the decoder's outputs have another shape than
            the inputs; in `fit`, if `compile` was given a loss.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1904.02639)
    """

    def __init__(self, encoder, memory, decoder, reduction: str = "sum", **kwargs):
        super().__init__(**kwargs)
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"`reduction` must be one of {REDUCTIONS}. Received: reduction={reduction}"
            )
        parts = [encoder, decoder] if memory is None else [encoder, memory, decoder]
        if (
            not all(isinstance(part, keras.Layer) for part in parts)
            # It would train where shapes fit, but without a memory in the middle.
            or isinstance(encoder, MemoryUnit)
            or isinstance(decoder, MemoryUnit)
        ):
            raise ValueError(
                "The order is MemAE(encoder, memory, decoder), all of them Keras layers or models. "
                f"Received: encoder={encoder}, memory={memory}, decoder={decoder}"
            )
        self.encoder = encoder
        self.memory = memory
        self.decoder = decoder
        self.reduction = reduction
        self.trackers = {
            name: keras.metrics.Mean(name=name) for name in ("reconstruction", "penalty")
        }
        if _xla_would_hurt(self):
            self.supports_jit = False

    def build(self, input_shape):
        code_shape = input_shape
        for layer in (self.encoder, self.memory, self.decoder):
            if layer is None:
                continue
            if not layer.built:
                layer.build(code_shape)
            code_shape = layer.compute_output_shape(code_shape)
        if tuple(code_shape[1:]) != tuple(input_shape[1:]):
            raise ValueError(
                "The decoder must give the shape of the input. "
                f"Received: input shape {tuple(input_shape)}, decoder output {tuple(code_shape)}"
            )
        self.built = True

    def call(self, inputs, training=None):
        """Reconstructions of `inputs`, same shape."""
        code = self.encode(inputs, training)
        if self.memory is not None:
            # Passed on here, as Keras's JAX trainer does not tell nested layers.
            code = self.memory(code, training=training)
        return self.decode(code, training)

    def encode(self, inputs, training=None):
        """The queries to the memory: inputs (batch, ...) to encodings (batch, ..., C)."""
        if training:
            return self.encoder(inputs, training=True)
        return call_folded(self.encoder, inputs)

    def decode(self, reads, training=None):
        """Reconstructions (batch, ...) from the memory's reads (batch, ..., C)."""
        if training:
            return self.decoder(reads, training=True)
        return call_folded(self.decoder, reads)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    # The loss, for `fit` and for every other loop.

    def element_error(self, x, reconstruction):
        """Squared error of every element, float32, of the shape of `x`."""
        return ops.square(ops.cast(x, "float32") - ops.cast(reconstruction, "float32"))

    def sample_error(self, x, reconstruction):
        """Reconstruction error of every sample, float32 (batch,): its anomaly score."""
        error = self.element_error(x, reconstruction)
        axes = tuple(range(1, len(error.shape)))
        return ops.sum(error, axes) if self.reduction == "sum" else ops.mean(error, axes)

    def frame_error(self, x, reconstruction, error: str = "squared"):
        """The error of every frame of clips, float32 (batch, frames); their mean is the clip's.

        Args:
            x: Clips (batch, frames, height, width, channels).
            reconstruction: Of the same shape.
            error: `"squared"`, as in training and in the paper's text; or `"absolute"`, as in its
                authors' code, in which small errors of many pixels count for more beside large
                errors of a few.

        Raises:
            ValueError: If `error` is not one of the two.
        """
        if error not in ERRORS:
            raise ValueError(f"`error` must be one of {ERRORS}. Received: error={error}")
        errors = self.element_error(x, reconstruction)
        if error == "absolute":
            errors = ops.sqrt(errors)
        errors = ops.mean(errors, axis=(2, 3, 4))
        if self.reduction == "sum":
            # The sum over a clip all of whose frames were like this one.
            return errors * float(np.prod(x.shape[1:]))
        return errors

    def loss_terms(self, x, reconstruction, sample_weight=None):
        """The terms of the loss after a call, float32 scalars; the loss is their sum.

        Args:
            x: Targets of the reconstructions.
            reconstruction: Of the same shape.
            sample_weight: One for each sample; `None` is 1.

        Returns:
            A dict of `reconstruction`, the mean error of the samples, and `penalty`, the sum of
            the losses that layers added: the weighted entropy of the addressing, and regularizers.
        """
        error = self.sample_error(x, reconstruction)
        if sample_weight is not None:
            # Keras passes weights as (batch, 1).
            error = error * ops.reshape(ops.cast(sample_weight, "float32"), ops.shape(error))
        penalty = ops.convert_to_tensor(0.0, "float32")
        for loss in own_losses(self.losses):
            penalty = penalty + ops.cast(loss, "float32")
        return {"reconstruction": mean_or_zero(error), "penalty": penalty}

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        # Without targets, the inputs are the targets.
        return super().compute_metrics(x, x if y is None else y, y_pred, sample_weight)

    # What would be refused in the first step is refused before it, if possible: on TensorFlow and
    # JAX, a model whose first step was not traced to its end cannot be used any more.

    def fit(self, x=None, y=None, *args, **kwargs):
        self._refuse_loss()
        _require_target(*_target_and_input(x, y))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        self._refuse_loss()
        _require_target(*_target_and_input(x, y))
        return super().evaluate(x, y, *args, **kwargs)

    def _refuse_loss(self):
        if self.loss is None:
            return
        # Another `compile` would leave it as it is.
        loss, self.loss, self._compile_loss = self.loss, None, None
        raise ValueError(
            "A MemAE has its own loss, the reconstruction error and what its layers add; leave it "
            f"out of `compile`. Received: loss={loss}"
        )

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self._refuse_loss()
        _require_target(y, y_pred)
        terms = self.loss_terms(x if y is None else y, y_pred, sample_weight)
        for name, tracker in self.trackers.items():
            # Weighted, as Keras weighs the loss, so that a partial last batch counts as it should.
            tracker.update_state(terms[name], sample_weight=ops.shape(y_pred)[0])
        # Under `tf.distribute`, Keras sums the losses of the replicas; this scales for that.
        return self._aggregate_additional_loss(terms["reconstruction"] + terms["penalty"])

    @property
    def revision(self) -> tuple[int, ...]:
        """Changes when layers get other variables, as by `quantize` and `enable_lora`.

        Functions that were compiled before such a change still compute the former model.
        """
        return tuple(id(weight) for weight in self.weights)

    # Inference for arrays.

    def score(self, x, batch_size: int = 1024) -> np.ndarray:
        """Anomaly scores: the reconstruction error of every sample.

        Args:
            x: Array (samples, ...).
            batch_size: Samples in a batch. Outputs of convolutional layers are large: take a few
                dozen images, or a few clips.

        Returns:
            Float32 array (samples,); higher is less normal.
        """
        return self._predict("score", x, batch_size)

    def error(self, x, batch_size: int = 1024) -> np.ndarray:
        """Squared error of every element, a float32 array of the shape of `x`."""
        return self._predict("error", x, batch_size)

    def addressing(self, x, batch_size: int = 1024) -> np.ndarray:
        """The slots that every sample used: weights (samples, ..., N), float32.

        Raises:
            ValueError: If the model has no memory.
        """
        if self.memory is None:
            raise ValueError("An autoencoder without memory has no addressing.")
        return self._predict("addressing", x, batch_size)

    def code_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (..., C) of one sample's encoding, for samples of a shape."""
        return tuple(self.encoder.compute_output_shape((None, *sample_shape)))[1:]

    def slot_reads(self, slots, sample_shape: tuple[int, ...]) -> np.ndarray:
        """Inputs of the decoder that are one slot alone, at every position.

        `decode(slot_reads(slots, shape))` shows what slots have memorised.

        Args:
            slots: Numbers of slots, integers (slots,).
            sample_shape: Shape of one input, without the batch axis.

        Returns:
            Float32 array (slots, ..., C).

        Raises:
            ValueError: If the model has no memory, or none yet.
        """
        if self.memory is None:
            raise ValueError("An autoencoder without memory has no slots.")
        if not self.memory.built:
            raise ValueError("A model has no slots before it is built: call it, or `build`, first.")
        shape = self.code_shape(sample_shape)
        memory = ops.convert_to_numpy(ops.cast(self.memory.memory, "float32"))[np.asarray(slots)]
        spread = memory.reshape(len(memory), *[1] * (len(shape) - 1), shape[-1])
        return np.broadcast_to(spread, (len(memory), *shape))

    def _predict(self, output: str, x, batch_size: int) -> np.ndarray:
        views = self.__dict__.setdefault("_views", Untracked()).values
        view = output, self.revision, self.reduction, _settings(self.memory)
        if view not in views:
            views[view] = _View(self, output)
        # A dataset may not know its length.
        if hasattr(x, "shape") and len(x) == 0:
            # Keras's `predict` needs a sample.
            one = np.zeros((1, *np.shape(x)[1:]), "float32")
            return self._predict(output, one, batch_size)[:0]
        return views[view].predict(x, batch_size=batch_size, verbose=0)

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "memory": keras.saving.serialize_keras_object(self.memory),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "reduction": self.reduction,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for part in ("encoder", "memory", "decoder"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)


class _View(keras.Model):
    """Another output of a MemAE, so that Keras batches and compiles it on every backend."""

    def __init__(self, model: MemAE, output: str):
        # Inputs come as they are, whatever Keras's global policy: the model has its own.
        super().__init__(name=output, dtype="float32", autocast=False)
        self.model = model

    def call(self, x):
        if self.name == "addressing":
            code = self.model.encode(x)
            return self.model.memory(code, return_addressing=True)[1]
        reconstruction = self.model(x, training=False)
        if self.name == "error":
            return self.model.element_error(x, reconstruction)
        return self.model.sample_error(x, reconstruction)


def _settings(memory) -> tuple:
    """Attributes of a memory that a graph would not follow if they are set to other values."""
    return tuple(getattr(memory, name, None) for name in ("scale", "shrink", "fallback"))


def _target_and_input(x, y) -> tuple:
    """What `fit(x, y)` has as target and input, or their specs if `x` is a dataset of both."""
    spec = getattr(x, "element_spec", None)
    return (spec[1], spec[0]) if isinstance(spec, tuple) and len(spec) > 1 else (y, x)


def _known_shape(value) -> tuple | None:
    shape = getattr(value, "shape", None)
    # That of TensorFlow may be of unknown rank.
    return None if shape is None or getattr(shape, "rank", 0) is None else tuple(shape)


def _require_target(y, like) -> None:
    """Refuses a target that has not the shape of the inputs or outputs, where both have one."""
    shape, expected = _known_shape(y), _known_shape(like)
    if shape is not None and expected is not None and not _agree(shape, expected):
        # Labels would be broadcast against the reconstructions.
        raise ValueError(
            "The target of a MemAE is what it should reconstruct, of the shape of its output; "
            "call `fit(x)` without labels. "
            f"Received: y.shape={shape}, output shape {expected}"
        )


def _agree(shape, other) -> bool:
    """Whether two shapes are the same, as far as they are known."""
    return len(shape) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(shape, other, strict=True)
    )


def _xla_would_hurt(model: keras.Model) -> bool:
    """Whether XLA would make this model slower, where it is used by default.

    For CPUs, TensorFlow's XLA compiles convolutions to code that is many times slower: training the
    2-D network for MNIST takes 5 times as long, a forward pass of the 3-D network 70 times. The
    custom loop uses XLA in long runs of any model that supports it; versions of Keras that do not
    avoid it on CPUs use it for any such model, even in `predict` without `compile`. (JAX has
    nothing but XLA, and on PyTorch Keras does not compile by default.)
    """
    convolutions = (
        keras.layers.Conv2D,
        keras.layers.Conv2DTranspose,
        keras.layers.Conv3D,
        keras.layers.Conv3DTranspose,
    )
    return (
        IS_TENSORFLOW
        and any(isinstance(layer, convolutions) for layer in model._flatten_layers())
        and not keras.distribution.list_devices("gpu")
    )
