"""Functions of tensors as graphs, on the Keras backend that has them."""

from collections.abc import Callable

import keras

from memae_tf.errors import OtherBackendError


def as_graph(function: Callable, specs) -> Callable:
    """A function of raw input and a scalar, on TensorFlow compiled to a graph.

    Operations one by one are slower there, and differ in the last bits from the graph that an
    export has. On other backends it is the function itself.

    Args:
        function: Takes a nest of tensors and a float32 scalar.
        specs: A `keras.InputSpec` for every tensor of that nest.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    tensors = keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), specs)
    signature = tensors, tf.TensorSpec((), "float32")
    return own_graph(function, input_signature=signature, autograph=False)


def own_graph(function: Callable, **options) -> Callable:
    """`tf.function` of what every model and every training has for itself.

    TensorFlow takes those of several models for one that is traced again and again, and warns.
    """
    import tensorflow as tf

    graph = tf.function(function, **options)
    graph._omit_frequent_tracing_warning = True
    return graph


def require_tensorflow() -> None:
    """Refuses to train or serve on another backend.

    Raises:
        OtherBackendError: Naming it.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise OtherBackendError(backend)
