import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memae_tf.data import splits

LABELS = (np.arange(1000) % 5 == 0).astype("int64")

label_arrays = st.lists(st.sampled_from([0, 1]), max_size=60).map(
    lambda labels: np.array(labels, dtype="int64")
)
seeds = st.integers(0, 2**31 - 1)
shares = st.floats(0.01, 0.99)

PROTOCOLS = {
    "dagmm": splits.dagmm,
    "goad": splits.goad,
    "holdout": lambda labels, seed: splits.holdout(labels, seed, test_share=0.3),
}
every_protocol = pytest.mark.parametrize("split", PROTOCOLS.values(), ids=PROTOCOLS.keys())


def left_out(labels, train, test):
    return np.setdiff1d(np.arange(len(labels)), np.concatenate([train, test]))


def test_dagmm_tests_on_half_of_all_records_and_trains_on_the_other_halfs_normal_ones():
    train, test = splits.dagmm(LABELS, seed=0)
    assert len(test) == 500
    assert len(train) == 500 - (LABELS.sum() - LABELS[test].sum())


def test_dagmm_gives_the_odd_record_to_the_test_set():
    train, test = splits.dagmm(np.zeros(7, "int64"), seed=0)
    assert (len(train), len(test)) == (3, 4)


def test_dagmm_draws_the_test_half_from_all_records():
    _, test = splits.dagmm(LABELS, seed=0)
    assert LABELS[test].mean() == pytest.approx(LABELS.mean(), abs=0.05)
    assert test.min() < 100
    assert test.max() >= 900
    assert np.mean(test) == pytest.approx(500, abs=60)


def test_goad_trains_on_half_of_the_normal_records_and_tests_on_all_others():
    train, test = splits.goad(LABELS, seed=0)
    assert len(train) == 400
    assert len(test) == 400 + 200
    assert LABELS[test].sum() == 200


@pytest.mark.parametrize(("share", "num_train"), [(0.25, 600), (0.5, 400), (0.9, 80)])
def test_holdout_keeps_the_share_of_normal_records_for_the_test_set(share, num_train):
    train, test = splits.holdout(LABELS, seed=0, test_share=share)
    assert len(train) == num_train
    assert len(test) == 800 - num_train + 200


@pytest.mark.parametrize(("share", "num_train"), [(0.1, 3), (0.5, 2), (0.9, 1)])
def test_holdout_of_few_records_has_a_normal_one_to_train_on_and_one_to_test_on(share, num_train):
    train, test = splits.holdout(np.array([0, 1, 0, 1, 0, 1, 0]), seed=0, test_share=share)
    assert len(train) == num_train
    assert len(test) == 4 - num_train + 3


def test_one_class_trains_on_two_thirds_and_tests_with_a_share_of_anomalies():
    train, test = splits.one_class(LABELS, seed=0, anomaly_share=0.3)
    # 800 normal ones; 267 / 0.7 are 381.
    assert len(train) == 533
    assert len(test) == 381
    assert LABELS[test].sum() == 381 - 267


@every_protocol
def test_the_same_seed_gives_the_same_split(split):
    for first, second in zip(split(LABELS, 3), split(LABELS, 3), strict=True):
        np.testing.assert_array_equal(first, second)


@every_protocol
def test_another_seed_gives_another_split(split):
    for first, second in zip(split(LABELS, 3), split(LABELS, 4), strict=True):
        assert set(first) != set(second)


@every_protocol
def test_the_labels_are_left_as_they_were(split):
    labels = LABELS.copy()
    split(labels, 0)
    np.testing.assert_array_equal(labels, LABELS)


@every_protocol
@given(labels=label_arrays, seed=seeds)
def test_no_record_is_used_twice_and_only_normal_ones_train(split, labels, seed):
    train, test = split(labels, seed)
    used = np.concatenate([train, test])
    assert len(set(used.tolist())) == len(used)
    assert set(used.tolist()) <= set(range(len(labels)))
    assert (labels[train] == 0).all()


@given(labels=label_arrays, seed=seeds)
def test_dagmm_leaves_out_only_the_anomalies_of_the_training_half(labels, seed):
    train, test = splits.dagmm(labels, seed)
    unused = left_out(labels, train, test)
    assert len(test) == len(labels) - len(labels) // 2
    assert len(train) + len(unused) == len(labels) // 2
    assert (labels[unused] == 1).all()


@given(labels=label_arrays, seed=seeds, share=shares)
def test_holdout_uses_every_record_and_tests_on_every_anomaly(labels, seed, share):
    train, test = splits.holdout(labels, seed, share)
    num_normal = int((labels == 0).sum())
    assert left_out(labels, train, test).size == 0
    if num_normal > 1:
        assert 1 <= len(train) < num_normal
        assert len(train) == pytest.approx(num_normal * (1 - share), abs=1)
    assert labels[test].sum() == labels.sum()


@given(labels=label_arrays, seed=seeds)
def test_goad_is_a_holdout_of_one_half(labels, seed):
    for goad, holdout in zip(
        splits.goad(labels, seed), splits.holdout(labels, seed, 0.5), strict=True
    ):
        np.testing.assert_array_equal(goad, holdout)
