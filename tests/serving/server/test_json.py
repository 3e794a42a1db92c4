"""What REST reads and writes, where the contract suite does not look."""

import gzip
import json

import numpy as np
import pytest

from memae_tf.serving.server import json_document, json_tensors
from memae_tf.serving.server.rest_codec import decompress
from memae_tf.serving.wire.status import ServingError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_come_back_as_they_were(dtype):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (8 * np.dtype(dtype).itemsize), 20_000, np.uint64)
    values = bits.astype(f"u{np.dtype(dtype).itemsize}").view(dtype)
    answer = json.loads(json_tensors.column_outputs({"y": values}))["outputs"]
    assert all(type(value) is float for value in answer)
    np.testing.assert_array_equal(np.array(answer, np.float64).astype(dtype), values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1.0"),
        (0.1, "0.1"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (16777216, "16777216.0"),
        (0.3333333333333, "0.333333343"),
        (-0.0, "-0.0"),
    ],
)
def test_numbers_are_written_as_the_real_server_does(value, text):
    array = np.array(value, np.float32)
    assert json_tensors.column_outputs({"y": array}) == f'{{"outputs": {text}}}'.encode()


def test_shapes_of_answers():
    array = np.arange(6).reshape(1, 2, 3)
    answer = json.loads(json_tensors.predictions({"a": array, "b": np.array([True])}))
    assert answer == {"predictions": [{"a": [[0, 1, 2], [3, 4, 5]], "b": True}]}
    empty = json.loads(json_tensors.column_outputs({"a": np.zeros((2, 0, 3), np.int32)}))
    assert empty == {"outputs": [[], []]}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "Inf -NaN \\" Inf", "b": "\\\\"}',
        '{"a": "\\ud83d\\ude00 \\\\ud800"}',
        '{"a": 1e308, "b": -1E-400, "c": 123456789012345678901234567890}',
    ],
)
def test_documents_that_python_reads_alike(text):
    assert json_document.parse_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", [r'"\ud800"', r'"\udc00"', r'"\ud83dx\ude00"', r'"\ud800\n"'])
def test_half_a_surrogate_pair(text):
    with pytest.raises(ServingError, match="surrogate"):
        json_document.parse_object(f'{{"a": {text}}}'.encode())


def test_string_that_is_not_closed():
    """Looking for its end again at each quote would take minutes."""
    for end in ("", "\\"):
        with pytest.raises(ServingError, match="JSON Parse error"):
            json_document.parse_object(b'{"Inf": 1, "a": "' + b'\\"' * 200_000 + end.encode())


@pytest.mark.parametrize("number", ["1e309", "-1e400", "1" * 400, "9" * 250 + "e99"])
def test_numbers_beyond_a_double(number):
    with pytest.raises(ServingError, match="too big"):
        json_document.parse_object(f'{{"a": {number}}}'.encode())


def test_gzip_that_is_cut_off():
    whole = gzip.compress(b"x" * 1000)
    assert decompress(whole, 1000) == b"x" * 1000
    with pytest.raises(ServingError, match="uncompress"):
        decompress(whole[:-9], 1000)
    with pytest.raises(ServingError, match="larger than"):
        decompress(whole, 999)
