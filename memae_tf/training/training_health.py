"""Signs of a training that failed although its numbers are finite, in words."""

import numpy as np

from memae_tf.config import TrainingConfig
from memae_tf.models import MemAE
from memae_tf.training.trainer import kept_epoch

# In the sound runs of docs/results, the loss ends at a tenth of the first epoch's or less, and the
# error is far below that of zeros. A learning rate that is much too high may ruin the weights
# within the first epoch, and then the loss falls from epoch to epoch: hence both rules.
LARGEST_RISE = 2.0
LARGEST_ERROR = 2.0
# A loss that fell and rose again: sound runs of docs/results end within 1.09 of their lowest, those
# whose memory lost queries late at 1.5 of it. Where little is left to learn, such steps are noise:
# hence the share of the first epoch's loss, too (there 0.03).
LARGEST_RELAPSE = 1.3
SMALLEST_RELAPSE = 0.01


def diagnose_training(
    model: MemAE,
    features: np.ndarray,
    history: list[dict],
    training: TrainingConfig,
    batch_size: int,
) -> str | None:
    """Finds out whether a training has failed although all its numbers are finite.

    Args:
        model: The trained model.
        features: Features of training data, (samples, ...).
        history: An entry for each epoch.
        training: The `training` section.
        batch_size: Samples that are scored at a time.

    Returns:
        A line saying that the loss rose, or rose again after it had fallen, that zeros would be a
        better reconstruction, or that clips that should repel do not, with the figures and what to
        try; `None` if nothing is wrong.
    """
    kept = kept_epoch(history, training)
    pseudo = training.pseudo_anomalies
    # With "repel" some samples have negative losses, so a rise says nothing.
    repels = pseudo is not None and pseudo.loss == "repel"
    if not repels and kept["loss"] > LARGEST_RISE * history[0]["loss"]:
        return (
            f"the training loss rose, from {history[0]['loss']:.4g} in epoch 1 to "
            f"{kept['loss']:.4g} in epoch {kept['epoch']}; a lower training.learning_rate than "
            f"{training.learning_rate:g} may help"
        )
    error = float(np.mean(model.score(features, batch_size), dtype="float64"))
    squares = np.sum(np.square(features, dtype="float64"), axis=tuple(range(1, features.ndim)))
    of_zeros = float(squares.mean()) / (1 if model.reduction == "sum" else features[0].size)
    # Without any variation in the data, zeros are exact.
    if error > LARGEST_ERROR * of_zeros > 0:
        return (
            f"the model has learned nothing: the mean error of training samples is {error:.4g}, "
            f"but would be {of_zeros:.4g} if its output were all zeros; a lower "
            f"training.learning_rate than {training.learning_rate:g}, or more epochs, may help"
        )
    lowest = min(history[: kept["epoch"]], key=lambda entry: entry["loss"])
    relapse = max(
        LARGEST_RELAPSE * lowest["loss"], lowest["loss"] + SMALLEST_RELAPSE * history[0]["loss"]
    )
    if not repels and kept["loss"] > relapse:
        return (
            f"the training loss rose again, from {lowest['loss']:.4g} in epoch {lowest['epoch']} "
            f"to {kept['loss']:.4g} in epoch {kept['epoch']}; a lower training.learning_rate than "
            f"{training.learning_rate:g}, or fewer training.epochs, may help"
        )
    if repels and kept["reconstruction"] > 0:
        return (
            "the network does not tell the clips that repel from others yet: their errors should "
            "bring the reconstruction loss below 0, and in epoch "
            f"{kept['epoch']} it is {kept['reconstruction']:.4g}; more training.epochs, or larger "
            "shares in training.pseudo_anomalies, may help"
        )
    return None
