import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memae_tf.training.feed import gather_on, part_of, shuffled
from memae_tf.training.samples import ArraySamples


@given(size=st.integers(1, 5000), count=st.integers(1, 64))
def test_parts_cover_a_batch_and_their_shares_add_up(size, count):
    parts = [part_of(size, rank, count) for rank in range(count)]
    counted = [part for part in parts if part.share > 0]
    rows = [row for part in counted for row in range(part.start, part.stop)]
    assert rows == list(range(size))
    np.testing.assert_allclose(sum(part.share for part in parts), 1)
    # A replica without a row of its own computes along with another's.
    assert all(0 <= part.start < part.stop <= size for part in parts)
    lengths = [part.stop - part.start for part in counted]
    assert max(lengths) - min(lengths) <= 1


def test_features_are_gathered_by_tensorflow_on_every_device():
    samples = ArraySamples(np.zeros((3, 2), "float32"))
    for kind in ("CPU", "GPU"):
        device = f"/job:localhost/replica:0/task:0/device:{kind}:0"
        assert gather_on([device], samples) == samples.gather


def test_order_depends_on_seed_and_epoch_alone():
    order = shuffled(100, seed=1, epoch=2)
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(order, shuffled(100, seed=1, epoch=2))
    assert (order != shuffled(100, seed=1, epoch=3)).any()
    assert (order != shuffled(100, seed=2, epoch=2)).any()
    # Not on their sum: runs of neighbouring seeds have no order in common.
    assert (order != shuffled(100, seed=2, epoch=1)).any()
