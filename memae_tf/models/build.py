"""From the `model` section of a configuration to a MemAE."""

from memae_tf.config import Conv2DModel, Conv3DModel, DenseModel, ModelSection
from memae_tf.errors import UserError
from memae_tf.layers import MemoryUnit
from memae_tf.models.conv2d import conv2d
from memae_tf.models.conv3d import conv3d
from memae_tf.models.dense import dense
from memae_tf.models.memae import MemAE

# By the name of each network: the number of axes of its samples, and what these are.
SAMPLES = {"dense": (1, "records"), "conv2d": (3, "images"), "conv3d": (4, "clips")}


def build_memae(config: ModelSection, input_shape: tuple[int, ...], dtype=None) -> MemAE:
    """Builds the model that a configuration describes, weights included.

    The variant "ae" has no memory; "memae-nonspar", which is the paper's name, has one without
    shrinkage and entropy loss; "memae" has the memory that the configuration describes.

    Args:
        config: A `DenseModel`, `Conv2DModel` or `Conv3DModel`.
        input_shape: Shape of one sample, without the batch axis.
        dtype: Keras dtype policy of the layers.

    Raises:
        UserError: If the configuration does not fit together or does not fit the input.
    """
    try:
        encoder, decoder = _autoencoder(config, input_shape, dtype)
        memory = None if config.variant == "ae" else _memory(config, dtype)
    except ValueError as error:
        raise UserError(f"model: {error}") from None
    model = MemAE(encoder, memory, decoder, reduction=config.reduction, dtype=dtype)
    model.build((None, *input_shape))
    return model


def _memory(config: ModelSection, dtype) -> MemoryUnit:
    arguments = config.memory.model_dump()
    if config.variant == "memae-nonspar":
        arguments.update(shrink=0.0, entropy_weight=0.0)
    return MemoryUnit(**arguments, dtype=dtype, name="memory")


def _autoencoder(config: ModelSection, input_shape: tuple[int, ...], dtype):
    rank, _ = SAMPLES[config.name]
    if len(input_shape) != rank:
        axes = "1 axis" if rank == 1 else f"{rank} axes"
        raise ValueError(
            f"name={config.name} takes samples of {axes}, and these have the shape "
            f"{tuple(input_shape)}{_advice(len(input_shape))}"
        )
    match config:
        case DenseModel():
            return dense(input_shape[0], config.hidden, config.code, config.activation, dtype)
        case Conv2DModel():
            return conv2d(
                input_shape,
                config.filters,
                config.kernels,
                config.strides,
                config.code,
                config.queries,
                dtype,
            )
        case Conv3DModel():
            return conv3d(input_shape, config.filters, config.output_activation, dtype)


def _advice(rank: int) -> str:
    """A hint at the network that takes samples with so many axes; empty if there is none."""
    for name, (own_rank, samples) in SAMPLES.items():
        if own_rank == rank:
            return f"; these are {samples}, for name={name}"
    return ""
