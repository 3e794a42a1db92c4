"""Several calls at a time, with results in the order of the arguments."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue

from memae_tf.signals import take, wait

IN_FLIGHT = 4


def in_order(function: Callable, items: Iterable) -> Iterator:
    """The results of a function for all items, in their order, from `IN_FLIGHT` calls at a time.

    Items are read in a thread, so that a finished result does not wait for the next item.
    """
    under_way: SimpleQueue[Future | None] = SimpleQueue()
    free = threading.Semaphore(IN_FLIGHT)
    is_over = threading.Event()

    def read() -> None:
        try:
            for item in items:
                free.acquire()
                if is_over.is_set():
                    return
                under_way.put(_in_background(function, item))
            under_way.put(None)
        except BaseException as error:
            failed: Future = Future()
            failed.set_exception(error)
            under_way.put(failed)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (future := take(under_way)) is not None:
            yield _result(future)
            free.release()
    finally:
        is_over.set()
        free.release()


def _result(future: Future) -> object:
    """`future.result()`, but signals are noticed while the main thread waits."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    wait(done)
    return future.result()


def _in_background(function: Callable, item: object) -> Future:
    # Not a thread of a pool, as those are joined when the process ends, even after Ctrl-C.
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(function(item))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
