"""The report of a run: one HTML page with its figures inside."""

import base64
import html
import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from memae_tf.data import Dataset
from memae_tf.data.dataset import count, take
from memae_tf.evaluation.evaluate import Scores
from memae_tf.evaluation.figures import NORMAL, curves_figure, score_figure
from memae_tf.models import Detector

# Field errors and curves of more records than this look the same and cost more.
MAX_EXPLAINED = 20_000

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
        path: Of the HTML file.
        metrics: As in metrics.json.
        scores: Of training and test data.
        history: An entry for each epoch.
        detector: Explains a part of the test records field by field.
        dataset: The records.
    """
    title = f"{metrics['variant']} on {metrics['dataset']}"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if metrics["simulated"]:
        parts.append(
            '<p class="warning">These are <b>simulated</b> data, a stand-in for the real set. '
            "No figure on this page is a result.</p>"
        )
    parts += [_summary(metrics), _picture(score_figure(scores, metrics["threshold"]))]
    if scores.test is not None:
        parts += [_picture(curves_figure(scores)), _fields(detector, dataset, scores)]
    parts += [_picture(_loss_figure(history)), _memory(metrics), _versions(metrics)]
    body = "\n".join(part for part in parts if part)
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{STYLE}</style>\n<body>{body}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _summary(metrics: dict) -> str:
    rows = [(metrics["threshold_name"], metrics)]
    rows += list(metrics["thresholds"].items())
    table = [["threshold", "value", "precision", "recall", "F1"]]
    for name, figures in rows:
        note = " (oracle: chosen on the test labels)" if name == "best_f1" else ""
        values = (figures[key] for key in ("threshold", "precision", "recall", "f1"))
        table.append([name + note, *map(_number, values)])
    facts = (
        f"Protocol {metrics['protocol']}, seed {metrics['seed']}: "
        f"{metrics['train_records']:,} training records, {metrics['test_records']:,} test records, "
        f"{metrics['test_anomalies']:,} of them anomalies. "
    )
    if metrics["roc_auc"] is not None:
        facts += (
            f"ROC AUC {metrics['roc_auc']:.4f}, "
            f"average precision {metrics['average_precision']:.4f}. "
        )
    facts += f"{metrics['epochs']} epochs in {metrics['train_seconds']:.1f} s."
    note = "The detector carries the first threshold."
    return f"<p>{html.escape(facts)}</p>{_table(table)}<p>{note}</p>"


def _loss_figure(history: list[dict]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.add_subplot()
    epochs = [entry["epoch"] for entry in history]
    axes.plot(epochs, [entry["reconstruction"] for entry in history], color=NORMAL)
    axes.set(yscale="log", xlabel="epoch", ylabel="reconstruction loss", title="Training")
    return figure


def _fields(detector: Detector, dataset: Dataset, scores: Scores) -> str:
    """The fields in which anomalies differ most from what the memory can rebuild."""
    step = -(-count(dataset.test) // MAX_EXPLAINED)
    part = slice(None, None, step)
    errors = detector.detect(take(dataset.test, part), explain=True)["field_error"]
    labels = scores.labels[part]
    if len(np.unique(labels)) < 2:
        return ""
    normal, anomalous = errors[labels == 0].mean(axis=0), errors[labels == 1].mean(axis=0)
    table = [["field", "mean error, normal", "mean error, anomalies"]]
    for index in np.argsort(normal - anomalous)[:10]:
        name = detector.field_names[index]
        table.append([name, _number(normal[index]), _number(anomalous[index])])
    return f"<h2>Fields that give anomalies away</h2>{_table(table)}"


def _memory(metrics: dict) -> str:
    if metrics["memory"] is None:
        return ""
    names = {
        "live_share": "share of records that keep a slot after shrinkage",
        "slots_per_query": "slots that a record keeps, mean",
        "slots_used": "slots in use",
        "dead_slots": "slots that no record keeps",
        "perplexity": "perplexity of use",
        "largest_weight": "largest addressing weight, mean",
    }
    table = [[text, _number(metrics["memory"][key])] for key, text in names.items()]
    diagnosis = metrics["memory"]["diagnosis"]
    warning = f'<p class="warning">{html.escape(diagnosis)}</p>' if diagnosis else ""
    return f"<h2>Memory</h2>{warning}{_table([['on training records', ''], *table])}"


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


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _picture(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    title = figure.axes[0].get_title()
    return f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{data}"></p>'
