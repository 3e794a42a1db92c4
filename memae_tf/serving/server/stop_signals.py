"""SIGTERM and Ctrl-C to a server: requests under way are answered first."""

import queue
import signal
import threading
from collections.abc import Callable

from memae_tf.signals import wait


class StopSignals:
    """Notes the first SIGTERM or SIGINT; a second one ends the process at once.

    A SIGTERM that was drained is the way a server is meant to end: status 0. Ctrl-C gives 130.
    """

    def __init__(self):
        self.received: int | None = None
        # A handler may interrupt its own thread inside of a lock, so it takes none: the queue is
        # made for that, and a thread does the rest.
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    @property
    def status(self) -> int:
        """The exit status that the signal calls for."""
        return 128 + signal.SIGINT if self.received == signal.SIGINT else 0

    def wait(self) -> None:
        """Waits for a signal."""
        wait(self._stopped)

    def then(self, callback: Callable[[], None]) -> None:
        """Calls something when the signal comes, or now if it has come."""
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
