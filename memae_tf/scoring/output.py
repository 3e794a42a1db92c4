"""Answers as lines of CSV or JSON, written as they come."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from memae_tf.errors import UserError
from memae_tf.files import whole_file, written
from memae_tf.scoring.detectors import Answer
from memae_tf.signals import DeferredSignals, Terminated

DECISION = ("record", "score", "is_anomaly")


def csv_lines(start: int, answer: Answer) -> str:
    """A line a record, the first of which is number `start`; before record 1, the header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    top = answer["top_fields"].shape[1] if "top_fields" in answer else 0
    if start == 1:
        pairs = (f"{what}_{n}" for n in range(1, top + 1) for what in ("field", "error"))
        writer.writerow([*DECISION, *pairs])
    for decision, explanation in _rows(start, answer):
        writer.writerow([*decision, *(value for pair in explanation for value in pair)])
    return text.getvalue()


def json_lines(start: int, answer: Answer) -> str:
    """An object a record, in a line of its own, the first of which is number `start`."""
    lines = []
    for (record, score, is_anomaly), explanation in _rows(start, answer):
        line = dict(zip(DECISION, (record, float(score), is_anomaly), strict=True))
        if "top_fields" in answer:
            line["field_error"] = {field: float(error) for field, error in explanation}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


FORMATS = {".csv": csv_lines, ".jsonl": json_lines}


def row_writer(
    write: Callable[[str], None], path: Path | None
) -> Callable[[Mapping[str, object]], None]:
    """A function that writes rows of named values; `None` is an empty cell, or JSON's null.

    Args:
        write: Writes lines.
        path: What `suffix_of` takes.
    """
    if suffix_of(path) == ".jsonl":
        return lambda values: write(json.dumps(values, ensure_ascii=False) + "\n")
    header_written = False

    def write_row(values: Mapping[str, object]) -> None:
        nonlocal header_written
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not header_written:
            writer.writerow(values)
            header_written = True
        writer.writerow(values.values())
        write(text.getvalue())

    return write_row


def _rows(start: int, answer: Answer) -> Iterator[tuple[tuple, list[tuple[str, str]]]]:
    """The decision on each record, and its fields with the largest errors.

    Numbers are in as many digits as tell float32 apart.
    """
    scores = answer["score"].astype(str).tolist()
    decisions = zip(scores, answer["is_anomaly"].tolist(), strict=True)
    explanations = [[] for _ in scores]
    if "top_fields" in answer:
        errors = answer["top_errors"].astype(str).tolist()
        explanations = [
            list(zip(*row, strict=True))
            for row in zip(answer["top_fields"].tolist(), errors, strict=True)
        ]
    for number, (decision, explanation) in enumerate(zip(decisions, explanations, strict=True)):
        yield (start + number, *decision), explanation


def suffix_of(path: Path | None) -> str:
    """What is to be written to a file of this name: ".csv" or ".jsonl"; CSV to standard output.

    Raises:
        UserError: If the name says nothing of it.
    """
    if path is None:
        return ".csv"
    if path.suffix not in FORMATS:
        instead = "; without -o, CSV goes to standard output" if path == Path("-") else ""
        raise UserError(f"{path}: should end in {' or '.join(FORMATS)}{instead}")
    return path.suffix


@contextlib.contextmanager
def opened(path: Path | None, grows: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that writes lines to a file, or to standard output, the whole of them.

    The file appears when all is written; or when Ctrl-C or SIGTERM ends it, with the lines so far.

    Args:
        path: The file; `None` is standard output.
        grows: Whether the file is there from the beginning, as nobody knows of an end.

    Raises:
        UserError: If it cannot be written.
    """
    if path is None:
        yield lambda lines: _write(sys.stdout, lines, "standard output")
        return
    with kept_file(path, grows) as aside:
        with written(path):
            file = aside.open("w", encoding="utf-8")
        try:
            yield lambda lines: _write(file, lines, path)
        finally:
            # Every line is written, or has failed to be, which has been said.
            with contextlib.suppress(OSError):
                file.close()


@contextlib.contextmanager
def kept_file(path: Path, grows: bool) -> Iterator[Path]:
    """A path to write to; what is there becomes `path` at the end, and if it is interrupted.

    Args:
        path: The file.
        grows: Whether to write to `path` itself.

    Raises:
        UserError: If it cannot become `path`.
    """
    if grows:
        try:
            yield path
        finally:
            if path.exists() and path.stat().st_size == 0:
                path.unlink()
        return
    interruption = None
    with contextlib.ExitStack() as stack:
        aside = stack.enter_context(whole_file(path))
        try:
            yield aside
        except (KeyboardInterrupt, Terminated) as error:
            if not aside.exists() or aside.stat().st_size == 0:
                raise
            interruption = error
        with written(path):
            stack.close()
    if interruption is not None:
        print(f"{path} has the results so far", file=sys.stderr, flush=True)
        raise interruption


def _write(file, lines: str, name: Path | str) -> None:
    with written(name), DeferredSignals() as signals:
        file.write(lines)
        file.flush()
    if signals.requested():
        signals.leave()
