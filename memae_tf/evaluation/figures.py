"""Figures of scores, for the report and for TensorBoard."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from memae_tf.evaluation.evaluate import Scores
from memae_tf.evaluation.metrics import VideoScores, minmax, video_auc

GAP = 2  # pixels between images
COLUMNS = 10  # images in a row
NORMAL, ANOMALY = "#3b6ea5", "#c0392b"


def literal(name: str) -> str:
    """A name with $ escaped: Matplotlib sets what is between two of them as mathematics."""
    return name.replace("$", r"\$")


def score_figure(scores: Scores, threshold: float) -> Figure:
    """Histograms of the scores of normal data and of anomalies, and the threshold."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    if scores.labels is None:
        groups = [("training data", scores.train, NORMAL)]
        if scores.test is not None:
            groups.append(("test data", scores.test, ANOMALY))
    else:
        groups = [
            ("normal test data", scores.test[scores.labels == 0], NORMAL),
            ("anomalies", scores.test[scores.labels == 1], ANOMALY),
        ]
    values = np.concatenate([group for _, group, _ in groups])
    low = max(values[values > 0].min(initial=values.max()), 1e-6)
    bins = np.geomspace(low, max(values.max(), low * 1.01), 80)
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


def regularity_figure(videos: Sequence[VideoScores], threshold: float) -> Figure:
    """The regularity score of every frame, a row for each video, abnormal spans shaded.

    It is 1 minus the anomaly score, scaled to [0, 1] by the least and the largest one of the video
    (section 4.2 of the paper). The dashed line is the threshold, if it is between these.
    """
    figure = Figure(figsize=(9, 1 + 1.1 * len(videos)), layout="constrained")
    figure.suptitle(literal(f"Regularity, {videos[0].name} to {videos[-1].name}"))
    for axes, video in zip(figure.subplots(len(videos), squeeze=False)[:, 0], videos, strict=True):
        title = literal(video.name)
        if video.labels is not None:
            for first, stop in _spans(video.labels):
                axes.axvspan(first - 0.5, stop - 0.5, color=ANOMALY, alpha=0.2, linewidth=0)
            auc = video_auc(video)
            title += "" if auc is None else f"\nAUC {auc:.3f}"
        scores = video.scores
        if np.isfinite(scores).any():
            axes.plot(1 - minmax(scores), color=NORMAL, linewidth=1)
            low, high = np.nanmin(scores), np.nanmax(scores)
            if low < threshold < high:
                line = 1 - (threshold - low) / (high - low)
                axes.axhline(line, color="black", linestyle="--", linewidth=0.8)
        axes.set(xlim=(-0.5, len(scores) - 0.5), ylim=(-0.05, 1.05), yticks=(0, 1))
        axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
        axes.tick_params(labelsize=7)
    axes.set_xlabel("frame", fontsize=8)
    return figure


def _spans(labels: np.ndarray) -> np.ndarray:
    """Each abnormal span's first frame and the one after its last, (spans, 2)."""
    edges = np.diff(np.concatenate([[0], labels, [0]]))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def image_figure(
    title: str,
    images: np.ndarray,
    reconstructions: np.ndarray,
    heat_maps: np.ndarray,
    scores: np.ndarray,
    brightest: float,
) -> Figure:
    """Images above their reconstructions and heat maps, a column for each.

    Args:
        title: The figure's title.
        images: uint8 (images, height, width, 1 or 3).
        reconstructions: Of the same shape and dtype.
        heat_maps: Float (images, height, width), squared errors.
        scores: Float (images,).
        brightest: The squared error at the upper end of the colour map.
    """
    # Square roots, as otherwise all but the largest errors would be black.
    heat = np.sqrt(heat_maps / max(brightest, 1e-12))
    rows = {
        "image": _rgb(images),
        "rebuilt": _rgb(reconstructions),
        "error": colormaps["inferno"](heat, bytes=True)[..., :3],
    }
    captions = {"image": [f"{score:.3g}" for score in scores]}
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    figure.suptitle(title)
    for axes, (name, row) in zip(figure.subplots(3), rows.items(), strict=True):
        axes.set_ylabel(name, fontsize=8)
        _draw_strip(axes, row, captions.get(name, []))
    return figure


def slots_figure(title: str, images: np.ndarray, use: np.ndarray) -> Figure:
    """What slots decode to, each with its share of the use.

    Args:
        title: The figure's title.
        images: uint8 (slots, height, width, 1 or 3).
        use: Float (slots,).
    """
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(9, 0.4 + 1.1 * rows), layout="constrained")
    figure.suptitle(title)
    for number, axes in enumerate(figure.subplots(rows, squeeze=False).flat):
        part = slice(number * COLUMNS, (number + 1) * COLUMNS)
        row = _rgb(images[part])
        # Fills up the last row, so that its images are not enlarged.
        blank = np.full((COLUMNS - len(row), *row.shape[1:]), 255, "uint8")
        _draw_strip(axes, np.concatenate([row, blank]), [f"{share:.1%}" for share in use[part]])
    return figure


def _draw_strip(axes, images: np.ndarray, captions: Sequence[str]) -> None:
    """Draws images side by side as one picture, as axes for every image would take seconds."""
    strip = np.pad(images, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    axes.imshow(np.concatenate(list(strip), axis=1), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    width = images.shape[2]
    for column, caption in enumerate(captions):
        middle = column * (width + GAP) + width / 2
        axes.text(middle, -1, caption, ha="center", va="bottom", fontsize=8)


def _rgb(images: np.ndarray) -> np.ndarray:
    return np.broadcast_to(images, (*images.shape[:-1], 3))
