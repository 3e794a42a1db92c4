import numpy as np

from memae_tf.scoring.records import UnseenCategories


def complaints(known, *columns):
    unseen = UnseenCategories({"kind": known})
    batches = [{"kind": column} for column in columns]
    assert list(unseen.watched(batches)) == batches
    return list(unseen.complaints("a.csv"))


def test_numbers_are_compared_as_a_detector_has_them():
    """0.1 and 2.7 are others in float32 than in float64."""
    column = np.array([0.1, 2.7, np.nan, 2.7], "float32")
    assert not complaints([0.1, 2.7], column)
    assert complaints([0.1], column) == [
        "a.csv: in column 'kind' 2 of 3 records have a category that the detector does not know, "
        "such as 2.7; it knows 0.1"
    ]


def test_half_of_the_records_are_not_most():
    tcp, udp = np.array(["tcp", "", "tcp"], object), np.array(["udp", "udp"], object)
    assert not complaints(["udp"], tcp, udp)
    (said,) = complaints(["udp"], tcp, udp, tcp)
    assert said.startswith("a.csv: in column 'kind' 4 of 6 records have")
