import json
from importlib import resources

import numpy as np
import pytest

from memae_tf.data import kddcup99, simulated_traffic
from memae_tf.data.simulated_traffic import QUANTILES, sample, summarise

NUM_RECORDS = 40_000


@pytest.fixture(scope="module")
def table():
    file = resources.files("memae_tf.data").joinpath("simulated_traffic.json")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def traffic():
    return sample(NUM_RECORDS, seed=1)


def sampling_error(share, count):
    """Five standard deviations of a share that is estimated from `count` draws."""
    return 5 * np.sqrt(share * (1 - share) / count) + 1 / count


def true_shares(table):
    shares = {name: statistics["share"] for name, statistics in table["classes"].items()}
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def test_the_same_seed_gives_the_same_records():
    (records, labels), (again, labels_again) = sample(500, seed=4), sample(500, seed=4)
    np.testing.assert_array_equal(labels, labels_again)
    assert list(records) == list(again)
    for name in records:
        np.testing.assert_array_equal(records[name], again[name])


def test_another_seed_gives_other_records():
    (records, labels), (others, other_labels) = sample(500, seed=4), sample(500, seed=5)
    assert (labels != other_labels).any()
    assert (records["src_bytes"] != others["src_bytes"]).any()


def test_there_are_as_many_records_as_asked_for_with_the_41_fields_of_kddcup99(traffic):
    records, labels = traffic
    assert len(records) == 41
    assert set(kddcup99.CATEGORICAL) < set(records)
    assert {len(column) for column in [*records.values(), labels]} == {NUM_RECORDS}


def test_the_default_is_a_hundred_thousand_records():
    assert simulated_traffic.NUM_RECORDS == 100_000
    assert len(sample()[1]) == 100_000


def test_three_fields_are_text_and_the_others_finite_float32(traffic):
    records, _ = traffic
    text = {name for name, column in records.items() if column.dtype == object}
    assert text == {"protocol_type", "service", "flag"}
    for name in records.keys() - text:
        assert records[name].dtype == np.float32
        assert np.isfinite(records[name]).all()


def test_the_classes_have_about_the_shares_of_the_table(table, traffic):
    _, labels = traffic
    shares = true_shares(table)
    assert set(labels) == set(shares)
    for name, share in shares.items():
        error = sampling_error(share, NUM_RECORDS)
        assert np.mean(labels == name) == pytest.approx(share, abs=error)


def test_the_classes_are_in_random_order(traffic):
    _, labels = traffic
    anomalies = labels == kddcup99.ANOMALY_LABEL
    halves = np.split(anomalies, 2)
    assert halves[0].mean() == pytest.approx(halves[1].mean(), abs=0.03)


def test_every_category_is_one_of_its_classs_in_the_table(table, traffic):
    records, labels = traffic
    for class_name, statistics in table["classes"].items():
        rows = labels == class_name
        for field in table["text_fields"]:
            assert set(records[field][rows]) <= set(statistics["fields"][field])


def test_numbers_stay_between_the_outer_quantiles_and_are_whole_or_have_two_decimals(
    table, traffic
):
    records, labels = traffic
    for class_name, statistics in table["classes"].items():
        rows = labels == class_name
        for field in records.keys() - set(table["text_fields"]):
            low, *_, high = statistics["fields"].get(field, [0.0, 0.0])
            decimals = 0 if high > 1 else 2
            values = records[field][rows].astype("float64")
            assert values.min() >= np.round(low, decimals) - 1e-6
            assert values.max() <= np.round(high, decimals) + 1e-6
            np.testing.assert_allclose(values, np.round(values, decimals), atol=1e-6)


def test_summarising_a_sample_gives_the_tables_shares_back(table, traffic):
    again = summarise(*traffic)
    assert again["fields"] == table["fields"]
    assert again["text_fields"] == table["text_fields"]
    shares = true_shares(table)
    assert set(again["classes"]) == set(shares)
    for name, share in shares.items():
        count = share * NUM_RECORDS
        assert again["classes"][name]["share"] == pytest.approx(
            share, rel=0.005, abs=sampling_error(share, NUM_RECORDS)
        )
        for field in table["text_fields"]:
            frequencies = table["classes"][name]["fields"][field]
            total = sum(frequencies.values())
            for word, frequency in frequencies.items():
                found = again["classes"][name]["fields"][field].get(word, 0.0)
                true = frequency / total
                assert found == pytest.approx(true, rel=0.005, abs=sampling_error(true, count))


def test_summarising_a_sample_gives_the_tables_quantiles_back(table, traffic):
    again = summarise(*traffic)
    compared = 0
    for name, share in true_shares(table).items():
        count = share * NUM_RECORDS
        fields = table["classes"][name]["fields"]
        for field, quantiles in fields.items():
            if field in table["text_fields"]:
                continue
            found = again["classes"][name]["fields"].get(field, [0.0] * len(QUANTILES))
            rounding = 0.5 if max(quantiles) > 1 else 0.005
            # Dvoretzky-Kiefer-Wolfowitz: 1 in 100,000 samples is further off than this.
            error = 2.5 / np.sqrt(count) + 1 / count
            for q, value in zip(QUANTILES, found, strict=True):
                low, high = np.interp([q - error, q + error], QUANTILES, quantiles)
                slack = rounding + 0.005 * abs(value) + 1e-6
                assert low - slack <= value <= high + slack, (name, field, q)
                compared += 1
    assert compared > 500


def test_a_summary_has_shares_frequencies_and_quantiles_and_leaves_zero_fields_out():
    records = {
        "size": np.array([0, 1, 2, 3, 4, 7, 7], "float32"),
        "zero": np.array([0, 0, 0, 0, 0, 5, 0], "float32"),
        "flag": np.array(["SF", "SF", "S0", "SF", "SF", "REJ", "REJ"], dtype=object),
    }
    labels = np.array(["a"] * 5 + ["b"] * 2, dtype=object)
    assert summarise(records, labels) == {
        "fields": ["size", "zero", "flag"],
        "text_fields": ["flag"],
        "classes": {
            "a": {
                "share": 0.714,
                "fields": {"size": [0.04, 1.0, 2.0, 3.0, 3.96], "flag": {"SF": 0.8, "S0": 0.2}},
            },
            "b": {
                "share": 0.286,
                "fields": {
                    "size": [7.0] * 5,
                    "zero": [0.05, 1.25, 2.5, 3.75, 4.95],
                    "flag": {"REJ": 1.0},
                },
            },
        },
    }


def test_a_summary_keeps_the_most_frequent_classes_and_categories():
    labels = np.repeat(["rare", "common", "usual"], [1, 30, 20]).astype(object)
    words = np.array([f"w{i % 10}" for i in range(51)], dtype=object)
    summary = summarise({"word": words}, labels, num_classes=2)
    assert list(summary["classes"]) == ["common", "usual"]
    assert len(summary["classes"]["common"]["fields"]["word"]) == 8
