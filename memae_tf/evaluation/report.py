"""The report of a run: one HTML page, figures included."""

import base64
import html
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from keras import ops
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memae_tf.data import Dataset
from memae_tf.data.clips import Clips, span
from memae_tf.data.dataset import Images, count, take
from memae_tf.evaluation.evaluate import Scores
from memae_tf.evaluation.figures import (
    ANOMALY,
    NORMAL,
    curves_figure,
    image_figure,
    regularity_figure,
    score_figure,
    slots_figure,
)
from memae_tf.layers import ClipFeaturizer, ImageFeaturizer, RecordFeaturizer
from memae_tf.models import Detector

# Field errors and slot use of more samples than this look the same and cost more.
MAX_EXPLAINED = 20_000
SHOWN_IMAGES = 10
SHOWN_SLOTS = 30
SHOWN_VIDEOS = 12  # in a figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .25rem .9rem; border-bottom: 1px solid #ddd; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% }
.warning { background: #fdecea; border-left: 4px solid #c0392b; padding: .6rem 1rem }
small { color: #666 }
"""


def write_report(
    path: Path,
    metrics: dict,
    scores: Scores,
    history: list[dict],
    detector: Detector,
    dataset: Dataset,
) -> None:
    """Writes the report of a run.

    Args:
        path: The HTML file.
        metrics: As in metrics.json.
        scores: The scores of training and test data.
        history: An entry for each epoch.
        detector: Explains a part of the test data.
        dataset: The raw data.
    """
    title = f"{metrics['variant']} on {metrics['dataset']}"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if metrics["simulated"]:
        parts.append(
            '<p class="warning">These data are <b>simulated</b>, in place of the real set. '
            "The figures on this page are not results.</p>"
        )
    if metrics["diagnosis"] is not None:
        parts.append(f'<p class="warning">{html.escape(metrics["diagnosis"])}</p>')
    threshold = float(ops.convert_to_numpy(detector.threshold))
    parts += [_summary(metrics, threshold), _picture(score_figure(scores, metrics["threshold"]))]
    if scores.videos:
        parts += [_frame_aucs(metrics), _regularity(scores, metrics["threshold"])]
    if scores.labels is not None:
        explain = _explanation(dataset)
        parts += [_picture(curves_figure(scores)), explain(detector, dataset, scores)]
    parts += [_picture(loss_figure(history)), _memory(metrics), _versions(metrics)]
    body = "\n".join(part for part in parts if part)
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{STYLE}</style>\n<body>{body}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _summary(metrics: dict, threshold: float) -> str:
    rows = [(metrics["threshold_name"], metrics)]
    rows += [row for row in metrics["thresholds"].items() if row[0] != metrics["threshold_name"]]
    table = [["threshold", "value", "precision", "recall", "F1"]]
    for name, figures in rows:
        note = " (oracle: chosen on the test labels)" if name == "best_f1" else ""
        values = (figures[key] for key in ("threshold", "precision", "recall", "f1"))
        table.append([name + note, *map(number, values)])
    facts = (
        f"Protocol {metrics['protocol']}, seed {metrics['seed']}: "
        f"{metrics['train_records']:,} training samples, {metrics['test_records']:,} test samples, "
        f"{metrics['test_anomalies']:,} of them anomalies. "
    )
    if metrics["roc_auc"] is not None:
        facts += (
            f"ROC AUC {metrics['roc_auc']:.4f}, "
            f"average precision {metrics['average_precision']:.4f}. "
        )
    epochs, kept = metrics["epochs"], metrics["kept_epoch"]
    facts += f"{epochs} epoch{'s' if epochs > 1 else ''} in {metrics['train_seconds']:.1f} s"
    facts += f", of which epoch {kept} was the best and is kept." if kept < epochs else "."
    note = "Training sets the detector's threshold to the first one."
    # Somebody may have saved another one since.
    if threshold != np.float32(metrics["threshold"]):
        note += f" Now it is {number(threshold)}."
    return f"<p>{html.escape(facts)}</p>{_table(table)}<p>{note}</p>"


def _explanation(dataset: Dataset) -> Callable[[Detector, Dataset, Scores], str]:
    """The function that shows why test samples have their scores, by the kind of data."""
    kinds = {RecordFeaturizer: _fields, ImageFeaturizer: _images, ClipFeaturizer: _frames}
    return kinds[type(dataset.featurizer)]


def _frame_aucs(metrics: dict) -> str:
    if "macro_auc" not in metrics:
        return ""
    names = {
        "micro_auc_minmax": "micro, the scores of each video scaled to [0, 1] (as in the paper; "
        "needs whole videos)",
        "micro_auc_raw": "micro, unscaled scores (the ROC AUC above)",
        "macro_auc": "macro, the mean of the AUCs of single videos",
    }
    table = [[text, number(metrics[key])] for key, text in names.items()]
    return _table([["AUC over frames", ""], *table])


def _regularity(scores: Scores, threshold: float) -> str:
    """The curves of all test videos."""
    starts = range(0, len(scores.videos), SHOWN_VIDEOS)
    figures = (
        regularity_figure(scores.videos[start : start + SHOWN_VIDEOS], threshold)
        for start in starts
    )
    return "<h2>Videos</h2>" + "".join(map(_picture, figures))


def loss_figure(history: list[dict]) -> Figure:
    """The reconstruction loss of every epoch, and that of held-out samples if there are any."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot()
    epochs = [entry["epoch"] for entry in history]
    # A line with a single point is invisible.
    marker = "o" if len(epochs) == 1 else None
    lines = {"reconstruction": ("training", NORMAL)}
    if "validation_loss" in history[0]:
        lines["validation_loss"] = ("validation", ANOMALY)
    for key, (label, color) in lines.items():
        losses = [entry[key] for entry in history]
        axes.plot(epochs, losses, color=color, marker=marker, label=label)
    if len(lines) > 1:
        axes.legend()
    axes.set(xlabel="epoch", ylabel="reconstruction loss", title="Training")
    # A loss with "repel" becomes negative; one of held-out samples may be NaN.
    is_positive = not any(entry[key] <= 0 for entry in history for key in lines)
    axes.set_yscale("log" if is_positive else "linear")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _fields(detector: Detector, dataset: Dataset, scores: Scores) -> str:
    """The fields whose errors are larger for anomalies than for normal records."""
    step = -(-count(dataset.test) // MAX_EXPLAINED)
    part = slice(None, None, step)
    errors = detector.detect(take(dataset.test, part), explain=True)["field_error"]
    labels = scores.labels[part]
    if len(np.unique(labels)) < 2:
        return ""
    normal, anomalous = errors[labels == 0].mean(axis=0), errors[labels == 1].mean(axis=0)
    table = [["field", "mean error, normal", "mean error, anomalies"]]
    order = np.argsort(normal - anomalous)[:10]
    for index in order[anomalous[order] > normal[order]]:
        name = detector.field_names[index]
        table.append([name, number(normal[index]), number(anomalous[index])])
    if len(table) == 1:
        return ""
    return f"<h2>Fields with larger errors for anomalies</h2>{_table(table)}"


def _images(detector: Detector, dataset: Dataset, scores: Scores) -> str:
    """Test images with extreme scores, normal and anomalous: reconstructions and heat maps."""
    order = np.argsort(scores.test, kind="stable")
    labels = scores.labels[order]
    groups = {
        "Most normal images": order[:SHOWN_IMAGES],
        "Normal images with the highest scores": order[labels == 0][::-1][:SHOWN_IMAGES],
        "Anomalies with the highest scores": order[labels == 1][::-1][:SHOWN_IMAGES],
        "Anomalies with the lowest scores": order[labels == 1][:SHOWN_IMAGES],
    }
    explained = {
        title: _explained(detector, take(dataset.test, chosen)) for title, chosen in groups.items()
    }
    figures = _example_figures(explained)
    if detector.model.memory is not None:
        figures.append(_slots_figure(detector, dataset))
    return "<h2>Images</h2>" + "".join(map(_picture, figures))


def _slots_figure(detector: Detector, dataset: Dataset) -> Figure:
    """What the slots that training data use most decode to."""
    model, featurizer = detector.model, detector.featurizer
    step = -(-count(dataset.train) // MAX_EXPLAINED)
    use = 0.0
    for _, batch in featurizer.batches(
        take(dataset.train, slice(None, None, step)), featurizer.batch_size
    ):
        code = model.encode(featurizer(batch))
        addressing = ops.convert_to_numpy(model.memory(code, return_addressing=True)[1])
        use = use + addressing.reshape(-1, addressing.shape[-1]).sum(axis=0, dtype="float64")
    use = use / max(use.sum(), 1e-12)
    slots = np.argsort(-use, kind="stable")[:SHOWN_SLOTS]
    reads = model.slot_reads(slots, featurizer.feature_shape)
    images = featurizer.inverse(model.decode(reads))
    return slots_figure("What slots decode to, and their share of the use", images, use[slots])


def _frames(detector: Detector, dataset: Dataset, scores: Scores) -> str:
    """Test frames with extreme scores, normal and abnormal: reconstructions and heat maps."""
    places = np.array(
        [(v, frame) for v, video in enumerate(scores.videos) for frame in range(len(video.scores))]
    )
    values = np.concatenate([video.scores for video in scores.videos])
    labels = np.concatenate([video.labels for video in scores.videos])
    scored = np.isfinite(values)
    places, values, labels = places[scored], values[scored], labels[scored]
    order = np.argsort(values, kind="stable")
    groups = {
        "Most normal frames": order,
        "Normal frames with the highest scores": order[labels[order] == 0][::-1],
        "Abnormal frames with the highest scores": order[labels[order] == 1][::-1],
        "Abnormal frames with the lowest scores": order[labels[order] == 1],
    }
    explained = {}
    for title, ranked in groups.items():
        chosen = _apart(places[ranked], detector.featurizer.length)
        explained[title] = _explained_frames(detector, dataset, places[ranked[chosen]])
        explained[title] += (values[ranked[chosen]],)
    return "<h2>Frames</h2>" + "".join(map(_picture, _example_figures(explained)))


def _example_figures(explained: dict[str, tuple]) -> list[Figure]:
    """A figure for each group of images, by titles: images, reconstructions, heat maps, scores."""
    # One scale for all groups, so that their brightness can be compared.
    brightest = max(float(maps.max()) for _, _, maps, _ in explained.values())
    return [image_figure(title, *rows, brightest) for title, rows in explained.items()]


def _apart(places: np.ndarray, distance: int) -> list[int]:
    """Indices of the first places (video, frame) that are not within `distance` of another."""
    chosen: list[int] = []
    for index, (video, frame) in enumerate(places):
        near = (
            places[other][0] == video and abs(places[other][1] - frame) < distance
            for other in chosen
        )
        if not any(near):
            chosen.append(index)
        if len(chosen) == SHOWN_IMAGES:
            break
    return chosen


def _explained_frames(detector: Detector, dataset: Dataset, places: np.ndarray) -> tuple:
    """Frames as the model sees them, if possible in the middle of a clip; their reconstructions and
    heat maps.
    """
    test = dataset.test
    back = test.length // 2 * test.frame_stride
    lengths = np.array([len(video.frames) for video in test.videos])[places[:, 0]]
    latest = lengths - span(test.length, test.frame_stride)
    starts = np.clip(places[:, 1] - back, 0, latest)
    shown = (places[:, 1] - starts) // test.frame_stride
    clips = Clips(
        test.videos, test.length, test.frame_stride, np.stack([places[:, 0], starts], axis=1)
    )
    rows = np.arange(len(places))
    pictures, rebuilt, heat_maps, _ = _explained(detector, clips)
    return pictures[rows, shown], rebuilt[rows, shown], heat_maps[rows, shown]


def _explained(detector: Detector, raw: Images | Clips) -> tuple:
    """Images or clips as the model sees them; their reconstructions, heat maps and scores."""
    featurizer = detector.featurizer
    answer = detector.detect(raw, explain=True)
    features = np.empty((len(raw), *featurizer.feature_shape), "float32")
    for places, batch in featurizer.batches(raw, len(raw)):
        features[places] = ops.convert_to_numpy(featurizer(batch))
    rebuilt = featurizer.inverse(detector.model(features, training=False))
    return featurizer.inverse(features), rebuilt, answer["heat_map"], answer["score"]


def _memory(metrics: dict) -> str:
    if metrics["memory"] is None:
        return ""
    names = {
        "live_share": "share of queries that keep a slot after shrinkage",
        "slots_per_query": "mean number of slots that a query keeps",
        "slots_used": "slots in use",
        "dead_slots": "slots that no query keeps",
        "perplexity": "perplexity of use",
        "largest_weight": "mean of the largest addressing weights",
    }
    table = [[text, number(metrics["memory"][key])] for key, text in names.items()]
    diagnosis = metrics["memory"]["diagnosis"]
    warning = f'<p class="warning">{html.escape(diagnosis)}</p>' if diagnosis else ""
    return f"<h2>Memory</h2>{warning}{_table([['on training data', ''], *table])}"


def _versions(metrics: dict) -> str:
    text = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    return f"<p><small>{html.escape(text)}</small></p>"


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = [f"<tr>{cells}</tr>"]
    for first, *others in body:
        numbers = "".join(f'<td class="number">{html.escape(cell)}</td>' for cell in others)
        lines.append(f"<tr><td>{html.escape(first)}</td>{numbers}</tr>")
    return f"<table>{''.join(lines)}</table>"


def number(value: float | int | None) -> str:
    """A number as text for a table."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    # Four significant digits for small ones, too: errors of footage are small.
    return f"{value:.4f}" if abs(value) >= 0.1 or value == 0 else f"{value:#.4g}"


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    title = figure.get_suptitle() or figure.axes[0].get_title()
    return f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{data}"></p>'
