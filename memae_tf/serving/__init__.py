"""Export and serving of detectors, and a client for model servers."""


def __getattr__(name: str):
    if name != "Client":
        raise AttributeError(f"module 'memae_tf.serving' has no attribute '{name}'")
    from memae_tf.serving.client import Client

    return Client
