"""Ctrl-C and SIGTERM during training: what was learned is saved first."""

import contextlib
import signal
import threading
from collections.abc import Iterator


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
