"""Functions compiled to graphs of TensorFlow, where Keras runs on it."""

from collections.abc import Callable

import keras

from memae_tf.errors import OtherBackendError


def as_graph(function: Callable, specs) -> Callable:
    """Compiles a function of raw input and a scalar to a graph; on other backends, gives it back.

    Without a graph, TensorFlow is slower, and results differ in the last bits from an export's.

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
    """`tf.function` for a function that every model, or every training, has one of.

    Without TensorFlow's warning, which takes them for one function that is traced again and again.
    """
    import tensorflow as tf

    graph = tf.function(function, **options)
    graph._omit_frequent_tracing_warning = True
    return graph


def require_tensorflow() -> None:
    """Checks that Keras runs on TensorFlow.

    Raises:
        OtherBackendError: If it does not, naming the backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise OtherBackendError(backend)
