"""Signals that do not wake the main thread's wait."""

import signal
import subprocess
import sys
import threading
from queue import Queue, SimpleQueue

import pytest

from memae_tf.scoring.streams import Ahead
from memae_tf.signals import take, wait

# A command during whose garbage collection a signal comes.
COMMAND = """
import gc, os, signal, sys, time, weakref
from memae_tf import console

signal.signal(signal.SIGINT, signal.default_int_handler)

class Cycle:
    def __init__(self):
        self.own = self

def callback(_):
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(0)

def main(_):
    reference = weakref.ref(Cycle(), callback)
    gc.collect()
    for _ in range(400):
        time.sleep(0.05)

console.run(main)
"""


def is_missed(wait, release, function: str) -> bool:
    """Whether Ctrl-C waits for `release` where another thread gets the signal.

    The system call of the main thread goes on, as that of one that begins a moment too late.

    Args:
        wait: What waits, in the main thread.
        release: Ends it in any case, after 20 s.
        function: The one in which Python is while it waits.
    """
    main = threading.main_thread()
    released = []
    timer = threading.Timer(20, lambda: (released.append(True), release()))

    def waits() -> bool:
        frame = sys._current_frames()[main.ident]
        inner = frame.f_code.co_name
        while frame is not None and frame.f_code is not wait.__code__:
            frame = frame.f_back
        return frame is not None and inner == function

    def interrupt():
        while not waits():
            pass
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    timer.start()
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        timer.cancel()
    return bool(released)


def test_taking_from_a_queue():
    queue = SimpleQueue()
    assert not is_missed(lambda: take(queue), lambda: queue.put(0), "take")


def test_taking_what_is_there():
    for queue in (Queue(), SimpleQueue()):
        queue.put(1)
        queue.put(2)
        assert [take(queue), take(queue)] == [1, 2]


def test_waiting_for_an_event():
    event = threading.Event()
    assert not is_missed(lambda: wait(event), event.set, "wait")
    event.set()
    wait(event)


def test_frames_that_do_not_come():
    stalled = threading.Event()

    def frames():
        stalled.wait()
        yield from ()

    with Ahead(frames(), drops=False) as ahead:
        assert not is_missed(lambda: list(ahead), stalled.set, "wait")
        stalled.set()


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGTERM, 143, "terminated\n"), (signal.SIGINT, 130, "interrupted\n")],
)
def test_amid_a_garbage_collection(number, status, said):
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(int(number))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (status, said)
