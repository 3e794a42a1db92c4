"""Serving of exported detectors, and the client of those who serve."""


def __getattr__(name: str):
    if name != "Client":
        raise AttributeError(f"module 'memae_tf.serving' has no attribute '{name}'")
    from memae_tf.serving.client import Client

    return Client
