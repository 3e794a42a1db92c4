import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import run_here
from sklearn.datasets import load_digits

from memae_tf.config import BenchmarkConfig, load_benchmark, parse_config
from memae_tf.errors import UserError
from memae_tf.training.experiment import measure_system, train
from memae_tf.training.grid import (
    Cell,
    FailedCellError,
    GridProgress,
    cells,
    finished,
    run_grid,
    seconds_left,
    select,
)
from memae_tf.training.grid_results import (
    curves_figure,
    diagnoses,
    mean_table,
    provenance,
    require_labels,
    table,
)
from memae_tf.training.run_directory import RunDirectory


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Zeros and other digits, as records of 64 numbers."""
    import pandas as pd

    data = load_digits()
    table = pd.DataFrame(data.data).add_prefix("p")
    table = table.loc[:, table[data.target == 0][:120].std() > 0.5]
    table["label"] = np.where(data.target == 0, "normal", "other")
    path = tmp_path_factory.mktemp("data") / "digits.csv"
    table[:700].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def grid_file(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    (folder / "base.yaml").write_text(
        f"data: {{name: tabular, train: {records}, label: label, scaling: minmax}}\n"
        "model: {name: dense, hidden: [16], memory: {num_slots: 8}}\n"
        "training: {epochs: 2, batch_size: 16, early_stopping: {patience: 2}}\n"
    )
    path = folder / "grid.yaml"
    path.write_text(
        "base: base.yaml\n"
        "seeds: [0, 1]\n"
        "axes:\n"
        "  system:\n"
        "    kde: {model: {name: kde}}\n"
        "    ae: {model.variant: ae}\n"
        "  share:\n"
        "    half: {}\n"
        "    third: {data.test_share: 0.33}\n"
        "mean_of: share\n"
        "published:\n"
        "  kde: {roc_auc: 0.5}\n"
    )
    return path


def test_cells_of_another_folder_are_no_results_of_this_one(tmp_path):
    raw = {
        "data": {"name": "image_folder", "dir": "bottle"},
        "model": {"name": "kde"},
        "training": {"epochs": 1},
    }
    cell = Cell((("system", "kde"),), 0, parse_config(raw))
    path = tmp_path / "cells" / "kde" / "seed-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"config": cell.config.model_dump(mode="json"), "metrics": {}}))
    assert len(finished([cell], tmp_path)) == 1
    other = Cell(cell.choices, 0, parse_config(raw, ["data.dir=cable"]))
    with pytest.raises(UserError, match=r"another configuration, which differs in data\.dir"):
        finished([other], tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "7"])
def test_a_damaged_cell_is_named(tmp_path, content):
    path = tmp_path / "cells" / "kde" / "seed-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=r"kde/seed-0\.json: is damaged; delete it"):
        finished([cell(system="kde")], tmp_path)


def test_one_seed_for_all_cells_is_refused(grid_file):
    with pytest.raises(UserError, match=r"training\.seed: each cell has its own"):
        cells(load_benchmark(grid_file), grid_file, ["training.seed=5"])


def test_cells_have_one_number_of_replicas(grid_file, tmp_path):
    (tmp_path / "base.yaml").write_text((grid_file.parent / "base.yaml").read_text())
    path = tmp_path / "grid.yaml"
    # Numbers in YAML are names of choices, too.
    path.write_text(
        "base: base.yaml\nseeds: [0]\n"
        "axes: {replicas: {1: {training.replicas: 1}, 2: {training.replicas: 2}}}\n"
    )
    benchmark = load_benchmark(path)
    assert list(benchmark.axes["replicas"]) == ["1", "2"]
    with pytest.raises(UserError, match=r"training\.replicas: a process can have one number"):
        cells(benchmark, path)


def test_figures_over_an_axis_need_labels():
    def result(auc):
        return {"metrics": {"roc_auc": auc}}

    require_labels([result(0.5), result(0.7)], "roc_auc")
    with pytest.raises(UserError, match="some cells have no roc_auc, as there are no labels"):
        require_labels([result(0.5), result(None)], "roc_auc")


def test_simulated_figures_say_so():
    def result(simulated):
        return {"choices": {}, "seed": 0, "metrics": {"simulated": simulated}}

    assert provenance([result(False), result(False)]) == ""
    assert provenance([result(True)]).startswith("SIMULATED data")
    with pytest.raises(UserError, match="some cells are of simulated data"):
        provenance([result(True), result(False)])


def test_systems_of_all_kinds_run_cell_by_cell(grid_file, tmp_path):
    benchmark = load_benchmark(grid_file)
    grid = select(cells(benchmark, grid_file), ["seed=1", "share=half"])
    assert [cell.name for cell in grid] == ["kde/half/seed-1", "ae/half/seed-1"]
    shown: list[GridProgress] = []
    results = run_grid(grid[:1], tmp_path, on_progress=shown.append)
    kde = results[0]["metrics"]
    assert kde["roc_auc"] > 0.98
    assert (kde["model"], kde["variant"], kde["memory"], kde["final_loss"]) == ("kde", *[None] * 3)
    assert (kde["epochs"], kde["kept_epoch"]) == (1, 1)
    assert (shown[0].done, shown[0].seconds_left) == (0, None)
    assert (shown[-1].done, shown[-1].seconds_left) == (1, 0)
    # The finished cell is taken as it is, and says how long the other may take.
    stored = tmp_path / "cells" / "kde" / "half" / "seed-1.json"
    stored.write_text(json.dumps({**json.loads(stored.read_text()), "cell_seconds": 1000.0}))
    results = run_grid(grid, tmp_path, on_progress=shown.append)
    assert shown[2].seconds_left == 1000.0
    assert [result["metrics"]["variant"] for result in results] == [None, "ae"]


def cell(seed: int = 0, **choices: str) -> Cell:
    return Cell(tuple(choices.items()), seed, config=None)


@pytest.mark.parametrize("workers", [1, 2])
def test_cells_that_fail_are_named_and_stop_no_other(grid_file, tmp_path, workers):
    grid = cells(load_benchmark(grid_file), grid_file, ["training.learning_rate=1e30"])
    # Those that fail first.
    grid = select(grid, ["seed=1"])[::-1]
    shown: list[GridProgress] = []
    message = r"^2 of 4 cells failed .*: ae/\w+/seed-1: training diverged.*; ae/\w+/seed-1: "
    with pytest.raises(UserError, match=message):
        run_grid(grid, tmp_path, workers, shown.append)
    assert (shown[-1].done, shown[-1].seconds_left) == (2, 0)
    assert [result["choices"]["system"] for result in finished(grid, tmp_path)] == ["kde", "kde"]


def test_a_cell_that_needs_too_much_memory_stops_no_other(grid_file, tmp_path):
    raw = cells(load_benchmark(grid_file), grid_file)[0].config.model_dump(mode="json")
    raw["model"] = {"name": "dense", "hidden": [3_000_000, 3_000_000]}
    huge = Cell((("system", "huge"),), 0, parse_config(raw))
    (kde,) = select(cells(load_benchmark(grid_file), grid_file), ["seed=1", "share=half"])[:1]
    with pytest.raises(FailedCellError, match=r"huge/seed-0: out of memory \(OOM when"):
        run_grid([huge, kde], tmp_path)
    assert len(finished([huge, kde], tmp_path)) == 1


def test_the_table_of_a_grid_with_a_failed_cell(grid_file, tmp_path):
    """Through the command: the table has the others, and then it is said which failed."""
    words = [grid_file, "--workdir", tmp_path / "out", "--only", "seed=1", "--only", "share=half"]
    done = run_here("benchmark", *words, "training.learning_rate=1e30", cwd=tmp_path)
    assert done.returncode == 2
    assert "1 of 2 cells failed (finished ones are kept): ae/half/seed-1: training" in done.stderr
    assert "| kde | 0.5000 | 0 |" in (tmp_path / "out" / "table.md").read_text()


def test_of_many_cells_that_fail_all_are_named_and_some_say_why(tmp_path, monkeypatch):
    def fail(cell, _):
        raise FailedCellError(f"{cell.name}: training diverged")

    monkeypatch.setattr("memae_tf.training.grid.run_cell", fail)
    with pytest.raises(UserError) as caught:
        run_grid([cell(seed) for seed in range(7)], tmp_path)
    assert str(caught.value) == (
        "7 of 7 cells failed (finished ones are kept): "
        + "".join(f"seed-{seed}: training diverged; " for seed in range(5))
        + "and seed-5, seed-6"
    )


def test_a_full_disk_ends_a_grid_at_once(tmp_path, monkeypatch):
    (tmp_path / "cells").write_text("in the way of the folder")
    measured = []
    monkeypatch.setattr("memae_tf.training.experiment.measure_system", measured.append)
    with pytest.raises(UserError, match="cells: cannot be written"):
        run_grid([cell(seed) for seed in range(7)], tmp_path)
    assert not measured


def test_an_interruption_ends_a_grid_at_once(tmp_path, monkeypatch):
    run = []

    def interrupted(cell, _):
        run.append(cell.seed)
        raise KeyboardInterrupt

    monkeypatch.setattr("memae_tf.training.grid.run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_grid([cell(seed) for seed in range(7)], tmp_path)
    assert run == [0]


@contextlib.contextmanager
def endless_grid(grid_file: Path, workdir: Path) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    """A benchmark with two workers, and the processes that it has started."""
    words = [grid_file, "--workdir", workdir, "--workers", "2", "--only", "system=ae"]
    deadline = time.monotonic() + 120
    with subprocess.Popen(
        [sys.executable, "-m", "memae_tf.benchmark", *words, "training.epochs=1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        # Two workers, and the process that watches over what they share.
        while len(children.read_text().split()) < 3:
            assert command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield command, children.read_text().split()


def test_whoever_ends_a_grid_ends_its_workers(grid_file, tmp_path):
    """By a signal to the first process alone, as `kill` and Docker send it."""
    with endless_grid(grid_file, tmp_path) as (command, workers):
        command.send_signal(signal.SIGTERM)
        _, err = command.communicate(timeout=300)
    assert command.returncode == 143
    assert err.splitlines()[-1] == "terminated; the same command resumes from here"
    deadline = time.monotonic() + 120
    while [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_is_killed_is_one_line(grid_file, tmp_path):
    """As the system does when memory is short."""
    with endless_grid(grid_file, tmp_path) as (command, processes):
        named = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in processes}
        os.kill(
            next(int(pid) for pid, name in named.items() if "spawn_main" in name), signal.SIGKILL
        )
        _, err = command.communicate(timeout=300)
    assert command.returncode == 1
    assert err.splitlines()[-1].startswith("a worker process was killed, as the system does when")


def test_a_choice_that_is_overridden_gives_a_warning(grid_file):
    benchmark = load_benchmark(grid_file)
    with pytest.warns(
        UserWarning, match=r"^data\.test_share=0\.4: replaces what .* share=third se"
    ):
        cells(benchmark, grid_file, ["data.test_share=0.4"])
    with pytest.warns(UserWarning, match=r"replaces what the choice system=ae sets"):
        cells(benchmark, grid_file, ["model={name: kde}"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cells(benchmark, grid_file, ["training.epochs=3"])


def test_axes_may_be_renamed(grid_file, tmp_path):
    """A cell is the same whatever the grid calls it, as long as the choice has its name."""
    grid = cells(load_benchmark(grid_file), grid_file)[:1]
    run_grid(grid, tmp_path)
    renamed = Cell((("net", "kde"), ("part", "half")), grid[0].seed, grid[0].config)
    assert finished([renamed], tmp_path)[0]["choices"] == {"net": "kde", "part": "half"}


def test_what_failed_stands_below_the_table():
    def result(seed, **metrics):
        return {"choices": {"system": "memae"}, "seed": seed, "metrics": metrics}

    sound = result(0, diagnosis=None, memory={"diagnosis": None})
    baseline = result(0, diagnosis=None, memory=None)
    assert diagnoses([sound, baseline]) == ""
    bad = result(1, diagnosis="the loss rose", memory={"diagnosis": "the memory has collapsed"})
    assert diagnoses([sound, bad]).split("\n") == [
        "",
        "- memae/seed-1: the loss rose",
        "- memae/seed-1: the memory has collapsed",
        "",
    ]


def test_part_of_a_grid(grid_file):
    grid = cells(load_benchmark(grid_file), grid_file)
    chosen = select(grid, ["share=half", "system=kde", "system=ae", "seed=0"])
    assert [cell.name for cell in chosen] == ["kde/half/seed-0", "ae/half/seed-0"]
    for wrong, right in {
        "share=all": "share has no choice 'all'; it has half, third",
        "seed=7": "seed has no choice '7'; it has 0, 1",
        "sed=0": "no axis is named 'sed'; the axes are system, share, seed",
        "kde": "no axis is named 'kde'; the axes are system, share, seed",
    }.items():
        with pytest.raises(UserError) as error:
            select(grid, [wrong])
        assert str(error.value) == f"--only {wrong}: {right}"


def test_choices_that_meet_may_need_other_settings(grid_file):
    path = grid_file.with_name("together.yaml")
    path.write_text(grid_file.read_text() + "together:\n  kde/half: {model.bandwidth: 2.5}\n")
    grid = cells(load_benchmark(path), path)
    kdes = [cell for cell in grid if cell.config.model.name == "kde"]
    bandwidths = {cell.name: cell.config.model.bandwidth for cell in kdes}
    assert bandwidths == {
        **{f"kde/half/seed-{seed}": 2.5 for seed in (0, 1)},
        **{f"kde/third/seed-{seed}": "cv" for seed in (0, 1)},
    }


def test_time_left_is_that_of_the_cells_most_alike():
    slow, quick = cell(system="pixelcnn", digit="0"), cell(system="kde", digit="0")
    seconds = {slow: 100.0, quick: 4.0, cell(system="kde", digit="1"): 2.0}
    assert seconds_left([], seconds) == 0
    assert seconds_left([slow], {}) is None
    # Of its own system, whatever the digit; of the same cell with another seed; of all.
    assert seconds_left([cell(system="kde", digit="7")], seconds) == 3.0
    assert seconds_left([cell(1, system="pixelcnn", digit="0")], seconds) == 100.0
    assert seconds_left([cell(system="vae", digit="7")], seconds) == pytest.approx(106 / 3)


def grid_of(results: list[dict], **keys) -> BenchmarkConfig:
    """The grid that results may be of."""
    axes = {name: {r["choices"][name]: {} for r in results} for name in results[0]["choices"]}
    return BenchmarkConfig(base="base.yaml", seeds=[0, 1], axes=axes, **keys)


def test_table_of_means_by_hand():
    aucs = {
        ("ae", "0", 0): 0.8,
        ("ae", "1", 0): 0.6,
        ("ae", "0", 1): 0.9,
        ("ae", "1", 1): 0.7,
        ("memae", "0", 0): 1.0,
        ("memae", "1", 0): 0.5,
        ("memae", "0", 1): 0.9,
    }
    results = [
        {"choices": {"system": s, "digit": d}, "seed": seed, "metrics": {"roc_auc": auc}}
        for (s, d, seed), auc in aucs.items()
    ]
    published = {"memae": {"roc_auc": 0.9751}}
    benchmark = grid_of(results, mean_of="digit", published=published)
    text = mean_table(results, benchmark, "roc_auc")
    assert text.splitlines() == [
        "| system | published | runs | roc_auc, mean of digit | 0 | 1 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| ae |  | 2 | 0.7500 ± 0.0500 | 0.850 | 0.650 |",
        # The second seed has not had all digits.
        "| memae | 0.9751 | 1 | 0.7500 | 0.950 | 0.500 |",
    ]
    # A bar in a name stays in its cell.
    barred = [{**r, "choices": {**r["choices"], "system": "a|b"}} for r in results[:4]]
    assert mean_table(barred, benchmark, "roc_auc").splitlines()[2].startswith(r"| a\|b |  | 2 |")
    # One digit has not run at all.
    text = mean_table([r for r in results if r["choices"]["digit"] == "1"], benchmark, "roc_auc")
    assert text.splitlines()[2:] == [
        "| ae |  | 0 |  |  | 0.650 |",
        "| memae | 0.9751 | 0 |  |  | 0.500 |",
    ]


def test_curves_by_hand():
    results = [
        {
            "choices": {"shrink": shrink, "slots": slots, "digit": digit, "entropy": "0"},
            "seed": seed,
            "metrics": {"roc_auc": auc + 0.1 * seed + 0.02 * int(digit)},
        }
        for shrink in ("0", "1")
        for slots, auc in (("100", 0.7), ("20", 0.6 + 0.1 * int(shrink)))
        for seed in (0, 1)
        for digit in ("0", "1")
    ]
    benchmark = grid_of(results, curves_over="slots", mean_of="digit")
    left, right = curves_figure(results, benchmark, "roc_auc").axes
    assert [axes.get_title() for axes in (left, right)] == ["0", "1"]
    for axes, means in ((left, [0.66, 0.76]), (right, [0.76, 0.76])):
        points, _, (bars,) = axes.containers[0]
        # From the smallest to the largest number, whatever their order in the grid.
        assert list(points.get_xdata()) == [20, 100]
        assert list(points.get_ydata()) == pytest.approx(means)
        spans = np.array([bar[:, 1] for bar in bars.get_segments()])
        np.testing.assert_allclose(spans[:, 1] - spans[:, 0], [0.1, 0.1])
        assert axes.containers[0].get_label() == "0"


def test_curves_of_a_part_of_a_grid():
    """Means over other digits than elsewhere would be no points of the same curve."""
    runs = [
        # panel, slots, line, digits
        ("0", "20", "a", "01"),
        ("0", "100", "a", "01"),
        ("0", "20", "b", "01"),
        ("1", "20", "a", "0"),
        ("1", "20", "b", "01"),
        ("1", "100", "b", "1"),
    ]
    results = [
        {
            "choices": {"panel": panel, "slots": slots, "line": line, "digit": digit},
            "seed": 0,
            "metrics": {"roc_auc": 0.5 + 0.2 * int(digit)},
        }
        for panel, slots, line, digits in runs
        for digit in digits
    ]
    benchmark = grid_of(results, curves_over="slots", mean_of="digit")
    figure = curves_figure(results, benchmark, "roc_auc")
    drawn = [
        {bars.get_label(): (list(bars[0].get_xdata()), bars[0].get_color())}
        for axes in figure.axes
        for bars in axes.containers
    ]
    assert drawn == [{"a": ([20, 100], "C0")}, {"b": ([20], "C1")}, {"b": ([20], "C1")}]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    for axes in figure.axes:
        assert list(axes.get_xticks()) == [20, 100]
    figure.canvas.draw()
    with pytest.raises(UserError, match="no seed has run with every digit yet"):
        curves_figure(results[6:7] + results[-1:], benchmark, "roc_auc")


def test_a_curve_may_begin_at_0():
    """No shrinkage, say: a logarithmic axis has no place for it."""
    results = [
        {"choices": {"shrink": shrink}, "seed": 0, "metrics": {"roc_auc": 0.5}}
        for shrink in ("0", "0.5", "1", "2")
    ]
    figure = curves_figure(results, grid_of(results, curves_over="shrink"), "roc_auc")
    (axes,) = figure.axes
    places = axes.transData.transform([(number, 0.5) for number in (0, 0.5, 1, 2)])[:, 0]
    assert np.isfinite(places).all()
    assert axes.get_xlim()[0] < 0
    # Twice as much is as far as twice as much.
    assert np.diff(places)[1] == pytest.approx(np.diff(places)[2])
    figure.canvas.draw()


def test_names_with_dollars_are_shown_as_they_are():
    results = [
        {"choices": {"a$_$": "1", "b": system, "c": system}, "seed": 0, "metrics": {"auc": 0.5}}
        for system in ("x$_$", "y$^$")
    ]
    figure = curves_figure(results, grid_of(results, curves_over="a$_$"), "auc")
    figure.savefig(io.BytesIO())


def test_one_run_has_no_deviation():
    def run(system, seed, auc):
        metrics = {name: auc for name in ("precision", "recall", "f1", "roc_auc")}
        metrics |= {"average_precision": None, "thresholds": {}, "train_seconds": 1.0}
        return {"choices": {"system": system}, "seed": seed, "metrics": metrics}

    lines = table([run("ae", 0, 0.5), run("kde", 0, 0.5), run("kde", 1, 0.7)], {}).splitlines()
    assert lines[2:] == [
        "| ae | 1 | 0.5000 | 0.5000 | 0.5000 | 0.5000 |  | 1.0 |",
        "| kde | 2 |" + " 0.6000 ± 0.1000 |" * 4 + "  | 1.0 |",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mean_of: shares", r"mean_of: .*one of the axes, system, share"),
        ("curves_over: shares", r"curves_over: .*one of the axes, system, share"),
        ("curves_over: share", r"curves_over: .*should be numbers, but 'half' is not"),
        ("together: {kde/all: {}}", r"together: .*'all' in 'kde/all' is not a choice of any axis"),
        ("together: {kde/ae: {}}", r"together: .*'kde/ae' has two choices of system, which never"),
    ],
)
def test_axes_that_are_none(grid_file, tmp_path, line, message):
    path = tmp_path / "grid.yaml"
    path.write_text(grid_file.read_text().replace("mean_of: share", line))
    with pytest.raises(UserError, match=message):
        load_benchmark(path)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("{slots: {a/b: {}}}", "'a/b' should have a name that a folder may have"),
        ("{slots: {..: {}}}", "should have a name that a folder may have"),
        ("{seed: {a: {}}}", "axes: .*another name than seed"),
        ("{slots: {a: {training.seed: 5}}}", r"axes: .*slots\.a sets training\.seed"),
        (f"{{slots: {{{'a' * 300}: {{}}}}}}", "should be shorter"),
        ("{slots: {10: {}, 1e1: {}}}\ncurves_over: slots", "is the same number as another one"),
        ("{slots: {10: {}}}\nmean_of: slots\ncurves_over: slots", "another axis than mean_of"),
        ("{a: {x: {}, y: {}}, b: {x: {}}}\ntogether: {x/y: {}}", "'x' in 'x/y' .* of a and b"),
    ],
)
def test_choices_that_cannot_work(tmp_path, axes, message):
    path = tmp_path / "grid.yaml"
    path.write_text(f"base: base.yaml\nseeds: [0]\naxes: {axes}\n")
    with pytest.raises(UserError, match=message):
        load_benchmark(path)


def test_the_same_seed_twice_is_the_same_run(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("base: base.yaml\nseeds: [3, 0, 3]\naxes: {a: {b: {}}}\n")
    with pytest.raises(UserError, match=r"seeds: .*3 is there twice, and would be the same run"):
        load_benchmark(path)


def test_the_keys_of_a_choice_are_named(tmp_path):
    path = tmp_path / "grid.yaml"
    for axes, key in (("{slots: {ten: 5}}", "axes.slots.ten"), ("{slots: 5}", "axes.slots")):
        path.write_text(f"base: base.yaml\nseeds: [0]\naxes: {axes}\n")
        with pytest.raises(UserError, match=rf"{key}: should be a section with keys .*, got 5"):
            load_benchmark(path)


def test_train_refuses_a_baseline(grid_file, tmp_path):
    kde = cells(load_benchmark(grid_file), grid_file)[0].config
    with pytest.raises(UserError, match=r"model\.name=kde: is a baseline, which memae_tf\.bench"):
        train(kde, RunDirectory(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_diverging_network_is_one_line(grid_file):
    raw = cells(load_benchmark(grid_file), grid_file)[0].config.model_dump(mode="json")
    raw["model"] = {"name": "vae", "net": {"name": "dense", "hidden": [16]}}
    with pytest.raises(UserError, match="training diverged"):
        measure_system(parse_config(raw, ["training.learning_rate=1e30"]))
