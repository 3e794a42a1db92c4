import resource
from dataclasses import dataclass, replace

import numpy as np
import pytest

from memae_tf.errors import UserError
from memae_tf.training.checkpoints import Checkpoint, Checkpoints
from memae_tf.training.loop import Position


def checkpoint(epoch: int, step: int = 0) -> Checkpoint:
    rng = np.random.default_rng(epoch)
    state = {
        "model/000": rng.normal(size=(30, 40)).astype("float32"),
        "optimizer/000": np.array(epoch, "int64"),
    }
    history = [{"epoch": number + 1, "loss": 1 / (number + 1)} for number in range(epoch)]
    return Checkpoint(Position(epoch, step, 10 * step, 0.1, 0.2, 0.3), history, state)


def assert_same(a: Checkpoint, b: Checkpoint):
    assert (a.position, a.history, a.state.keys()) == (b.position, b.history, b.state.keys())
    for name, value in a.state.items():
        np.testing.assert_array_equal(value, b.state[name])
        assert value.dtype == b.state[name].dtype


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=2)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.directory.iterdir())


def test_nothing_yet(checkpoints):
    assert checkpoints.latest() is None


def test_latest_comes_back(checkpoints):
    for moment in (checkpoint(1), checkpoint(1, 64), checkpoint(2)):
        checkpoints.save(moment, best_epoch=0)
        assert_same(checkpoints.latest(), moment)


def test_the_last_and_the_best_stay(checkpoints):
    for epoch in range(1, 6):
        checkpoints.save(checkpoint(epoch), best_epoch=min(epoch, 2))
    assert names(checkpoints) == [f"epoch-0000{epoch}-step-0000000.npz" for epoch in (2, 4, 5)]
    assert_same(checkpoints.after_epoch(2), checkpoint(2))
    with pytest.raises(UserError, match="best epoch is missing or damaged"):
        checkpoints.after_epoch(3)


def test_one_that_is_cut_short_anywhere_is_never_loaded(checkpoints):
    checkpoints.save(checkpoint(1), best_epoch=1)
    checkpoints.save(checkpoint(2), best_epoch=2)
    path = checkpoints.directory / "epoch-00002-step-0000000.npz"
    whole = path.read_bytes()
    for size in np.linspace(0, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:size])
        with pytest.warns(UserWarning, match="is damaged; resuming from the one before it"):
            found = checkpoints.latest()
        assert_same(found, checkpoint(1))
    path.write_bytes(whole)
    assert_same(checkpoints.latest(), checkpoint(2))


def test_one_of_another_version_is_never_loaded(checkpoints):
    @dataclass(frozen=True)
    class LaterPosition(Position):
        mood: str = "good"

    checkpoints.save(checkpoint(1), best_epoch=1)
    later = replace(checkpoint(2), position=LaterPosition(epoch=2))
    checkpoints.save(later, best_epoch=2)
    with pytest.warns(UserWarning, match="epoch-00002-.* is damaged"):
        assert_same(checkpoints.latest(), checkpoint(1))
    with pytest.raises(UserError, match="best epoch is missing or damaged"):
        checkpoints.after_epoch(2)


def test_one_after_a_damaged_one_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    for epoch in (3, 5):
        checkpoints.save(checkpoint(epoch), best_epoch=3)
    (checkpoints.directory / "epoch-00005-step-0000000.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="is damaged"):
        assert_same(checkpoints.latest(), checkpoint(3))
    checkpoints.save(checkpoint(3, 7), best_epoch=3)
    assert_same(checkpoints.latest(), checkpoint(3, 7))


def test_one_with_a_wrong_bit_is_never_loaded(checkpoints):
    checkpoints.save(checkpoint(1), best_epoch=1)
    checkpoints.save(checkpoint(2), best_epoch=2)
    path = checkpoints.directory / "epoch-00002-step-0000000.npz"
    whole = path.read_bytes()
    # In the first array; and in the directory, where it says that an array is compressed.
    for place, bit in ((2000, 1), (whole.index(b"PK\x01\x02") + 10, 8)):
        wrong = bytearray(whole)
        wrong[place] ^= bit
        path.write_bytes(wrong)
        with pytest.warns(UserWarning, match="is damaged"):
            assert_same(checkpoints.latest(), checkpoint(1))


def test_a_full_disk_leaves_what_was_there(checkpoints):
    checkpoints.save(checkpoint(1), best_epoch=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses to write more, as it does when a disk is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"epoch-00002-step-0000000\.npz: cannot be written"):
            checkpoints.save(checkpoint(2), best_epoch=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(checkpoints) == ["epoch-00001-step-0000000.npz"]
    assert_same(checkpoints.latest(), checkpoint(1))
