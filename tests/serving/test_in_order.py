import threading

from test_signals import is_missed

from memae_tf.serving.in_order import in_order


def test_ctrl_c_ends_the_wait_for_an_answer():
    answered = threading.Event()
    answers = in_order(lambda late: not late or answered.wait(), [False, True])
    # Then everything has begun, and what is left is to wait.
    assert next(answers)
    assert not is_missed(lambda: next(answers), answered.set, "wait")
    answered.set()
