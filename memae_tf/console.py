"""What the commands share: exit statuses, one-line errors, progress."""

import argparse
import contextlib
import difflib
import errno
import math
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from memae_tf.errors import OtherBackendError, ServerError, UserError, WorkerLostError
from memae_tf.files import home_expanded
from memae_tf.precision import PRECISIONS
from memae_tf.signals import Terminated, resend_ignored, terminate

DONE, FAULT, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
SECONDS_BETWEEN_LINES = 5.0
LARGEST_FLOAT32 = 3.4e38
# Three years; waits of the system take no more than some hundreds.
MOST_SECONDS = 100_000_000


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str):
        # argparse names the optional overrides, too, if options stand between arguments.
        message = message.replace("config, dotted.key=value", "config")
        self.exit(USER_ERROR, f"{self.prog}: error: {message}{self._hint(message)} (see --help)\n")

    def _hint(self, message: str) -> str:
        """A hint at the option that the first unknown one resembles."""
        unknown = message.removeprefix("unrecognized arguments: ")
        words = [word for word in unknown.split() if word.startswith("--")]
        if unknown == message or not words:
            return ""
        # Without the dashes, which would make any two options alike.
        known = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        near = difflib.get_close_matches(words[0][2:].partition("=")[0], known, 1)
        return f"; did you mean --{near[0]}?" if near else ""


def bounded(kind: type[int] | type[float], lowest: float, highest: float = math.inf) -> Callable:
    """A `type` for argparse: numbers from `lowest` to `highest`."""

    def parse(text: str) -> int | float:
        try:
            number = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} should be {what}") from None
        # NaN fails the comparison; infinity is refused even if there is no bound.
        if not lowest <= number <= highest or abs(number) == math.inf:
            to = f"from {lowest} to {highest}" if highest < math.inf else f"{lowest} or more"
            if lowest == -highest:
                to = f"a number within {lowest:g} and {highest:g}"
            raise argparse.ArgumentTypeError(f"{text} should be {to}")
        return number

    return parse


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--threshold` of commands that take a trained detector."""
    parser.add_argument(
        "--threshold",
        metavar="T",
        type=bounded(float, -LARGEST_FLOAT32, LARGEST_FLOAT32),
        help="threshold to use instead of the detector's own; scores above it are anomalies",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--precision` of commands that take a trained detector."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="compute in this precision instead of that of the training: float32 on a processor "
        "that is slow in 16 bits",
    )


def path(text: str) -> Path:
    """A `type` for argparse: paths. The shell does not expand `~` in `--option=~/...`."""
    try:
        return home_expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(command: Callable[[Sequence[str] | None], None], resumes: bool = False) -> None:
    """Runs a command's main function and exits with its status.

    The status is 0 if the command is done; 2 for a mistake of the user's, which is one line on
    stderr; 1 for a fault of the package, with a traceback, or of another worker or a server; 130 if
    it was interrupted, and 143 if it was terminated.

    Args:
        command: The main function.
        resumes: Whether the same command goes on where it was stopped; the message says so.
    """
    _open_standard_streams()
    warnings.showwarning = _show_warning
    hint = "; the same command resumes from here" if resumes else ""
    sys.unraisablehook = resend_ignored
    signal.signal(signal.SIGTERM, terminate)
    try:
        command(None)
    except UserError as error:
        status = _say(error, USER_ERROR)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        status = _say(f"interrupted{hint}", INTERRUPTED)
    except Terminated as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        status = _say(f"terminated{hint}", error.code)
    except (WorkerLostError, ServerError) as error:
        status = _say(error, FAULT)
    except BrokenPipeError:
        # The reader of the output has gone, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAULT
    except Exception as error:
        missing = shortage(error)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            status = _say(f"{error.filename}: {error.strerror}", USER_ERROR)
        elif missing is None:
            traceback.print_exc()
            status = FAULT
        else:
            advice = "use smaller batches, or a smaller model"
            status = _say(f"out of memory{missing}; {advice}", USER_ERROR)
    else:
        status = DONE
    sys.exit(status)


def _open_standard_streams() -> None:
    """Has what goes to a closed stdout or stderr vanish, and not land in the next opened file."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_WRONLY)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115


# The part of a message of TensorFlow or XLA that says what did not fit into memory.
OUT_OF_MEMORY = re.compile(
    r"OOM when allocating tensor with shape\[[^\]]*\] and type \w+"
    r"|Out of memory[^.\n]*? allocate [\d.]+ ?\w+"
)


def shortage(error: Exception) -> str | None:
    """What did not fit into memory, in parentheses; `None` if this is another error."""
    said = str(error)
    if not isinstance(error, MemoryError):
        # By the type's name, as importing TensorFlow takes seconds. A full disk raises it, too.
        found = OUT_OF_MEMORY.search(said)
        if type(error).__name__ != "ResourceExhaustedError" or found is None:
            return None
        said = found[0]
    return f" ({said})" if said else ""


def import_tensorflow() -> None:
    """Imports TensorFlow without the start-up messages that no user can act on.

    Some of them go straight to file descriptor 2, before TensorFlow reads its log level. If the
    import fails they are shown after all, unless it was interrupted.

    Raises:
        OtherBackendError: If Keras was told to work with another backend.
    """
    # Checked first, as Keras would import the other backend, which may not be installed.
    if (backend := os.environ.get("KERAS_BACKEND") or "tensorflow") != "tensorflow":
        raise OtherBackendError(backend)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_unless_fault():
        import tensorflow as tf

        from memae_tf.backend import require_tensorflow

        # The first look at the devices writes messages, too.
        tf.config.list_physical_devices()
    tf.get_logger().setLevel("ERROR")
    require_tensorflow()


@contextlib.contextmanager
def _stderr_unless_fault() -> Iterator[None]:
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except Exception:
            held_back.seek(0)
            os.write(original, held_back.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


def _say(message: object, status: int) -> int:
    print(" ".join(str(message).split()), file=sys.stderr, flush=True)
    return status


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    # Warnings of other libraries are for programmers, not for the user of a command.
    if filename.startswith(os.path.dirname(os.path.abspath(__file__)) + os.sep):
        print(f"warning: {message}", file=sys.stderr, flush=True)


class ProgressDisplay:
    """A bar on a terminal, a line every few seconds elsewhere; both on stderr."""

    def __init__(self):
        self._bar = self._task = None
        self._last = time.monotonic()
        self.is_terminal = sys.stderr.isatty()

    def __enter__(self) -> "ProgressDisplay":
        if self.is_terminal:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None, text: str) -> None:
        """Shows that `done` of `total` are done; `text` says what and how it goes.

        `total` is `None` if it is unknown.
        """
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(text, total=total)
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES or done == total:
            self._last = time.monotonic()
            share = "" if total is None else f" ({done / total:.0%})"
            print(f"{text}{share}", file=sys.stderr, flush=True)

    def videos(self, state: str, done: int, total: int) -> None:
        """Shows that `done` of `total` videos are "ready", or "scored"."""
        self.update(done, total, f"{done} of {total} videos are {state}")


def summary(metrics: dict) -> str:
    """A few lines with the most important metrics."""
    head = f"{metrics['variant']} on {metrics['dataset']}"
    if metrics["simulated"]:
        head += " (SIMULATED data, no result)"
    if metrics["f1"] is None:
        lines = [f"{head}: no labels, so nothing was evaluated"]
    else:
        lines = [
            f"{head}: ROC AUC {metrics['roc_auc']:.4f}, "
            f"average precision {metrics['average_precision']:.4f}"
        ]
    if "macro_auc" in metrics:
        macro = metrics["macro_auc"]
        lines.append(
            f"  frames: micro AUC with each video's scores in [0, 1] "
            f"{metrics['micro_auc_minmax']:.4f}, raw {metrics['micro_auc_raw']:.4f}, macro "
            f"{'-' if macro is None else f'{macro:.4f}'}"
        )
    figures = {metrics["threshold_name"]: metrics, **metrics["thresholds"]}
    for name, at in figures.items():
        line = f"  {name:<15} threshold {at['threshold']:<10.4g}"
        if at["f1"] is not None:
            line += f" P {at['precision']:.4f}  R {at['recall']:.4f}  F1 {at['f1']:.4f}"
        lines.append(line + (" (oracle)" if name == "best_f1" else ""))
    if metrics["diagnosis"] is not None:
        lines.append(f"Warning: {metrics['diagnosis']}")
    if metrics["memory"] is not None and metrics["memory"]["diagnosis"] is not None:
        lines.append(f"Warning: {metrics['memory']['diagnosis']}")
    return "\n".join(lines)
