"""Functions of tensors as graphs, on the Keras backend that has them."""

from collections.abc import Callable, Mapping

import keras


def as_graph(function: Callable, dtypes: Mapping[str, str]) -> Callable:
    """A function of a dict of columns and a scalar, on TensorFlow compiled to a graph.

    Operations one by one are slower there, and differ in the last bits from the graph that an
    export has. On other backends it is the function itself.

    Args:
        function: Takes a dict of tensors (batch,) and a float32 scalar.
        dtypes: The dtype of every column by name.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    columns = {name: tf.TensorSpec((None,), dtype) for name, dtype in dtypes.items()}
    return tf.function(function, (columns, tf.TensorSpec((), "float32")), autograph=False)
