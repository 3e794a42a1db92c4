"""The results of a benchmark's cells together: JSON, tables, curves."""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from memae_tf.config import BenchmarkConfig
from memae_tf.errors import UserError
from memae_tf.evaluation.figures import literal
from memae_tf.files import whole_file, written
from memae_tf.training.monitoring.record_tables import markdown_table

SIMULATED = "SIMULATED data: these figures are not results."


def write_results(benchmark: BenchmarkConfig, results: list[dict], workdir: Path) -> str:
    """Writes results.json, table.md and, where asked for, curves.png; gives the text of the table.

    Args:
        benchmark: The grid.
        results: From `run_grid` or `finished`.
        workdir: The folder to write to.

    Raises:
        UserError: If a file cannot be written, or the results do not go together.
    """
    with written(workdir), whole_file(workdir / "results.json") as aside:
        aside.write_text(to_json(results))
    if benchmark.mean_of is not None or benchmark.curves_over is not None:
        require_labels(results, "roc_auc")
    if benchmark.mean_of is None:
        text = table(results, benchmark.published)
    else:
        text = mean_table(results, benchmark, "roc_auc")
    text = provenance(results) + text + diagnoses(results)
    with written(workdir), whole_file(workdir / "table.md") as aside:
        aside.write_text(text)
    if benchmark.curves_over is not None:
        figure = curves_figure(results, benchmark, "roc_auc")
        with written(workdir), whole_file(workdir / "curves.png") as aside:
            figure.savefig(aside, format="png", dpi=110)
    return text


def require_labels(results: list[dict], metric: str) -> None:
    """Refuses results without a metric, which only labelled data have.

    Raises:
        UserError: If a cell lacks it.
    """
    if any(result["metrics"][metric] is None for result in results):
        raise UserError(
            f"mean_of, curves_over: some cells have no {metric}, as there are no labels; leave "
            "both out for a table, or name data.label"
        )


def to_json(results: list[dict]) -> str:
    """Choices, seed and metrics of every cell, a line each, to be kept beside a table."""
    lines = [
        json.dumps({key: result[key] for key in ("choices", "seed", "metrics")})
        for result in results
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def provenance(results: list[dict]) -> str:
    """The text to put before the figures: a warning if the data are simulated, else nothing.

    Raises:
        UserError: If some cells are of simulated data and others of real ones.
    """
    simulated = {result["metrics"].get("simulated", False) for result in results}
    if len(simulated) > 1:
        raise UserError(
            "some cells are of simulated data and others are not; delete the former in cells/, and "
            "the same command runs them again"
        )
    return f"{SIMULATED}\n\n" if True in simulated else ""


def table(results: list[dict], published: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each combination of choices, mean ± standard deviation over seeds."""
    columns = {
        "precision": lambda m: m["precision"],
        "recall": lambda m: m["recall"],
        "f1": lambda m: m["f1"],
        **{
            f"f1 {name}": lambda m, name=name: m["thresholds"].get(name, {}).get("f1")
            for name in dict.fromkeys(n for r in results for n in r["metrics"]["thresholds"])
        },
        "roc_auc": lambda m: m["roc_auc"],
        "average_precision": lambda m: m["average_precision"],
        # Of video.
        **{
            name: lambda m, name=name: m.get(name)
            for name in ("micro_auc_minmax", "micro_auc_raw", "macro_auc")
            if any(name in r["metrics"] for r in results)
        },
    }
    axes = list(results[0]["choices"])
    rows = [[*axes, "runs", *columns, "seconds"]]
    for name, figures in published.items():
        cells = [_fixed(figures.get(column)) for column in columns]
        rows.append([f"{name}, published", *[""] * len(axes), *cells, ""])
    groups: dict[tuple, list[dict]] = {}
    for result in results:
        groups.setdefault(tuple(result["choices"].values()), []).append(result["metrics"])
    for choices, runs in groups.items():
        cells = [_mean_std([column(run) for run in runs]) for column in columns.values()]
        seconds = f"{np.mean([run['train_seconds'] for run in runs]):.1f}"
        rows.append([*choices, str(len(runs)), *cells, seconds])
    return _markdown(rows)


def diagnoses(results: list[dict]) -> str:
    """Markdown: a line for each cell whose training or memory has failed, and why."""
    lines = []
    for result in results:
        metrics = result["metrics"]
        said = (metrics.get("diagnosis"), (metrics.get("memory") or {}).get("diagnosis"))
        name = "/".join([*result["choices"].values(), f"seed-{result['seed']}"])
        lines += [f"- {name}: {why}" for why in said if why]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def mean_table(results: list[dict], benchmark: BenchmarkConfig, metric: str) -> str:
    """Markdown: a metric as its mean over the axis `mean_of`, and for each of its choices.

    A row has the published figure, then the mean ± standard deviation over seeds of the mean over
    the axis, then the mean over seeds for each choice. A seed that lacks a choice does not count as
    a run: it only shows in the columns of the choices that it has.

    Args:
        results: From `run_grid`.
        benchmark: The grid; `published` has {metric: value} by the names of the other axes'
            choices, joined with "/".
        metric: In the cells' metrics, such as "roc_auc".
    """
    axis = benchmark.mean_of
    choices = list(benchmark.axes[axis])
    others = [name for name in results[0]["choices"] if name != axis]
    # (choices of the other axes) -> seed -> choice of the axis -> metric
    groups: dict[tuple, dict[int, dict[str, float]]] = {}
    for result in results:
        group = groups.setdefault(tuple(result["choices"][name] for name in others), {})
        group.setdefault(result["seed"], {})[result["choices"][axis]] = result["metrics"][metric]
    rows = [[*others, "published", "runs", f"{metric}, mean of {axis}", *choices]]
    for key, seeds in groups.items():
        means = [np.mean(list(run.values())) for run in seeds.values() if len(run) == len(choices)]
        each = [
            f"{np.mean(values):.3f}" if values else ""
            for choice in choices
            for values in [[run[choice] for run in seeds.values() if choice in run]]
        ]
        reported = _fixed(benchmark.published.get("/".join(key), {}).get(metric))
        mean = _mean_std(means) if means else ""
        rows.append([*key, reported, str(len(means)), mean, *each])
    return _markdown(rows)


def curves_figure(results: list[dict], benchmark: BenchmarkConfig, metric: str) -> Figure:
    """A metric over the axis `curves_over`, whose choices are numbers.

    A panel for each choice of the first of the other axes, a line for each combination of the
    rest. A point is the mean over `mean_of` and over seeds, its bar the standard deviation over
    seeds; as in `mean_table`, a seed that lacks a choice of `mean_of` does not count.

    Args:
        results: From `run_grid`.
        benchmark: The grid.
        metric: In the cells' metrics, such as "roc_auc".

    Raises:
        UserError: If no seed has all choices of `mean_of`.
    """
    over, mean_of = benchmark.curves_over, benchmark.mean_of
    whole = len(benchmark.axes[mean_of]) if mean_of else 1
    lines = _lines(results, over, mean_of, whole, metric)
    if not lines:
        raise UserError(f"curves_over: no seed has run with every {mean_of} yet; run more cells")
    panels = list(dict.fromkeys(key[:1] for key in lines))
    labels = list(dict.fromkeys(literal(", ".join(key[1:])) for key in lines))
    numbers = sorted({number for x, _, _ in lines.values() for number in x})
    shown = {}
    figure = Figure(figsize=(1 + 4.2 * len(panels), 4.2), layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False).flat, panels, strict=True
    ):
        for key, (x, mean, std) in lines.items():
            if key[:1] == panel:
                label = literal(", ".join(key[1:]))
                # The same colour in every panel, whether or not the others have run.
                color = f"C{labels.index(label)}"
                shown[label] = axes.errorbar(
                    x, mean, std, marker="o", capsize=2, label=label, color=color
                )
        axes.set_xscale(**_scale(numbers))
        axes.set(xlabel=literal(over), title=literal("".join(panel)))
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.figure.axes[0].set_ylabel(metric)
    figure.suptitle(provenance(results).strip() or None)
    if any(key[1:] for key in lines):
        # Beside the panels, where it hides no line.
        figure.legend(
            [shown[label] for label in labels], labels, loc="outside right center", fontsize=8
        )
    return figure


def _scale(numbers: list[float]) -> dict:
    """Arguments of `set_xscale`: logarithmic; if there is a 0, linear up to the next number."""
    if min(numbers) > 0:
        return {"value": "log"}
    return {"value": "symlog", "linthresh": min((abs(n) for n in numbers if n), default=1.0)}


def _lines(results: list[dict], over: str, mean_of: str | None, whole: int, metric: str) -> dict:
    """By the choices of the other axes, a curve: numbers in rising order, means, deviations.

    A seed counts that has `whole` values at a number.
    """
    others = [name for name in results[0]["choices"] if name not in (over, mean_of)]
    # (choices of the other axes) -> number -> seed -> metrics
    lines: dict[tuple, dict[float, dict[int, list[float]]]] = {}
    for result in results:
        line = lines.setdefault(tuple(result["choices"][name] for name in others), {})
        point = line.setdefault(float(result["choices"][over]), {})
        point.setdefault(result["seed"], []).append(result["metrics"][metric])
    curves = {}
    for key, line in lines.items():
        points = {
            x: [np.mean(values) for values in line[x].values() if len(values) == whole]
            for x in sorted(line)
        }
        points = {x: means for x, means in points.items() if means}
        if points:
            mean, std = ([f(means) for means in points.values()] for f in (np.mean, np.std))
            curves[key] = list(points), mean, std
    return curves


def _markdown(rows: list[list[str]]) -> str:
    # A bar in the name of a choice would begin a new cell.
    return markdown_table([[cell.replace("|", r"\|") for cell in row] for row in rows]) + "\n"


def _mean_std(values: list[float | None]) -> str:
    if None in values:
        return ""
    # A single run has no deviation.
    if len(values) == 1:
        return _fixed(*values)
    # NumPy's default, over n: it describes these runs and does not estimate others.
    return f"{np.mean(values):.4f} ± {np.std(values):.4f}"


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
