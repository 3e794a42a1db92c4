"""Ctrl-C and SIGTERM: they can be deferred until work is saved, and waiting never misses them."""

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty, Queue, SimpleQueue

# Waits are cut into pieces of this length. A signal just before a wait, or to another thread, does
# not end it: the interpreter looks for signals before the system call, then only after it returns.
WAKE_SECONDS = 0.5
RESEND_SECONDS = 0.05


class Terminated(SystemExit):
    """SIGTERM asked the process to end.

    The exit status is 143, as if SIGTERM had killed it, so that a script does not go on with what
    comes after a finished run.
    """

    def __init__(self):
        super().__init__(128 + signal.SIGTERM)


def terminate(*_) -> None:
    """Handles SIGTERM."""
    raise Terminated


def resend_ignored(ignored) -> None:
    """A `sys.unraisablehook` that sends a signal again whose exception Python has ignored.

    Python ignores what a handler raises within a callback of the garbage collection.
    """
    numbers = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
    number = numbers.get(ignored.exc_type)
    if number is None:
        sys.__unraisablehook__(ignored)
        return

    def send() -> None:
        time.sleep(RESEND_SECONDS)
        _thread.interrupt_main(number)

    # Not `threading.Thread`, which takes locks that may be held here.
    _thread.start_new_thread(send, ())


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the process immediately, even within a call into C++."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def take(queue: Queue | SimpleQueue) -> object:
    """`queue.get()` for the main thread, which a signal always ends."""
    while True:
        with contextlib.suppress(Empty):
            return queue.get(timeout=WAKE_SECONDS)


def wait(event: threading.Event) -> None:
    """`event.wait()` for the main thread, which always notices a signal."""
    while not event.wait(WAKE_SECONDS):
        pass


class DeferredSignals:
    """A context in which SIGINT and SIGTERM are noted, so that the work can end at a good moment.

    A second signal ends it immediately. Outside the main thread, where Python has no signal
    handlers, nothing is noted.
    """

    def __init__(self):
        self.received: int | None = None
        self._handlers = {}

    def __enter__(self) -> "DeferredSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _) -> None:
        if self.received is not None:
            self.leave()
        self.received = number

    def requested(self) -> bool:
        """Whether a signal was received."""
        return self.received is not None

    def leave(self) -> None:
        """Raises what the signal would have raised; without one, what SIGTERM would have.

        Another worker may have received it.
        """
        raise KeyboardInterrupt if self.received == signal.SIGINT else Terminated
