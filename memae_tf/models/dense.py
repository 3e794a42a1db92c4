"""The paper's fully connected autoencoder, for records (section 4.3)."""

from collections.abc import Sequence

import keras


def dense(
    num_features: int,
    hidden: Sequence[int] = (60, 30, 10),
    code: int = 3,
    activation: str = "tanh",
    dtype=None,
) -> tuple[keras.Model, keras.Model]:
    """Encoder FC(hidden...) FC(code) and the mirrored decoder.

    With the defaults, the network of the paper for KDDCUP99. The code and the output are linear.

    Args:
        num_features: Size of a record's feature vector.
        hidden: Units of the encoder's hidden layers, outermost first.
        code: Size of the encoding, which is one query to the memory.
        activation: Name of the hidden layers' activation.
        dtype: Keras dtype policy of the layers.

    Returns:
        `(encoder, decoder)`: (batch, num_features) to (batch, code) and back.
    """
    encoder = [keras.layers.Dense(units, activation, dtype=dtype) for units in hidden]
    decoder = [keras.layers.Dense(units, activation, dtype=dtype) for units in reversed(hidden)]
    return (
        keras.Sequential(
            [keras.Input((num_features,)), *encoder, keras.layers.Dense(code, dtype=dtype)],
            name="encoder",
        ),
        keras.Sequential(
            [keras.Input((code,)), *decoder, keras.layers.Dense(num_features, dtype=dtype)],
            name="decoder",
        ),
    )
