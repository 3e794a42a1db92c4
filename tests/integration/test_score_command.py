"""`python -m memae_tf.score` as a user runs it: detectors in files and behind servers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("tensorflow_serving.apis")

from commands import largest_file
from small_detectors import hard_traffic, traffic_detector

from memae_tf import score
from memae_tf.errors import UserError
from memae_tf.scoring import output
from memae_tf.serving.export.publication import Source, publish
from memae_tf.serving.server.config import ModelConfig
from memae_tf.serving.server.model_server import ModelServer, ServerOptions
from memae_tf.signals import Terminated

NUM_RECORDS, BATCH = 700, 200
COMMAND = [sys.executable, "-m", "memae_tf.score"]


@dataclass
class Place:
    """A folder with `detector.keras`, its records in files, and a server of it.

    Attributes:
        options: The words that name the detector, by where it is.
        frame: The records, with a label.
        expected: What `Detector.detect` says, in batches of `BATCH`.
    """

    folder: Path
    options: dict[str, list[str]]
    frame: pd.DataFrame
    expected: dict[str, np.ndarray]
    fields: list[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("score")
    detector = traffic_detector()
    detector.save(folder / "detector.keras")
    publish(Source(detector), folder / "traffic")
    frame = pd.DataFrame(hard_traffic(NUM_RECORDS)).assign(label="normal.")
    frame.to_csv(folder / "records.csv", index=False)
    frame.to_csv(folder / "records.csv.gz", index=False)
    frame.to_csv(folder / "kddcup.data", index=False, header=False)
    frame.to_parquet(folder / "records.parquet")
    expected = detector.detect(frame, explain=True, batch_size=BATCH)
    served = [ModelConfig("traffic", str(folder / "traffic"), labels={"stable": 1})]
    with ModelServer(served, ServerOptions(grpc_port=0, rest_port=0)) as server:
        options = {
            "file": [str(folder / "detector.keras")],
            "grpc": [server.grpc_address, "--model", "traffic"],
            "rest": [server.rest_address, "--model", "traffic", "--label", "stable"],
        }
        yield Place(folder, options, frame, expected, detector.field_names)


def run(place: Place, source: str, *arguments, detector: str = "file") -> None:
    detector, *options = place.options[detector]
    batch = ["--batch-size", str(BATCH)]
    score.main([detector, str(place.folder / source), *options, *batch, *map(str, arguments)])


@pytest.mark.parametrize("detector", ["file", "grpc", "rest"])
@pytest.mark.parametrize("source", ["records.csv", "kddcup.data"])
def test_scores_are_the_detector_s_wherever_it_is(place, tmp_path, capsys, detector, source):
    run(place, source, "-o", tmp_path / "out.csv", detector=detector)
    table = pd.read_csv(tmp_path / "out.csv", dtype={"score": "float32"})
    assert list(table) == ["record", "score", "is_anomaly"]
    assert table["record"].tolist() == list(range(1, NUM_RECORDS + 1))
    np.testing.assert_array_equal(table["score"], place.expected["score"])
    np.testing.assert_array_equal(table["is_anomaly"], place.expected["is_anomaly"])
    anomalies = place.expected["is_anomaly"].sum()
    said = capsys.readouterr().out
    assert said == f"Wrote {tmp_path}/out.csv: {NUM_RECORDS} records, {anomalies} anomalies\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("source", ["records.csv.gz", "records.parquet"])
def test_compressed_csv_and_parquet(place, capsys, source):
    run(place, source, detector="grpc")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + NUM_RECORDS
    scores = np.array([line.split(",")[1] for line in lines[1:]], "float32")
    np.testing.assert_array_equal(scores, place.expected["score"])


@pytest.mark.parametrize("detector", ["file", "grpc", "rest"])
def test_explanations_name_the_fields_with_the_largest_errors(place, tmp_path, detector):
    run(place, "records.csv", "--explain", "-o", tmp_path / "out.jsonl", detector=detector)
    run(place, "records.csv", "--explain", "-o", tmp_path / "out.csv", detector=detector)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pd.read_csv(tmp_path / "out.csv")
    errors = place.expected["field_error"]
    order = np.argsort(-errors, axis=1, kind="stable")[:, :5]
    for number, row in enumerate(rows):
        assert list(row) == ["record", "score", "is_anomaly", "field_error"]
        assert row["record"] == number + 1
        assert row["is_anomaly"] == place.expected["is_anomaly"][number]
        names = [place.fields[field] for field in order[number]]
        assert list(row["field_error"]) == names
        values = np.array(list(row["field_error"].values()), "float32")
        np.testing.assert_array_equal(values, errors[number][order[number]])
    for rank in (1, 5):
        assert table[f"field_{rank}"].tolist() == [
            place.fields[field] for field in order[:, rank - 1]
        ]
        np.testing.assert_array_equal(
            table[f"error_{rank}"].astype("float32"), np.sort(errors)[:, -rank]
        )


@pytest.mark.parametrize("detector", ["file", "rest"])
def test_threshold_of_one_s_own(place, capsys, detector):
    threshold = float(np.median(place.expected["score"]))
    run(place, "records.csv", "--threshold", threshold, detector=detector)
    decided = [int(line[-1]) for line in capsys.readouterr().out.splitlines()[1:]]
    np.testing.assert_array_equal(decided, place.expected["score"] > np.float32(threshold))


def test_cells_mean_the_same_in_any_batch(place, tmp_path):
    """Codes, booleans and empty cells: pandas would read them by what else a batch holds."""
    fields = place.fields
    cells = {
        "logged_in": ["1", "True", "", "false", "1.0", "0"],
        "flag": ["01", "", "S0", "1.0", "NA", "nan"],
        "duration": ["0", "1e300", "-inf", "", "2.50", " 3"],
    }
    rows = [
        ",".join(cells.get(field, ["0"] * 6)[number] for field in fields) for number in range(6)
    ]
    (tmp_path / "records.csv").write_text("\n".join([",".join(fields), *rows]) + "\n")
    outputs = []
    for size in (1, 2, 6):
        out = tmp_path / f"{size}.jsonl"
        detector, *_ = place.options["file"]
        words = [detector, tmp_path / "records.csv", "-o", out, "--batch-size", size]
        score.main([str(word) for word in words])
        outputs.append([json.loads(line)["score"] for line in out.read_text().splitlines()])
    assert len(outputs[0]) == 6
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5)
    np.testing.assert_allclose(outputs[0], outputs[2], rtol=1e-5)


@pytest.mark.parametrize("detector", ["file", "grpc", "rest"])
def test_text_is_an_unseen_one_of_categories_that_are_numbers(place, capsys, detector):
    """`logged_in` is 0 or 1 in the training data."""
    scores = []
    for cell in ("A", "", "7"):
        with_cell(place, "one.csv", 1, "logged_in", cell)
        run(place, "one.csv", detector=detector)
        scores.append(capsys.readouterr().out.splitlines()[1])
    assert len(set(scores)) == 1


@pytest.mark.parametrize("detector", ["file", "grpc", "rest"])
def test_categories_that_most_records_have_and_training_had_not_are_said(place, tmp_path, detector):
    frame = place.frame.assign(protocol_type=place.frame["protocol_type"].str.upper(), land=7)
    # Missing ones are not counted.
    frame.loc[frame.index[5:25], "protocol_type"] = ""
    frame.to_csv(place.folder / "upper.csv", index=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        run(place, "records.csv", "-o", tmp_path / "out.csv", detector=detector)
        assert not [warning for warning in caught if warning.category is UserWarning]
        run(place, "upper.csv", "-o", tmp_path / "out.csv", detector=detector)
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    count = (frame["protocol_type"] != "").sum()
    start = f"{place.folder / 'upper.csv'}: in column"
    rest = "records have a category that the detector does not know, such as"
    assert sorted(said) == [
        f"{start} 'land' {NUM_RECORDS} of {NUM_RECORDS} {rest} 7; it knows 0",
        f"{start} 'protocol_type' {count} of {count} {rest} "
        f"{frame['protocol_type'][0]}; it knows icmp, tcp, udp",
    ]


@pytest.mark.parametrize("detector", ["file", "grpc"])
def test_a_word_for_nothing_is_a_missing_number(place, capsys, detector):
    scores = []
    for cell in ("", "-", "N/A", "0"):
        with_cell(place, "one.csv", 1, "duration", cell)
        run(place, "one.csv", detector=detector)
        scores.append(capsys.readouterr().out.splitlines()[1])
    assert scores[0] == scores[1] == scores[2] != scores[3]


def test_records_on_standard_input_are_scored_as_they_come(place):
    """Each before the next is there, though a batch would have room for all."""
    address, *options = place.options["grpc"]
    header, *records = (place.folder / "records.csv").read_text().splitlines(keepends=True)
    with subprocess.Popen(
        [*COMMAND, address, "-", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        for number, record in enumerate(records[:3]):
            # The first in two parts, of which one ends within a cell.
            for part in (header, record[:9], record[9:]) if number == 0 else (record,):
                command.stdin.write(part)
                command.stdin.flush()
            if number == 0:
                assert command.stdout.readline() == "record,score,is_anomaly\n"
            line = command.stdout.readline()
            record, value, _ = line.split(",")
            assert record == str(number + 1)
            np.testing.assert_allclose(float(value), place.expected["score"][number], rtol=1e-5)
        command.stdin.write("".join(records[3:]).rstrip("\n"))
        command.stdin.close()
        assert len(command.stdout.readlines()) == NUM_RECORDS - 3
    assert command.returncode == 0


# what is wrong


def with_cell(place, name, record, column, value):
    frame = place.frame.astype(object)
    frame.loc[record - 1, column] = value
    frame.to_csv(place.folder / name, index=False)


@pytest.fixture(scope="module")
def wrong(place):
    """Files that are wrong, beside the right ones."""
    with_cell(place, "text.csv", 600, "duration", "long")
    place.frame.rename(columns={"duration": "Duration"}).to_csv(place.folder / "renamed.csv")
    place.frame.iloc[:0].to_csv(place.folder / "header.csv", index=False)
    (place.folder / "empty.csv").write_text("")
    lines = (place.folder / "records.csv").read_text().splitlines()
    lines[450] += ",1,2"
    (place.folder / "longer.csv").write_text("\n".join(lines))
    lines = (place.folder / "records.csv").read_text().splitlines()
    lines[699] = ",".join(lines[699].split(",")[:7])
    (place.folder / "shorter.csv").write_text("\n".join(lines))
    (place.folder / "other.csv").write_text("a;b\n1;2\n")
    (place.folder / "twice.csv").write_text(f"{lines[0]},flag\n")
    whole = (place.folder / "records.csv.gz").read_bytes()
    (place.folder / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (place.folder / "cut.parquet").write_bytes(b"PAR1 and no more")
    lists = place.frame.assign(duration=[[1.0]] * NUM_RECORDS)
    lists.to_parquet(place.folder / "lists.parquet")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "text.csv",
            "text.csv: column 'duration', record 600: 'long' is not a number; correct it, or",
        ),
        (
            "lists.parquet",
            "lists.parquet: column 'duration', record 1: '[1.]' is not a number; correct",
        ),
        ("renamed.csv", "renamed.csv: has no column 'duration', which the detector takes; did you"),
        ("header.csv", "header.csv: has a header but no records"),
        ("empty.csv", "empty.csv: is empty; it should have a header and records"),
        ("longer.csv", "longer.csv: line 451 has 44 cells, but the header has 42; is it cut off"),
        ("shorter.csv", "shorter.csv: line 700 has 7 cells, but the header has 42; is it cut off"),
        ("other.csv", "other.csv: has one column, 'a;b'; cells should be separated by commas"),
        ("twice.csv", "twice.csv: has the column 'flag' twice; rename or delete one"),
        ("cut.csv.gz", "cut.csv.gz: is damaged, cut off or of another format (Compressed file"),
        ("cut.parquet", "cut.parquet: is damaged, cut off or of another format ("),
        ("no.csv", "no.csv: there is no such file"),
    ],
)
@pytest.mark.parametrize("detector", ["file", "grpc"])
def test_input_that_is_wrong_leaves_no_file(place, wrong, tmp_path, detector, source, message):
    with pytest.raises(UserError) as caught:
        run(place, source, "-o", tmp_path / "out.csv", detector=detector)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "x"], "nowhere: there is no such run directory or detector; nor is it"),
        (["{folder}", "x"], "is not a run directory (it has no config.yaml)"),
        (["{folder}/records.csv", "x"], "records.csv: is not a detector (a .keras file)"),
        (["{grpc}", "x", "--model", "other"], "model other: NOT_FOUND: Servable not found"),
        (["{rest}", "x", "--model", "traffic", "--version", "7"], "traffic version 7: NOT_FOUND"),
        (["{grpc}", "x", "--model", "traffic", "-o", "{folder}/out"], "end in .csv or .jsonl"),
        (["{grpc}", "x", "--model", "traffic", "-o", "/no/out.csv"], "/no/out.csv: cannot be wr"),
    ],
)
def test_mistakes(place, words, message):
    places = {name: options[0] for name, options in place.options.items()}
    with pytest.raises(UserError) as caught:
        score.main([word.format(folder=place.folder, **places) for word in words])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["localhost:1", "x"], "--model is required, to name a model of localhost:1"),
        (["detector.keras", "x", "--model", "m"], "need the address of a server"),
        (["localhost:1", "x", "--batch-size", "0"], "0 should be 1 or more"),
        (["localhost:1", "x", "--batch-size", "many"], "'many' should be a whole number"),
        (["detector.keras", "x", "--threshold", "nan"], "nan should be a number"),
        (["detector.keras", "x", "--threshold", "1e39"], "1e39 should be a number within -3.4e+38"),
        (["detector.keras", "{input}", "-o", "{input}"], "scores.csv: is the input itself; give"),
    ],
)
def test_arguments_that_do_not_go_together(capsys, tmp_path, words, message):
    path = tmp_path / "scores.csv"
    path.write_text("a,b\n")
    with pytest.raises(SystemExit) as stop:
        score.main([word.format(input=path) for word in words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_dash_is_no_output():
    with pytest.raises(UserError, match=r"^-: should .*; without -o, CSV goes to standard output$"):
        score.main(["detector.keras", "x", "-o", "-"])


# ends


def test_ctrl_c_keeps_whole_lines(place):
    """On standard output, of a process that is in the middle of an endless input."""
    address, *options = place.options["grpc"]
    with subprocess.Popen(
        [*COMMAND, address, "-", *options, "--batch-size", "10"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        header, *records = (place.folder / "records.csv").read_text().splitlines(keepends=True)
        writer = threading.Thread(
            target=write_until_closed, args=(command.stdin, header, "".join(records))
        )
        writer.start()
        lines = [command.stdout.readline() for _ in range(100)]
        command.send_signal(signal.SIGINT)
        lines += command.stdout.readlines()
        assert command.wait(60) == 130
        assert command.stderr.read().splitlines()[-1] == "interrupted"
        writer.join()
    assert lines[0] == "record,score,is_anomaly\n"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, len(lines)))
    assert all(line.endswith((",0\n", ",1\n")) for line in lines[1:])


def write_until_closed(file, first, rest):
    with contextlib.suppress(BrokenPipeError):
        file.write(first)
        while True:
            file.write(rest)
    # What could not be written is still in its buffer.
    with contextlib.suppress(BrokenPipeError):
        file.close()


def test_nobody_reads_on(place):
    """`score ... | head -1`."""
    detector, *options = place.options["grpc"]
    words = [*COMMAND, detector, str(place.folder / "records.csv"), *options, "--batch-size", "10"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout.readline() == b"record,score,is_anomaly\n"
        command.stdout.close()
        assert b"Traceback" not in command.stderr.read()


def write_until(error, path, *lines):
    """Writes lines to a file, and then something happens."""
    with output.opened(path) as write:
        for line in lines:
            write(line)
        raise error


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Terminated])
def test_interrupted_file_has_the_lines_so_far(tmp_path, capsys, interruption):
    path = tmp_path / "out.csv"
    with pytest.raises(interruption):
        write_until(interruption(), path, "one\n", "two\n")
    assert path.read_text() == "one\ntwo\n"
    assert capsys.readouterr().err == f"{path} has the results so far\n"
    with pytest.raises(interruption):
        write_until(interruption(), tmp_path / "none.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_signal_while_writing_waits_for_the_lines():
    written = []

    class File:
        def write(self, lines):
            os.kill(os.getpid(), signal.SIGINT)
            written.append(lines)

        def flush(self):
            written.append("flushed")

    with pytest.raises(KeyboardInterrupt):
        output._write(File(), "one\n", "file")
    assert written == ["one\n", "flushed"]


def test_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("of last time\n")
    with (
        pytest.raises(UserError, match=r"out\.csv: cannot be written \(File too large"),
        largest_file(4),
    ):
        write_until(AssertionError(), path, "one\n", "two\n")
    with pytest.raises(OSError, match="of something else"):
        write_until(OSError("of something else"), path, "one\n")
    with pytest.raises(UserError, match="no such field"):
        write_until(UserError("no such field"), path, "one\n")
    assert path.read_text() == "of last time\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
