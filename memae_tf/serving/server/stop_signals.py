"""SIGTERM and Ctrl-C for a server, which first answers unfinished requests."""

import queue
import signal
import threading
from collections.abc import Callable

from memae_tf.signals import wait


class StopSignals:
    """Remembers the first SIGTERM or SIGINT; a second one ends the process at once.

    After SIGTERM, which is the normal way to end a server, the exit status is 0; after Ctrl-C, 130.
    """

    def __init__(self):
        self.received: int | None = None
        # A handler may interrupt its own thread while that holds a lock, so it must not take one.
        # A SimpleQueue is safe in handlers, and a thread does the rest.
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    @property
    def status(self) -> int:
        """The exit status for the signal."""
        return 128 + signal.SIGINT if self.received == signal.SIGINT else 0

    def wait(self) -> None:
        """Waits for a signal."""
        wait(self._stopped)

    def then(self, callback: Callable[[], None]) -> None:
        """Calls the callback when a signal comes, or now if one has come."""
        self._callbacks.append(callback)
        if self._stopped.is_set():
            callback()

    def _note(self, number: int, _) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        self._queue.put(number)

    def _watch(self) -> None:
        self._queue.get()
        self._stopped.set()
        for callback in list(self._callbacks):
            callback()
