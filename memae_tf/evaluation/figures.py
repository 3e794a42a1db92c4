"""Figures of scores, for the report and for TensorBoard."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from memae_tf.evaluation.evaluate import Scores

NORMAL, ANOMALY = "#3b6ea5", "#c0392b"


def score_figure(scores: Scores, threshold: float) -> Figure:
    """Histograms of the scores of normal data and of anomalies, and the threshold."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    if scores.test is None:
        groups = [("training data", scores.train, NORMAL)]
    else:
        groups = [
            ("normal test data", scores.test[scores.labels == 0], NORMAL),
            ("anomalies", scores.test[scores.labels == 1], ANOMALY),
        ]
    values = np.concatenate([group for _, group, _ in groups])
    low = max(values[values > 0].min(initial=1.0), 1e-6)
    bins = np.geomspace(low, max(values.max(), low * 10), 80)
    for name, group, color in groups:
        axes.hist(np.maximum(group, low), bins, alpha=0.6, label=name, color=color)
    axes.axvline(threshold, color="black", linestyle="--", label="threshold")
    axes.set(xscale="log", yscale="log", xlabel="anomaly score", ylabel="samples", title="Scores")
    axes.legend()
    return figure


def curves_figure(scores: Scores) -> Figure:
    """The ROC curve, and precision against recall."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    fpr, tpr, _ = roc_curve(scores.labels, scores.test)
    roc.plot(fpr, tpr, color=NORMAL)
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    precision, recall, _ = precision_recall_curve(scores.labels, scores.test)
    pr.plot(recall, precision, color=NORMAL)
    pr.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    return figure


def image_figure(
    title: str,
    images: np.ndarray,
    reconstructions: np.ndarray,
    heat_maps: np.ndarray,
    scores: np.ndarray,
    brightest: float,
) -> Figure:
    """Images above their reconstructions and their heat maps, a column each.

    Args:
        title: Above all.
        images: uint8 (images, height, width, 1 or 3).
        reconstructions: Of the same shape.
        heat_maps: Float (images, height, width), squared errors.
        scores: Float (images,).
        brightest: The squared error that is the upper end of the heat maps' colours.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    figure.suptitle(title)
    rows = figure.subplots(3, len(images), squeeze=False)
    for column, score in enumerate(scores):
        rows[0, column].set_title(f"{score:.3g}", fontsize=8)
        for row, picture in ((0, images), (1, reconstructions)):
            # Without a channel axis, Matplotlib takes an image for a grey one.
            shown = picture[column].squeeze(-1) if picture.shape[-1] == 1 else picture[column]
            rows[row, column].imshow(shown, cmap="gray", vmin=0, vmax=255)
        # Roots, or all but the largest errors would be black.
        heat = np.sqrt(heat_maps[column])
        rows[2, column].imshow(heat, cmap="inferno", vmin=0, vmax=max(brightest, 1e-12) ** 0.5)
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
    for axes, name in zip(rows[:, 0], ("image", "rebuilt", "error"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    return figure
