"""Ctrl-C and SIGTERM: what was learned is saved first, and no wait misses them."""

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty, Queue, SimpleQueue

# A signal that comes just before a wait begins, or to another thread, does not end it: the
# interpreter looks for signals before the system call, and then no more until it returns.
WAKE_SECONDS = 0.5
SECONDS_TO_COME_AGAIN = 0.05


class Terminated(SystemExit):
    """The process was asked to end by SIGTERM.

    Its status is 143, as that of a process that SIGTERM has ended: whatever was to come after a
    finished run does not come.
    """

    def __init__(self):
        super().__init__(128 + signal.SIGTERM)


def terminate(*_) -> None:
    """A handler of SIGTERM."""
    raise Terminated


def come_again(ignored) -> None:
    """A `sys.unraisablehook`: no signal is lost to a callback of the garbage collection.

    What a handler raises there, Python ignores; so it comes again, a moment later.
    """
    numbers = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
    number = numbers.get(ignored.exc_type)
    if number is None:
        sys.__unraisablehook__(ignored)
        return

    def send() -> None:
        time.sleep(SECONDS_TO_COME_AGAIN)
        _thread.interrupt_main(number)

    # That of `threading` takes locks, which may be held here.
    _thread.start_new_thread(send, ())


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the process at once, also in the middle of a call in C++."""
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
    """`queue.get()` for the main thread, however long it takes: a signal always ends it."""
    while True:
        with contextlib.suppress(Empty):
            return queue.get(timeout=WAKE_SECONDS)


def wait(event: threading.Event) -> None:
    """`event.wait()` for the main thread: a signal is always noticed."""
    while not event.wait(WAKE_SECONDS):
        pass


class DeferredSignals:
    """Notes SIGINT and SIGTERM while it is entered, so that the work ends at a good moment.

    A second one is not waited for. Outside the main thread, where Python knows no signal
    handlers, it notes nothing.
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
        return self.received is not None

    def leave(self) -> None:
        """Raises what ends the process as the signal would have (SIGTERM if it came elsewhere)."""
        raise KeyboardInterrupt if self.received == signal.SIGINT else Terminated
