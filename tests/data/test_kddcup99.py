import os
import re
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memae_tf import load_pretrained
from memae_tf.config import KDDCup99Data
from memae_tf.data import kddcup99
from memae_tf.data.dataset import take
from memae_tf.errors import UserError

FOLDER = Path("scikit_learn_data") / "kddcup99_10-py3"
NUM_RECORDS, NUM_ANOMALIES = 494_021, 97_278
NUM_NORMAL = NUM_RECORDS - NUM_ANOMALIES


def load(directory, seed=0, **settings):
    return kddcup99.load(KDDCup99Data(name="kddcup99", dir=directory, **settings), seed)


def size(records):
    (length,) = {len(column) for column in records.values()}
    return length


# the real set


@pytest.fixture(scope="module")
def data_dir():
    directory = os.environ.get("MEMAE_DATA_DIR")
    if not directory or not (Path(directory) / FOLDER).is_dir():
        pytest.skip(f"needs the real KDDCUP99: $MEMAE_DATA_DIR has no {FOLDER}/")
    return Path(directory)


@pytest.fixture(scope="module")
def real(data_dir):
    return kddcup99.fetch(str(data_dir / "scikit_learn_data"))


def test_the_real_set_has_its_known_numbers_of_records_fields_and_anomalies(real):
    records, labels = real
    assert size(records) == len(labels) == NUM_RECORDS
    assert (labels == "normal.").sum() == NUM_ANOMALIES
    assert len(records) == 41
    text = {name for name, column in records.items() if column.dtype == object}
    assert text == {"protocol_type", "service", "flag"}
    assert set(records["protocol_type"]) == {"tcp", "udp", "icmp"}


@pytest.mark.usefixtures("real")
def test_dagmm_of_the_real_set_tests_on_half_of_it_with_a_fifth_of_anomalies(data_dir):
    dataset = load(data_dir, protocol="dagmm")
    assert not dataset.simulated
    assert dataset.threshold == "top_ratio"
    assert size(dataset.test) == len(dataset.labels) == NUM_RECORDS - NUM_RECORDS // 2
    assert dataset.labels.mean() == pytest.approx(0.197, abs=0.002)
    assert size(dataset.train) == NUM_NORMAL - (dataset.labels == 0).sum()


@pytest.mark.usefixtures("real")
def test_goad_of_the_real_set_tests_on_a_third_of_anomalies(data_dir):
    dataset = load(data_dir, protocol="goad")
    assert not dataset.simulated
    assert dataset.threshold == "true_ratio"
    assert size(dataset.train) == pytest.approx(NUM_NORMAL / 2, abs=1)
    assert size(dataset.test) == len(dataset.labels) == NUM_RECORDS - size(dataset.train)
    assert dataset.labels.sum() == NUM_ANOMALIES
    assert dataset.labels.mean() == pytest.approx(0.329, abs=0.0005)


def test_pretrained_detector_tells_real_records_apart(real):
    records, labels = real
    some = np.random.default_rng(0).permutation(len(labels))[:20_000]
    regular = labels[some] == kddcup99.ANOMALY_LABEL
    answer = load_pretrained("kddcup99").detect(take(records, some))
    assert roc_auc_score(regular, answer["score"]) > 0.995
    # At its threshold: what is flagged is regular traffic, and nearly all of it.
    flagged = answer["is_anomaly"] == 1
    assert regular[flagged].mean() > 0.95
    assert flagged[regular].mean() > 0.99


@pytest.mark.usefixtures("real")
def test_max_records_takes_a_random_part_of_the_real_set(data_dir):
    first, again = (load(data_dir, max_records=5000) for _ in range(2))
    other = load(data_dir, seed=1, max_records=5000)
    assert size(first.test) == 2500
    assert first.labels.mean() == pytest.approx(0.197, abs=0.04)
    np.testing.assert_array_equal(first.test["src_bytes"], again.test["src_bytes"])
    assert (first.test["src_bytes"] != other.test["src_bytes"]).any()


# without the set and without a network


def user_error(directory, **settings):
    with pytest.raises(UserError) as caught:
        load(directory, **settings)
    return str(caught.value)


def load_simulated(directory, **settings):
    with pytest.warns(UserWarning, match="SIMULATED"):
        return load(directory, **settings)


@pytest.mark.parametrize("protocol", ["dagmm", "goad"])
def test_without_the_set_simulated_traffic_stands_in_with_a_warning(offline, protocol):
    dataset = load_simulated(offline, protocol=protocol, max_records=4000)
    assert dataset.simulated
    assert dataset.protocol == protocol
    assert set(dataset.labels) == {0, 1}
    assert size(dataset.test) == len(dataset.labels)
    features = np.asarray(dataset.featurizer(dataset.test))
    assert features.shape == (len(dataset.labels), dataset.featurizer.num_features)
    assert np.isfinite(features).all()


def test_the_normal_connections_are_the_anomalies(offline):
    dataset = load_simulated(offline, max_records=4000)
    assert dataset.labels.mean() == pytest.approx(0.197, abs=0.05)
    attacks = set(dataset.train["service"])
    assert "ecr_i" in attacks
    assert "domain_u" not in attacks
    assert set(dataset.featurizer.categorical) == set(kddcup99.CATEGORICAL)


def test_the_environment_names_the_data_folder_where_the_configuration_does_not(
    offline, monkeypatch
):
    write_archive(offline, b"cut off")
    monkeypatch.setenv("MEMAE_DATA_DIR", str(offline))
    assert str(offline / FOLDER) in user_error(None)


def test_without_the_set_and_without_fallback_the_error_says_what_to_do(offline):
    message = user_error(offline, fallback="none")
    for advice in ("cannot be downloaded", "$MEMAE_DATA_DIR", "data.fallback=simulated"):
        assert advice in message


def test_a_data_folder_that_is_not_there_is_named(offline):
    missing = offline / "nowhere"
    assert f"data.dir={missing}" in user_error(missing)


def test_a_scikit_learn_folder_that_cannot_be_made_is_named(offline, monkeypatch):
    (offline / "file").write_text("")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(offline / "file" / "sklearn"))
    assert str(offline / "file") in user_error(offline, fallback="none")


@pytest.mark.parametrize("protocol", ["dagmm", "goad"])
def test_too_few_records_for_a_split_are_refused(offline, protocol):
    with pytest.warns(UserWarning, match="SIMULATED"):
        message = user_error(offline, protocol=protocol, max_records=1)
    assert "data.max_records=1" in message


# damaged files


def write_archive(directory, content):
    archive = directory / FOLDER / "kddcup99_10_data"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(content)
    return archive


def write_cache(directory):
    """The files that scikit-learn keeps after a download, with 200 records in them."""
    folder = directory / FOLDER
    folder.mkdir(parents=True)
    records = np.zeros((200, 41), dtype=object)
    records[:, 1:4] = [b"tcp", b"http", b"SF"]
    records[::2, 4] = 100
    records[:, 5] = range(200)
    targets = np.array([b"normal.", b"smurf."] * 100, dtype=object)
    joblib.dump(records, folder / "samples", compress=3)
    joblib.dump(targets, folder / "targets", compress=3)
    return folder


def cut_off(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("fallback", ["simulated", "none"])
def test_a_cut_off_archive_is_an_error_and_never_simulated(offline, fallback):
    content = np.random.default_rng(0).bytes(1000)
    archive = write_archive(offline, content)
    assert str(archive) in user_error(offline, fallback=fallback)
    assert archive.read_bytes() == content


@pytest.mark.parametrize("keep", [0, 0.5])
@pytest.mark.parametrize("name", ["samples", "targets"])
def test_a_cut_off_cache_is_an_error_and_never_simulated(offline, name, keep):
    folder = write_cache(offline)
    cut_off(folder / name, keep)
    assert re.search(rf"{re.escape(str(folder))}.*delete", user_error(offline))


def test_a_cache_without_its_targets_is_an_error_and_never_simulated(offline):
    folder = write_cache(offline)
    (folder / "targets").unlink()
    assert str(folder) in user_error(offline)


def test_a_whole_cache_is_read_and_not_simulated(offline):
    write_cache(offline)
    dataset = load(offline)
    assert not dataset.simulated
    assert size(dataset.test) == 100
    assert set(dataset.test["service"]) == {"http"}
    assert dataset.train["src_bytes"].dtype == np.float32
    assert set(dataset.train["src_bytes"]) == {0}
    assert set(dataset.test["src_bytes"][dataset.labels == 1]) == {100}


@pytest.mark.parametrize(("max_records", "used"), [(100, 100), (1000, 200)])
def test_max_records_draws_from_the_whole_set_by_seed(offline, max_records, used):
    write_cache(offline)
    settings = {"protocol": "goad", "max_records": max_records}
    first, again, other = (load(offline, seed=seed, **settings) for seed in (1, 1, 2))
    assert size(first.train) + size(first.test) == used
    drawn = np.concatenate([first.train["dst_bytes"], first.test["dst_bytes"]])
    assert len(set(drawn)) == used
    assert drawn.min() < 50
    assert drawn.max() >= 150
    np.testing.assert_array_equal(first.test["dst_bytes"], again.test["dst_bytes"])
    assert set(first.test["dst_bytes"]) != set(other.test["dst_bytes"])
