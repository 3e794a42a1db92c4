"""Tensors in JSON, in the row and column formats of REST, strictly typed."""

import base64
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from memae_tf.serving.server import json_document
from memae_tf.serving.server.json_document import shown
from memae_tf.serving.server.json_lists import LongList, NumberBlock, blocks_of
from memae_tf.serving.wire import tensors
from memae_tf.serving.wire.status import Code, ServingError, invalid_argument

Infos = Mapping[str, meta_graph_pb2.TensorInfo]
Rows = list | NumberBlock

BYTES_SUFFIX = "_bytes"
# The number of elements of a response that are turned into text at a time.
BLOCK_ELEMENTS = 2**16
_INT32 = (-(2**31), 2**31 - 1)
# What a token must be to become an element: a 32-bit integer wraps to narrower types.
_INTEGERS = {
    types_pb2.DT_INT8: (np.int8, _INT32),
    types_pb2.DT_INT16: (np.int16, _INT32),
    types_pb2.DT_INT32: (np.int32, _INT32),
    types_pb2.DT_UINT8: (np.uint8, _INT32),
    types_pb2.DT_INT64: (np.int64, (-(2**63), 2**63 - 1)),
    types_pb2.DT_UINT32: (np.uint32, (0, 2**32 - 1)),
    types_pb2.DT_UINT64: (np.uint64, (0, 2**64 - 1)),
}
_FLOATS = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_DOUBLE: np.float64}
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)(=*)")
_SPACE = re.compile(r"[ \t\r\n\f\v]")


def parse_inputs(document: dict, infos: Infos) -> tuple[dict[str, np.ndarray], bool]:
    """The tensors of a predict request by alias, and whether it is in row format.

    Raises:
        ServingError: If the document is not such a request.
    """
    if "instances" in document:
        if "inputs" in document:
            raise invalid_argument(
                f"JSON Value: {shown(document)} Not formatted correctly expecting only one of "
                "'inputs' or 'instances' keys to exist "
            )
        rows = document["instances"]
        if not isinstance(rows, list | LongList):
            raise invalid_argument(
                f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array"
            )
        if not rows:
            raise invalid_argument(f"JSON Value: {shown(document)} No values in 'instances' array")
        return _from_rows(rows, infos), True
    if "inputs" in document:
        return _from_columns(document["inputs"], infos), False
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _from_columns(value: object, infos: Infos) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or _is_base64(value):
        if len(infos) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        [alias] = infos
        return {alias: array_of(value, infos[alias].dtype)}
    arrays = {}
    for alias, info in infos.items():
        if alias not in value:
            raise invalid_argument(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = array_of(value[alias], info.dtype)
    return arrays


def _from_rows(rows: list | LongList, infos: Infos) -> dict[str, np.ndarray]:
    first = next(iter(rows))
    if len(infos) > 1 and not isinstance(first, dict):
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    named = _is_object(first)
    if not named and len(infos) > 1:
        raise invalid_argument("instances are base64 strings, but several inputs are required")
    parts: dict[str, list[np.ndarray]] = {alias: [] for alias in infos}
    start = 0
    for block in blocks_of(rows):
        _check_rows(start, block, named, infos)
        for alias, info in infos.items():
            column = [row[alias] for row in block] if named else block
            parts[alias].append(
                _column(start, column, info.dtype, alias if named else None, parts[alias][:1])
            )
        start += len(block)
    return {alias: _joined(arrays) for alias, arrays in parts.items()}


def _check_rows(start: int, rows: Rows, named: bool, infos: Infos) -> None:
    if isinstance(rows, NumberBlock) and not named:
        return
    aliases = set(infos)
    for index, row in enumerate(rows, start):
        if _is_object(row) != named:
            expected = "object but got list" if named else "value/list but got object"
            raise invalid_argument(f"Expecting {expected} at item {index} of input list")
        if named and row.keys() != aliases:
            _refuse_keys(index, row, infos)


def _column(
    start: int, column: Rows, dtype: int, key: str | None, before: Sequence[np.ndarray]
) -> np.ndarray:
    """The tensor of some rows, which must have the shape of those before, if there are any."""
    shape = before[0].shape[1:] if before else None
    try:
        array = array_of(column, dtype)
    except ServingError:
        _find_bad_row(start, column, dtype, key, shape)
        raise
    if shape not in (None, array.shape[1:]):
        _find_bad_row(start, column, dtype, key, shape)
    return array


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _refuse_keys(index: int, row: dict, infos: Infos) -> None:
    for key, value in row.items():
        if key not in infos:
            raise _row_error(
                index, key, invalid_argument(f"JSON object: does not have named input: {key}")
            )
        try:
            array_of(value, infos[key].dtype)
        except ServingError as error:
            raise _row_error(index, key, error) from None
    raise invalid_argument(
        f"Failed to process element: {index} of 'instances' list. JSON object: {shown(row)} "
        f"keys must be equal to: {','.join(sorted(infos))}"
    )


def _find_bad_row(
    start: int, column: Rows, dtype: int, key: str | None, first: tuple[int, ...] | None
) -> None:
    """Raises the error for the first row that is wrong or has another shape than the first."""
    for index, value in enumerate(column, start):
        try:
            shape = array_of(value, dtype).shape
        except ServingError as error:
            raise _row_error(index, key, error) from None
        first = shape if first is None else first
        if shape != first:
            text = [str(list(s)).replace(" ", "") for s in (first, shape)]
            raise _row_error(
                index, key, invalid_argument(f"Expecting shape {text[0]} but got: {text[1]}")
            )


def _row_error(index: int, key: str | None, error: ServingError) -> ServingError:
    where = f"{index}" if key is None else f"{index} key: {key}"
    return invalid_argument(
        f"Failed to process element: {where} of 'instances' list. Error: {error}"
    )


def array_of(value: object, dtype: int) -> np.ndarray:
    """The tensor of a JSON value, which is a scalar or nested lists.

    Raises:
        ServingError: If it is ragged, or an element is not of the dtype.
    """
    if isinstance(value, LongList):
        parts = [array_of(block, dtype) for block in value.blocks()]
        for part in parts:
            if part.shape[1:] != parts[0].shape[1:]:
                raise invalid_argument(
                    f"Encountered elements of the shapes {list(parts[0].shape[1:])} and "
                    f"{list(part.shape[1:])} in one list"
                )
        return _joined(parts)
    if isinstance(value, NumberBlock):
        return _elements(value.numbers, dtype).reshape(value.shape)
    shape = []
    corner = value
    while isinstance(corner, list):
        shape.append(len(corner))
        if not corner:
            break
        corner = corner[0]
    if len(shape) > tensors.MAX_RANK:
        raise invalid_argument(f"A tensor of rank {len(shape)} is more than can be served")
    elements = [value]
    for level, size in enumerate(shape):
        for element in elements:
            if type(element) is not list:
                raise invalid_argument(
                    f"JSON Value: {shown(element)} found at incorrect level: {level + 1} in the "
                    f"JSON DOM. Expected at level: {len(shape)}"
                )
            if len(element) != size:
                raise invalid_argument(
                    f"Encountered list at unexpected size: {len(element)} at level: {level} "
                    f"expected size: {size}"
                )
        elements = list(itertools.chain.from_iterable(elements))
    if list in set(map(type, elements)):
        raise invalid_argument(
            f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"
        )
    return _elements(elements, dtype).reshape(shape)


def _elements(elements: list, dtype: int) -> np.ndarray:
    types = set(map(type, elements))
    if dtype in _FLOATS:
        _require(types <= {int, float}, elements, dtype, lambda v: type(v) in (int, float))
        with np.errstate(over="ignore"):
            return np.array(elements, np.float64).astype(_FLOATS[dtype])
    if dtype in _INTEGERS:
        numpy_type, (low, high) = _INTEGERS[dtype]
        good = types <= {int} and (not elements or low <= min(elements) <= max(elements) <= high)
        _require(good, elements, dtype, lambda v: type(v) is int and low <= v <= high)
        wide = np.uint64 if high > _INTEGERS[types_pb2.DT_INT64][1][1] else np.int64
        return np.array(elements, wide).astype(numpy_type)
    if dtype == types_pb2.DT_BOOL:
        _require(types <= {bool}, elements, dtype, lambda v: type(v) is bool)
        return np.array(elements, np.bool_)
    if dtype == types_pb2.DT_STRING:
        array = np.empty(len(elements), object)
        array[:] = [_string(element) for element in elements]
        return array
    if elements:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {shown(elements[0])} to type: {tensors.dtype_name(dtype)}",
        )
    return np.zeros(0, tensors.numpy_type(dtype))


def _require(good: bool, elements: list, dtype: int, accepts) -> None:
    if not good:
        raise _type_error(next(value for value in elements if not accepts(value)), dtype)


def _type_error(value: object, dtype: int) -> ServingError:
    return invalid_argument(
        f"JSON Value: {shown(value)} Type: {json_document.type_name(value)} is not of expected "
        f"type: {tensors.dtype_name(dtype)}"
    )


def _string(value: object) -> bytes:
    if type(value) is str:
        return json_document.to_bytes(value)
    if type(value) is dict:
        return decode_base64(value)
    raise _type_error(value, types_pb2.DT_STRING)


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and type(value.get("b64")) is str


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def decode_base64(value: dict) -> bytes:
    """The bytes of `{"b64": "..."}`; padding may be left out."""
    if not _is_base64(value):
        raise invalid_argument(
            f"JSON Value: {shown(value)} not formatted correctly for base64 data"
        )
    match = _BASE64.fullmatch(_SPACE.sub("", value["b64"]))
    if match is None:
        raise invalid_argument("Unable to base64 decode")
    digits, padding = match.groups()
    missing = -len(digits) % 4
    if missing == 3 or len(padding) not in (0, missing):
        raise invalid_argument("Unable to base64 decode")
    return base64.b64decode(digits + "=" * missing)


# Responses.


def predictions(outputs: Mapping[str, np.ndarray]) -> bytes:
    """The response in row format.

    Raises:
        ServingError: If the outputs do not have one value per row.
    """
    batch = None
    for alias, array in outputs.items():
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {alias} has no shape information ")
        if batch not in (None, len(array)):
            raise invalid_argument(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    columns = {alias: _row_texts(alias, array) for alias, array in outputs.items()}
    return _document("predictions", _list(_rows(columns)))


def column_outputs(outputs: Mapping[str, np.ndarray]) -> bytes:
    """The response in column format."""
    [row] = _rows({alias: [_text(alias, array)] for alias, array in outputs.items()})
    return _document("outputs", row)


def classifications(rows: Sequence[Sequence[tuple[bytes, np.float32]]]) -> bytes:
    """The response of classify: (label, score) pairs for each example."""
    texts = []
    for row in rows:
        scores = _decimals(np.array([score for _, score in row], np.float32))
        labels = [_quoted(label) for label, _ in row]
        pairs = (f"[{label}, {score}]" for label, score in zip(labels, scores, strict=True))
        texts.append("[" + ", ".join(pairs) + "]")
    return _document("results", "[" + ", ".join(texts) + "]")


def regressions(values: np.ndarray) -> bytes:
    """The response of regress: a value for each example."""
    return _document("results", "[" + ", ".join(_decimals(values)) + "]")


def _document(key: str, text: str) -> bytes:
    return json_document.to_bytes(f'{{"{key}": {text}}}')


def _list(texts: Iterable[str]) -> str:
    """A JSON list; the texts of its elements need not all be in memory at once."""
    texts = iter(texts)
    blocks = iter(lambda: ", ".join(itertools.islice(texts, BLOCK_ELEMENTS)), "")
    return "[" + ", ".join(blocks) + "]"


def _rows(columns: dict[str, Iterable[str]]) -> Iterable[str]:
    """The texts of rows: the values of a single column, or objects if there are several."""
    if not columns:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if len(columns) == 1:
        [texts] = columns.values()
        return texts
    keys = [_quoted(json_document.to_bytes(alias)) for alias in columns]
    return (
        "{" + ", ".join(f"{key}: {text}" for key, text in zip(keys, texts, strict=True)) + "}"
        for texts in zip(*columns.values(), strict=True)
    )


def _text(alias: str, array: np.ndarray) -> str:
    if not array.ndim:
        return _texts(alias, array.reshape(1))[0]
    return _list(_row_texts(alias, array))


def _row_texts(alias: str, array: np.ndarray) -> Iterator[str]:
    """The texts of the elements along the first dimension of an array."""
    # In steps, so that not all numbers of a long array are texts at once.
    step = max(1, BLOCK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        yield from _nested(alias, array[start : start + step])


def _nested(alias: str, array: np.ndarray) -> list[str]:
    texts = _texts(alias, array.reshape(-1))
    for level in range(array.ndim - 1, 0, -1):
        size, groups = array.shape[level], math.prod(array.shape[:level])
        texts = [
            "[" + ", ".join(texts[group * size : (group + 1) * size]) + "]"
            for group in range(groups)
        ]
    return texts


def _texts(alias: str, array: np.ndarray) -> list[str]:
    dtype = tensors.dtype_of(array)
    if dtype in _FLOATS:
        return _decimals(array)
    if dtype in _INTEGERS:
        return list(map(str, array.tolist()))
    if dtype == types_pb2.DT_BOOL:
        return ["true" if value else "false" for value in array.tolist()]
    if dtype == types_pb2.DT_STRING:
        if alias.endswith(BYTES_SUFFIX):
            return [f'{{"b64": "{base64.b64encode(value).decode()}"}}' for value in array.tolist()]
        return [_quoted(value) for value in array.tolist()]
    if not array.size:
        return []
    raise invalid_argument(
        f"Failed to write JSON value for tensor type: {tensors.dtype_name(dtype)}"
    )


def _decimals(array: np.ndarray) -> list[str]:
    """Numbers with six digits, or with as many as needed to be exact."""
    values = array.tolist()
    texts = [f"{value:g}" for value in values]
    with np.errstate(over="ignore"):
        back = np.array(texts, np.float64).astype(array.dtype)
    digits = 9 if array.dtype == np.float32 else 17
    for index in np.flatnonzero(back != array):
        texts[index] = f"{values[index]:.{digits}g}"
    return [_decimal(text) for text in texts]


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _decimal(text: str) -> str:
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    return text if "." in text or "e" in text else text + ".0"


def _quoted(value: bytes) -> str:
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)
