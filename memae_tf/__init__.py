"""Memory-augmented autoencoders (MemAE, Gong et al., ICCV 2019) for anomaly detection."""

import importlib

__version__ = "0.1.0"

# Imported at first use, so that `import memae_tf` does not import Keras and its backend.
_PUBLIC = {
    "ClipFeaturizer": "memae_tf.layers",
    "ImageFeaturizer": "memae_tf.layers",
    "MemoryUnit": "memae_tf.layers",
    "RecordFeaturizer": "memae_tf.layers",
    "MemAE": "memae_tf.models",
    "Detector": "memae_tf.models",
    "build_memae": "memae_tf.models",
    "conv2d": "memae_tf.models",
    "conv3d": "memae_tf.models",
    "dense": "memae_tf.models",
    "load_detector": "memae_tf.models",
    "load_pretrained": "memae_tf.pretrained",
    "OutlierDetector": "memae_tf.outlier_detector",
    "MemoryMonitor": "memae_tf.training.monitoring.memory_monitor",
    "load_config": "memae_tf.config",
    "UserError": "memae_tf.errors",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'memae_tf' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
