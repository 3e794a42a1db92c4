"""Answers as lines of CSV or JSON, written as they come."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from memae_tf.errors import UserError
from memae_tf.scoring.detectors import Answer
from memae_tf.signals import DeferredSignals, Terminated
from memae_tf.training.run_directory import whole_file

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


def lines_of(path: Path | None) -> Callable[[int, Answer], str]:
    """The function that makes lines of what a file of this name holds; CSV for standard output.

    Raises:
        UserError: If the name says nothing of it.
    """
    if path is None:
        return csv_lines
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: should end in {' or '.join(FORMATS)}")
    return FORMATS[path.suffix]


@contextlib.contextmanager
def opened(path: Path | None) -> Iterator[Callable[[str], None]]:
    """A function that writes lines to a file, or to standard output, the whole of them.

    The file appears when all is written; or when Ctrl-C or SIGTERM ends it, with the lines so far.

    Raises:
        UserError: If it cannot be written.
    """
    name = "standard output" if path is None else path
    interruption = None
    with _writing(name), contextlib.ExitStack() as stack:
        file = sys.stdout
        if path is not None:
            aside = stack.enter_context(whole_file(path))
            file = stack.enter_context(aside.open("w"))
        try:
            yield lambda lines: _write(file, lines)
        except (KeyboardInterrupt, Terminated) as error:
            if path is None or file.tell() == 0:
                raise
            interruption = error
    if interruption is not None:
        print(f"{path} holds the lines so far", file=sys.stderr, flush=True)
        raise interruption


def _write(file, lines: str) -> None:
    with DeferredSignals() as signals:
        file.write(lines)
        file.flush()
    if signals.requested():
        signals.leave()


@contextlib.contextmanager
def _writing(name: Path | str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{name}: cannot be written ({error.strerror})") from None
