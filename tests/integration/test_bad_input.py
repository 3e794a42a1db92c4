"""The command on input that is wrong: exit status 2, one line, nothing touched."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from commands import run_here

from memae_tf.config import load_config, parse_config
from memae_tf.data import load
from memae_tf.errors import UserError
from memae_tf.training.checkpoints import Checkpoints
from memae_tf.training.experiment import train
from memae_tf.training.fit import fit
from memae_tf.training.loop import Position
from memae_tf.training.run_directory import RunDirectory

CONFIG = """\
data: {name: tabular, train: records.csv, label: label}
model: {name: dense, hidden: [8], code: 2, memory: {num_slots: 5}}
training: {epochs: 2, batch_size: 64}
"""
PROGRESS = re.compile(r"epoch \d+/\d+ loss ")


def rows():
    """Cells of 100 records: x, y, kind, label."""
    rng = np.random.default_rng(0)
    return [
        [f"{rng.normal():.3f}", f"{rng.normal():.3f}", "ab"[i % 2], "normal" if i % 5 else "odd"]
        for i in range(100)
    ]


def with_cell(record, column, value):
    """The records' cells with one changed; `record` counts from 1."""
    cells = rows()
    cells[record - 1][column] = value
    return cells


def with_column(column, value):
    return [[*cells[:column], value, *cells[column + 1 :]] for cells in rows()]


def write_records(path, records):
    path.write_text("x,y,kind,label\n" + "".join(f"{','.join(cells)}\n" for cells in records))


@pytest.fixture
def folder(tmp_path):
    """A folder with a good configuration and good records."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    write_records(tmp_path / "records.csv", rows())
    return tmp_path


def new_run(path, config):
    run = RunDirectory(path)
    with run.begun(config):
        return run


def run_train(folder, *arguments, config="config.yaml"):
    return run_here("train", config, "--workdir", "run", *arguments, cwd=folder)


def run_train_process(folder, *arguments, **environment):
    """With what libraries write to stderr by themselves."""
    return subprocess.run(
        [sys.executable, "-m", "memae_tf.train", "config.yaml", "--workdir", "run", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def snapshot(folder):
    """Every path under a folder, with the content of the files."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_user_error(result, *fragments):
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not PROGRESS.match(line)]
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    for fragment in fragments:
        assert fragment in lines[0]
    assert "Traceback" not in result.stderr + result.stdout
    assert result.stdout == ""


# configurations


@pytest.mark.parametrize("backend", ["jax", "not_installed"])
def test_another_backend_is_refused(folder, backend):
    result = run_train_process(folder, KERAS_BACKEND=backend)
    assert_user_error(result, f"KERAS_BACKEND={backend}: commands and training run on TensorFlow")


def test_only_what_is_required_is_asked_for():
    message = "error: the following arguments are required: config (see --help)"
    assert message in run_here("train").stderr
    assert message in run_here("benchmark", "--workers=2").stderr


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("model.hiden=[8]", "model.hiden: unknown key; did you mean model.hidden?"),
        ("training.code=2", "training.code: unknown key; did you mean model.code?"),
        ("training.epochs=many", "training.epochs: input should be a valid integer"),
        ("model.hidden=8", "model.hidden: input should be a valid list"),
        ("training=5", "training: should be a section"),
        ("training.epochs=0", "training.epochs: input should be greater than 0"),
        ("data.test_share=1.5", "data.test_share: input should be less than 1"),
        ("training.learning_rate=.nan", "training.learning_rate: input should be a finite number"),
        ("model.variant=meame", "model.variant: 'meame' is not one of"),
        (
            "model.name=dens",
            "model.name: 'dens' is not one of dense, conv2d, conv3d, ocsvm, ",
        ),
        ("training.epochs.x=1", "training.epochs is a value, not a section"),
        ("training.epochs", "write it as dotted.key=value"),
        ("model.code=[", "'[' is not a YAML value"),
        ("--wordir=elsewhere", "unrecognized arguments: --wordir=elsewhere"),
    ],
)
def test_an_argument_that_does_not_fit_is_one_line(folder, override, fragment):
    assert_user_error(run_train(folder, override), fragment)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("", "config.yaml: should be a mapping of sections"),
        ("just words", "config.yaml: should be a mapping of sections"),
        ("- a\n- b\n", "config.yaml: should be a mapping of sections"),
        ("data:\n  name: [tabular\ntraining: 5\n", "config.yaml, line 3: is not YAML"),
        ("a: \x00\n", "config.yaml: is not YAML"),
        (CONFIG.replace("train: records.csv, ", ""), "config.yaml: data.train: is required"),
        (CONFIG.replace("training:", "trainig:"), "config.yaml: training: is required; trainig:"),
        (CONFIG.replace("name: dense, ", ""), "config.yaml: model.name: is required, one of"),
    ],
)
def test_a_configuration_file_that_cannot_be_used_is_named(folder, content, fragment):
    (folder / "config.yaml").write_text(content)
    assert_user_error(run_train(folder), fragment)
    assert not (folder / "run").exists()


def test_a_configuration_file_that_is_no_text_is_named(folder):
    (folder / "config.yaml").write_bytes(bytes(range(128, 256)))
    assert_user_error(run_train(folder), "config.yaml: is not a text file in UTF-8")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("config", ["nowhere.yaml", "."])
def test_a_missing_configuration_file_is_named(folder, config):
    assert_user_error(run_train(folder, config=config), f"{config}: cannot be read")
    assert not (folder / "run").exists()


def test_a_key_of_another_kind_of_data_is_not_recommended_for_itself(folder):
    result = run_train(folder, "data={name: kddcup99, train: records.csv}")
    assert_user_error(result, "data.train: unknown key")
    assert "did you mean data.train?" not in result.stderr


# data


@pytest.mark.parametrize(
    ("records", "override", "fragment"),
    [
        (rows(), "data.train=nowhere.csv", "nowhere.csv: there is no such file"),
        (rows(), "data.numeric=[z]", "records.csv: has no column 'z', which data.numeric names"),
        (None, None, "records.csv: is empty"),
        (with_column(1, "7"), None, "records.csv: constant in the training records: y"),
        (with_column(3, "normal"), None, "records.csv: all records are normal by column 'label'"),
        (
            with_cell(37, 0, "oops"),
            None,
            "records.csv: column 'x', record 37: 'oops' is not a number",
        ),
        (
            with_cell(38, 1, "inf"),
            None,
            "records.csv: column 'y', record 38: the number is infinite",
        ),
    ],
    ids=["file", "column", "empty", "constant", "one class", "text", "infinite"],
)
def test_data_that_mean_nothing_are_one_line_and_leave_no_run(folder, records, override, fragment):
    if records is None:
        (folder / "records.csv").write_text("")
    else:
        write_records(folder / "records.csv", records)
    before = snapshot(folder)
    assert_user_error(run_train(folder, *([override] if override else [])), fragment)
    assert snapshot(folder) == before


def test_a_data_error_leaves_an_earlier_run_as_it_was(folder):
    run = new_run(folder / "run", load_config(folder / "config.yaml"))
    run.write_json(run.history, [])
    (folder / "records.csv").unlink()
    before = snapshot(folder)
    assert_user_error(run_train_process(folder), "records.csv: there is no such file")
    assert snapshot(folder) == before


def test_a_corrected_configuration_can_use_the_workdir_of_the_wrong_one(folder):
    message = "records.csv: has no label column 'lable'; did you mean 'label'?"
    assert_user_error(run_train(folder, "data.label=lable"), message)
    result = run_train(folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "run" / "metrics.json").is_file()


def test_a_threshold_that_needs_labels_is_refused_before_training(folder):
    unlabelled = {**settings(folder), "evaluation": {"threshold": "best_f1"}}
    config = parse_config(unlabelled, ["data.label=null", "data.drop=[label]"])
    run = new_run(folder / "run", config)
    with pytest.raises(UserError, match="threshold=best_f1: needs labelled test data"):
        train(config, run)
    assert not run.checkpoints.exists()


# run directories


def another_run(path):
    config = parse_config({**settings(path.parent), "training": {"epochs": 7}})
    new_run(path, config)
    (path / "history.json").write_text("[]")


def something_else(path):
    (path / "empty").mkdir(parents=True)
    (path / "thesis.txt").write_text("three years of work")


@pytest.mark.parametrize(
    ("occupy", "fragment"),
    [
        (another_run, "run: holds a run with another configuration, which differs in"),
        (something_else, "run: is neither empty nor a run"),
        (lambda path: path.write_text("a file"), "run: is a file"),
    ],
    ids=["another run", "something else", "a file"],
)
def test_a_workdir_that_is_taken_is_left_as_it_was(folder, occupy, fragment):
    occupy(folder / "run")
    before = snapshot(folder)
    assert_user_error(run_train(folder), fragment)
    assert snapshot(folder) == before


def test_a_run_that_learned_nothing_can_be_corrected(folder):
    assert_user_error(run_train(folder, "model.memory={num_slots: 50, shrink: 60}"), "shrink")
    # The loss of an epoch's only step would be that of the initial weights.
    words = ("training.batch_size=16", "training.learning_rate=1e30")
    assert_user_error(run_train(folder, *words), "training diverged", "epoch 1,")
    write_records(folder / "records.csv", scaled(rows()))
    assert run_train(folder).returncode == 0


def test_an_untrained_run_is_not_taken_from_another_process(folder):
    assert_user_error(run_train(folder, "model.memory={num_slots: 50, shrink: 60}"), "shrink")
    run = RunDirectory(folder / "run")
    with run.begun(load_config(run.config)):
        run.require_same_data({})
        before = snapshot(folder)
        assert_user_error(run_train(folder), "run: another process is training here")
        assert snapshot(folder) == before


def test_an_untrained_run_among_other_files_is_left_as_it_was(folder):
    assert_user_error(run_train(folder, "model.memory={num_slots: 50, shrink: 60}"), "shrink")
    (folder / "run" / "thesis.txt").write_text("three years of work")
    before = snapshot(folder)
    assert_user_error(run_train(folder), "run: holds a run with another configuration")
    assert snapshot(folder) == before


def fewer(records):
    return records[:50]


def scaled(records):
    return [[str(1000 * float(x)), *rest] for x, *rest in records]


def another_category(records):
    return [[*records[0][:2], "c", "normal"], *records[1:]]


@pytest.mark.parametrize("change", [fewer, scaled, another_category])
def test_a_run_does_not_go_on_with_other_data(folder, change):
    assert run_train(folder).returncode == 0
    # As if it had not come to its end.
    (folder / "run" / "metrics.json").unlink()
    write_records(folder / "records.csv", change(rows()))
    assert_user_error(run_train(folder), "run: was started with other training data (")
    write_records(folder / "records.csv", rows())
    assert run_train(folder).returncode == 0


def test_a_finished_run_says_that_its_data_have_changed(folder):
    assert run_train(folder).returncode == 0
    metrics = (folder / "run" / "metrics.json").read_bytes()
    write_records(folder / "records.csv", scaled(rows()))
    message = "run: was started with other training data ("
    advice = "restore those, or train on these with another --workdir"
    assert_user_error(run_train(folder), message, advice)
    assert_user_error(run_here("evaluate", "run", cwd=folder), message, advice)
    assert (folder / "run" / "metrics.json").read_bytes() == metrics
    (folder / "records.csv").unlink()
    result = run_train(folder)
    assert result.returncode == 0
    assert "run is finished already." in result.stdout
    assert "warning: run: its data can no longer be compared (" in result.stderr


def test_event_files_that_cannot_be_written_are_one_line(folder):
    new_run(folder / "run", load_config(folder / "config.yaml"))
    (folder / "run" / "tensorboard").write_text("no folder")
    assert_user_error(run_train(folder), "run/tensorboard: cannot be written (Not a directory)")


def test_one_record_has_none_to_hold_out(folder):
    write_records(folder / "records.csv", rows()[1:2])
    words = ("data.label=null", "data.drop=[label]", "training.validation_share=0.5")
    assert_user_error(run_train(folder, *words), "there is only one training sample, so none can")


# training that diverges


def settings(folder, **training):
    return {
        "data": {"name": "tabular", "train": str(folder / "records.csv"), "label": "label"},
        "model": {"name": "dense", "hidden": [8], "code": 2},
        "training": {"epochs": 3, "batch_size": 64, **training},
    }


def latest_checkpoint(run):
    return Checkpoints(run.checkpoints, keep=3).latest()


def assert_finite(checkpoint):
    assert all(np.isfinite(value).all() for value in checkpoint.state.values())


def test_a_run_that_diverges_is_one_line_and_keeps_its_last_good_checkpoint(folder):
    # The first epoch is one step, whose loss is that of the initial weights.
    result = run_train_process(folder, "training.learning_rate=1e30")
    assert_user_error(result, "training diverged", "epoch 2", "training.learning_rate than 1e+30")
    run = RunDirectory(folder / "run")
    checkpoint = latest_checkpoint(run)
    (epoch,) = checkpoint.history
    assert np.isfinite(epoch["loss"])
    assert checkpoint.position == Position(epoch=1)
    assert_finite(checkpoint)
    assert not run.detector.exists()
    assert not run.metrics.exists()


def test_divergence_in_the_very_last_step_leaves_no_detector(folder):
    config = parse_config(settings(folder, epochs=1, learning_rate=1e30))
    run = new_run(folder / "run", config)
    with pytest.raises(UserError, match="diverged"):
        train(config, run)
    assert not run.detector.exists()
    assert not run.metrics.exists()


def test_weights_that_are_not_finite_are_never_kept_in_a_checkpoint(folder):
    config = parse_config(settings(folder, learning_rate=1e39))
    run = new_run(folder / "run", config)
    with pytest.raises(UserError, match="diverged"):
        fit(config.model, config.training, load(config.data, config.training.seed), run)
    latest = latest_checkpoint(run)
    assert latest is None or assert_finite(latest) is None
