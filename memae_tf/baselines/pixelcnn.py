"""The gated PixelCNN (van den Oord et al., 2016), "PixCNN" in the paper's tables."""

import keras
import numpy as np
from keras import ops

from memae_tf.baselines.network import Network, NetworkBaseline
from memae_tf.config import PixelCNNModel, TrainingConfig
from memae_tf.errors import UserError


class PixelCNN(NetworkBaseline):
    """The distribution of each pixel given those above it and to its left; the score is -log p.

    It has two stacks of gated convolutions, one over the rows above and one over the row to the
    left, so that there is no blind spot; colours depend on each other in the order of channels.
    Pixel values are quantised to `levels`, with a softmax over them (256 in the source; fewer are
    cheaper).

    Features have to be in [0, 1] (`data.scaling: unit`).

    Reference:
        - van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", NIPS 2016
    """

    def __init__(self, config: PixelCNNModel, shape: tuple[int, ...], training: TrainingConfig):
        if len(shape) != 3:
            raise ValueError(
                f"name=pixelcnn takes images, and these samples have the shape {shape}"
            )
        super().__init__(_PixelCNN(config, shape[-1]), training)

    def fit(self, x: np.ndarray) -> list[dict]:
        if x.min() < 0 or x.max() > 1:
            raise UserError(
                "model.name=pixelcnn: needs pixel values in [0, 1]; set data.scaling=unit"
            )
        return super().fit(x)


class _PixelCNN(Network):
    def __init__(self, config: PixelCNNModel, channels: int):
        super().__init__(name="pixelcnn")
        self.levels, self.channels = config.levels, channels
        # A multiple of the channels, as filters are divided among the colours.
        filters = -(-config.filters // channels) * channels
        self.stacks = [
            GatedLayer(
                filters, 7 if first else 3, channels, sees_itself=not first, residual=not first
            )
            for first in [True] + [False] * (config.layers - 1)
        ]
        self.outputs_ = [
            MaskedConv(filters, (1, 1), channels, "row"),
            MaskedConv(channels * config.levels, (1, 1), channels, "row"),
        ]

    def logits(self, x):
        """Of pixel values, (batch, height, width, channels, levels), for x in [0, 1]."""
        vertical = horizontal = 2.0 * x - 1.0
        for layer in self.stacks:
            vertical, horizontal = layer(vertical, horizontal)
        for layer in self.outputs_:
            horizontal = layer(ops.relu(horizontal))
        return ops.reshape(horizontal, (*ops.shape(x), self.levels))

    def sample_loss(self, x):
        levels = ops.cast(ops.round(x * (self.levels - 1)), "int32")
        # The inputs are quantised like the targets.
        logits = self.logits(ops.cast(levels, "float32") / (self.levels - 1))
        losses = keras.losses.sparse_categorical_crossentropy(levels, logits, from_logits=True)
        return ops.sum(losses, axis=(1, 2, 3))

    def sample_score(self, x):
        return self.sample_loss(x)


class GatedLayer(keras.layers.Layer):
    """One layer of both stacks, see figure 2 of the source."""

    def __init__(self, filters, kernel, channels, sees_itself, residual):
        super().__init__()
        rows = "rows" if sees_itself else "rows_above"
        row = "row" if sees_itself else "row_before"
        self.vertical = MaskedConv(2 * filters, (kernel, kernel), channels, rows)
        self.horizontal = MaskedConv(2 * filters, (1, kernel), channels, row)
        self.across = keras.layers.Conv2D(2 * filters, 1, data_format="channels_last")
        self.out = MaskedConv(filters, (1, 1), channels, "row")
        self.residual = residual

    def call(self, vertical, horizontal):
        rows = self.vertical(vertical)
        row = self.out(_gate(self.horizontal(horizontal) + self.across(rows)))
        return _gate(rows), row + horizontal if self.residual else row


def _gate(x):
    signal, gate = ops.split(x, 2, axis=-1)
    return ops.tanh(signal) * ops.sigmoid(gate)


class MaskedConv(keras.layers.Layer):
    """A convolution with "same" padding and a mask over its kernel.

    Args:
        filters: Number of filters, divided among the colours (for a gate, each half of them).
        kernel: (height, width), odd.
        channels: The number of colours.
        sees: What the mask leaves: "rows_above"; "rows", these and the pixel's own row, for inputs
            that have seen rows above only; "row_before", the pixels to the left and the colours
            before; "row", these and the pixel's own colour.
    """

    def __init__(self, filters: int, kernel: tuple[int, int], channels: int, sees: str):
        super().__init__()
        self.filters, self.kernel_size, self.channels, self.sees = filters, kernel, channels, sees

    def build(self, input_shape, *_):
        shape = (*self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.mask = self._mask(shape)

    def _mask(self, shape: tuple[int, int, int, int]) -> np.ndarray:
        height, width, inputs, outputs = shape
        row, column = height // 2, width // 2
        mask = np.zeros(shape, "float32")
        if self.sees.startswith("rows"):
            mask[: row if self.sees == "rows_above" else row + 1] = 1
            return mask
        mask[:, :column] = 1
        # A gate splits the outputs into halves, each of which has all colours.
        halves = 2 if width > 1 else 1
        before = np.arange(inputs) * self.channels // inputs
        after = np.tile(np.arange(outputs // halves) * self.channels // (outputs // halves), halves)
        order = np.less if self.sees == "row_before" else np.less_equal
        mask[0, column] = order(before[:, None], after[None, :])
        return mask

    def call(self, x):
        return (
            ops.conv(x, self.kernel * self.mask, padding="same", data_format="channels_last")
            + self.bias
        )
