"""What REST reads and writes, where the contract suite does not look."""

import gzip
import json
import marshal
import tracemalloc

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from memae_tf.serving.server import json_document, json_examples, json_tensors
from memae_tf.serving.server.json_lists import LongList
from memae_tf.serving.server.rest_codec import decompress
from memae_tf.serving.wire.status import Code, ServingError


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


# Documents that are long enough for their lists to be read block by block.

NUMBER = meta_graph_pb2.TensorInfo(dtype=types_pb2.DT_FLOAT)
IMAGES = [[[[i % 256, 7]] * 5] * 4 for i in range(8_000)]
LISTS = {
    "numbers": [i / 7 if i % 3 else i for i in range(120_000)],
    "images": IMAGES,
    "images of which one is of other numbers": [*IMAGES, [[[-1.5e3, 0]] * 5] * 4, *IMAGES],
    "texts with commas": ['a","b', "],[", "é,\ud83d"] * 60_000,
    "records": [{"x": i, "y": [f"{i}", None, True, {}]} for i in range(40_000)],
    "all kinds": [[], {}, "", 1, 2.0, [[1], [2]], "]," * 300, -(2**70), None] * 3000,
    "one long": ["x" * 2**21],
}


def plain(value: object) -> object:
    """A document with every list as Python's own."""
    if isinstance(value, dict):
        return {key: plain(element) for key, element in value.items()}
    return list(value) if isinstance(value, LongList) else value


@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : "), None])
@pytest.mark.parametrize("values", LISTS.values(), ids=LISTS)
def test_long_lists_are_read_as_short_ones(values, separators):
    indent = 1 if separators is None else None
    for document in ({"instances": values, "b": [1]}, {"a": 1, "inputs": {"b": [], "x": values}}):
        text = json.dumps(document, separators=separators, indent=indent, ensure_ascii=False)
        body = text.encode("utf-8", "surrogatepass") + b" and more"
        assert len(body) > json_document.LONG_BYTES
        expected = json.loads(body[:-9].decode("utf-8", "surrogateescape"))
        read = plain(json_document.parse_object(body))
        # Also of the same types: 1, 1.0 and True are equal. Version 0 does not tell how often
        # something is referred to.
        assert marshal.dumps(read, 0) == marshal.dumps(expected, 0)


@pytest.mark.parametrize("bad", ["1[]", "[,1]", "[1,]", "[1 2]", "[1", "01", "[1]]", "", "}", "'"])
@pytest.mark.parametrize("place", [10, 60_000, 119_999])
def test_mistakes_in_long_lists(bad, place):
    """At the place of an element like the others, `[[1]]`."""
    elements = ["[[1]]"] * 300_000
    elements[place] = f"[{bad}]"
    body = f'{{"instances": [{",".join(elements)}]}}'.encode()
    with pytest.raises(ServingError) as refusal:
        json_tensors.parse_inputs(json_document.parse_object(body), {"x": NUMBER})
    assert refusal.value.code is Code.INVALID_ARGUMENT
    with pytest.raises((ValueError, TypeError)):
        np.array(json.loads(body)["instances"], float)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([["a"]], 'element: 200000 of .* "a" Type: String'),
        ([[1], [2]], r"element: 200000 of .*Expecting shape \[1,1\] but got: \[2,1\]"),
        ({"x": 1}, "Expecting value/list but got object at item 200000"),
    ],
)
def test_row_of_a_long_list_that_is_wrong(bad, message):
    body = json.dumps({"instances": [*[[[1]]] * 200_000, bad, *[[[1]]] * 200_000]}).encode()
    with pytest.raises(ServingError, match=message):
        json_tensors.parse_inputs(json_document.parse_object(body), {"x": NUMBER})


def test_columns_of_a_long_list_that_are_of_two_shapes():
    body = json.dumps({"inputs": [[1]] * 200_000 + [[1, 2]] * 200_000}).encode()
    with pytest.raises(ServingError, match=r"shapes \[1\] and|unexpected size"):
        json_tensors.parse_inputs(json_document.parse_object(body), {"x": NUMBER})


def test_request_without_rows_shows_the_beginning_of_long_lists():
    body = json.dumps({"instances": [[[1]]] * 300_000}).encode()
    with pytest.raises(ServingError, match=r'Value: {"instances": \[\[\[1\]\], .*\.\.\. When'):
        json_examples.parse_examples(json_document.parse_object(body))


@pytest.mark.parametrize("row", [[[[7], [9]]], {"x": [7.5]}], ids=["images", "objects"])
def test_memory_that_a_long_request_takes(row):
    """As lists and dicts of Python's these would take more than twenty times the text's bytes."""
    element = json.dumps(row, separators=(",", ":"))
    body = f'{{"instances":[{",".join([element] * (2**21 // len(element)))}]}}'.encode()
    tracemalloc.start()
    try:
        inputs, _ = json_tensors.parse_inputs(json_document.parse_object(body), {"x": NUMBER})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(inputs["x"]) == 2**21 // len(element)
    assert peak < 7 * len(body)


def test_rows_of_a_long_answer():
    values = np.arange(200_000, dtype=np.float32).reshape(-1, 2, 1)
    answer = json.loads(json_tensors.predictions({"y": values}))
    assert answer == {"predictions": values.tolist()}
    assert json.loads(json_tensors.column_outputs({"y": values})) == {"outputs": values.tolist()}


def test_memory_that_a_long_answer_takes():
    outputs = {alias: np.random.default_rng(0).random(200_000) for alias in ("a", "b")}
    tracemalloc.start()
    answer = json_tensors.predictions(outputs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The texts of all rows and numbers would be nearly eight times the answer.
    assert peak < 6 * len(answer)
