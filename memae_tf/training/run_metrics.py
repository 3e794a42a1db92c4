"""The contents of metrics.json."""

import platform

import keras
import numpy as np
import tensorflow as tf

from memae_tf import __version__
from memae_tf.config import Config
from memae_tf.data import Dataset
from memae_tf.data.dataset import count, take
from memae_tf.evaluation.evaluate import Scores, measure
from memae_tf.models import MemAE
from memae_tf.training.fit import featurize
from memae_tf.training.monitoring.memory_health import diagnose
from memae_tf.training.monitoring.monitor import sample_budget
from memae_tf.training.trainer import kept_epoch
from memae_tf.training.training_health import diagnose_training


def summarize(
    config: Config,
    dataset: Dataset,
    scores: Scores,
    history: list[dict],
    model: MemAE | None = None,
) -> dict:
    """All of metrics.json.

    Args:
        config: The experiment.
        dataset: Its data.
        scores: The scores of its training and test data.
        history: An entry for each epoch.
        model: The trained model; `None` for baselines, which have no early stopping, variants,
            diagnosis and memory.
    """
    seconds = sum(epoch["seconds"] for epoch in history)
    kept, diagnosis, memory = history[-1], None, None
    if model is not None:
        kept = kept_epoch(history, config.training)
        batch_size = dataset.featurizer.batch_size
        features = some_features(model, dataset)
        diagnosis = diagnose_training(model, features, history, config.training, batch_size)
        memory = memory_health(model, features, batch_size)
    return {
        **measure(scores, dataset, config.evaluation),
        "model": config.model.name,
        "variant": getattr(config.model, "variant", None),
        "seed": config.training.seed,
        "epochs": len(history),
        "kept_epoch": kept["epoch"],
        "final_loss": kept["loss"],
        "diagnosis": diagnosis,
        "memory": memory,
        "train_seconds": round(seconds, 3),
        "samples_per_second": round(_trained(dataset, history) / seconds, 1),
        "versions": versions(),
    }


def _trained(dataset: Dataset, history: list[dict]) -> float:
    """The samples that were trained on, summed over epochs; baselines train on all of them."""
    everything = count(dataset.train)
    return sum(
        entry["samples_per_second"] * entry["seconds"]
        if "samples_per_second" in entry
        else everything
        for entry in history
    )


def some_features(model: MemAE, dataset: Dataset) -> np.ndarray:
    """Features of a part of the training data, spread evenly over all of them."""
    most = sample_budget(model, dataset.featurizer.feature_shape)
    # The first samples may all be of one video or, in a sorted file, of one kind.
    part = slice(None, None, -(-count(dataset.train) // most))
    return featurize(dataset.featurizer, take(dataset.train, part))


def memory_health(model: MemAE, features: np.ndarray, batch_size: int) -> dict | None:
    """`MemoryUnit.health` over features, and its `diagnosis` in words (`None` if all is well).

    It is `None` for a model without a memory.
    """
    if model.memory is None:
        return None
    health = model.memory.health(model.addressing(features, batch_size))
    return {**health, "diagnosis": diagnose(health, model.memory.num_slots)}


def versions() -> dict[str, str]:
    """Versions of the software that the results depend on."""
    return {
        "memae_tf": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
