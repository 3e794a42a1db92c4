"""The same model in another precision."""

from memae_tf.errors import UserError
from memae_tf.models.memae import MemAE
from memae_tf.precision import PRECISIONS, Precision


def in_precision(model: MemAE, precision: Precision, sample_shape: tuple[int, ...]) -> MemAE:
    """A copy of a model, with the same weights, that computes in another precision.

    Args:
        model: A built model.
        precision: The Keras dtype policy of all layers.
        sample_shape: Shape of one sample, without the batch axis.

    Raises:
        ValueError: If `precision` is another one.
        UserError: If a layer is quantized.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}"
        )
    _require_plain_layers(model)
    copy = type(model).from_config(_with_policy(model.get_config(), precision))
    copy.build((None, *sample_shape))
    copy.set_weights(model.get_weights())
    return copy


def _require_plain_layers(model: MemAE) -> None:
    # In another precision, quantized weights would be used without their scales.
    for layer in model._flatten_layers():
        mode = getattr(layer.dtype_policy, "quantization_mode", None)
        if mode is not None:
            raise UserError(
                f"layer {layer.name} is quantized ({mode}), so it cannot be converted; take the "
                "detector as it was before `quantize`"
            )


def _with_policy(config: object, precision: str) -> object:
    """A configuration with another policy wherever it has one.

    Policies are set before the layers are built: some of what a layer does, such as casting its
    inputs, is fixed then.
    """
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": precision}}
        return {key: _with_policy(value, precision) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policy(value, precision) for value in config)
    return config
