"""Conversion between TensorProto and NumPy arrays, as in TensorFlow's C++.

`tf.make_ndarray` and `tf.make_tensor_proto` are more lenient and write another form. The server
writes every tensor into the typed field of its dtype, and refuses what `Tensor::FromProto` refuses.
"""

import math

import ml_dtypes
import numpy as np

from memae_tf.serving.wire.protocol import DataType, TensorProto
from memae_tf.serving.wire.status import Code, ServingError, invalid_argument

# NumPy's limit; TensorFlow's is 254.
MAX_RANK = 64
# The most bytes of a tensor that was sent with fewer values than it has.
MAX_FILLED_BYTES = 2**26
# From this many elements on, it is faster to write a packed field as bytes.
PACK_AS_BYTES = 64

# dtype -> (typed field, numpy type of the tensor)
_FIELDS = {
    DataType.DT_FLOAT: ("float_val", np.float32),
    DataType.DT_DOUBLE: ("double_val", np.float64),
    DataType.DT_INT8: ("int_val", np.int8),
    DataType.DT_INT16: ("int_val", np.int16),
    DataType.DT_INT32: ("int_val", np.int32),
    DataType.DT_UINT8: ("int_val", np.uint8),
    DataType.DT_UINT16: ("int_val", np.uint16),
    DataType.DT_INT64: ("int64_val", np.int64),
    DataType.DT_UINT32: ("uint32_val", np.uint32),
    DataType.DT_UINT64: ("uint64_val", np.uint64),
    DataType.DT_BOOL: ("bool_val", np.bool_),
    DataType.DT_HALF: ("half_val", np.float16),
    DataType.DT_BFLOAT16: ("half_val", ml_dtypes.bfloat16),
    DataType.DT_COMPLEX64: ("scomplex_val", np.complex64),
    DataType.DT_COMPLEX128: ("dcomplex_val", np.complex128),
}
_DTYPES = {np.dtype(numpy_type): dtype for dtype, (_, numpy_type) in _FIELDS.items()}
# Numbers of the packed repeated fields whose bytes on the wire are those of the array.
_WIRE = {"float_val": 5, "double_val": 6, "bool_val": 11}


def dtype_name(dtype: int) -> str:
    """TensorFlow's name of a dtype, such as "float", "int64" or "string"."""
    return DataType(dtype).name.removeprefix("DT_").lower()


def numpy_type(dtype: int) -> type:
    """The type of the arrays that hold a dtype."""
    return _FIELDS[dtype][1] if dtype in _FIELDS else object


def dtype_of(array: np.ndarray) -> int:
    """The DataType of an array; arrays of objects hold strings."""
    if array.dtype == object:
        return DataType.DT_STRING
    return _DTYPES[array.dtype]


def array_of(tensor: TensorProto, alias: str) -> np.ndarray:
    """The array in a TensorProto.

    Raises:
        ServingError: INVALID_ARGUMENT if it is not valid; RESOURCE_EXHAUSTED if a few values stand
            for too many.
    """
    error = invalid_argument(f"tensor parsing error: {alias}")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or min(shape, default=0) < 0 or len(shape) > MAX_RANK:
        raise error
    size = math.prod(shape)
    if tensor.dtype == DataType.DT_STRING:
        array = _strings(tensor, size, error)
    elif tensor.dtype in _FIELDS:
        array = _numbers(tensor, size, error)
    else:
        raise error
    try:
        return array.reshape(shape)
    except ValueError:
        # An empty tensor whose other dimensions are too large for numpy.
        raise error from None


def _numbers(tensor: TensorProto, size: int, error: ServingError) -> np.ndarray:
    field, numpy_type = _FIELDS[tensor.dtype]
    item_bytes = np.dtype(numpy_type).itemsize
    if tensor.tensor_content:
        if len(tensor.tensor_content) != size * item_bytes:
            raise error
        return np.frombuffer(tensor.tensor_content, numpy_type)
    values = _values(getattr(tensor, field), field, numpy_type, size)
    if len(values) == size:
        return values
    # If values are missing, the last one is repeated; without any, they are zeros.
    _check_filling(size * item_bytes)
    filled = np.full(size, values[-1] if len(values) else 0, numpy_type)
    filled[: len(values)] = values
    return filled


def _values(repeated, field: str, numpy_type: type, size: int) -> np.ndarray:
    if field in ("scomplex_val", "dcomplex_val"):
        parts = np.fromiter(repeated, numpy_type(0).real.dtype, len(repeated))
        return parts[: len(parts) // 2 * 2].view(numpy_type)[:size]
    count = min(len(repeated), size)
    source = repeated if count == len(repeated) else repeated[:count]
    if field == "half_val":
        bits = np.fromiter(source, np.int64, count).astype(np.uint16)
        return bits.view(numpy_type)
    if field == "int_val":
        return np.fromiter(source, np.int64, count).astype(numpy_type)
    return np.fromiter(source, numpy_type, count)


def _strings(tensor: TensorProto, size: int, error: ServingError) -> np.ndarray:
    if tensor.tensor_content:
        values = _string_list(tensor.tensor_content, size, error)
    else:
        values = list(tensor.string_val[:size])
        if len(values) < size:
            fill = values[-1] if values else b""
            _check_filling(size * (len(fill) + np.dtype(object).itemsize))
            values += [fill] * (size - len(values))
    array = np.empty(size, object)
    array[:] = values
    return array


def _string_list(content: bytes, size: int, error: ServingError) -> list[bytes]:
    """Strings that are written as all lengths, which are varints, followed by all bytes."""
    if size > len(content):
        raise error
    lengths, position = [], 0
    for _ in range(size):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise error
            byte = content[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise error
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values


def _check_filling(size: int) -> None:
    # A small request could ask for all of the memory.
    if size > MAX_FILLED_BYTES:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"A tensor of {size} bytes must be sent whole; only up to {MAX_FILLED_BYTES} are "
            "filled up",
        )


def fill_proto(tensor: TensorProto, array: np.ndarray) -> None:
    """Writes an array into an empty TensorProto."""
    tensor.dtype = dtype = dtype_of(array)
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if dtype == DataType.DT_STRING:
        tensor.string_val.extend(array.ravel().tolist())
        return
    field, _ = _FIELDS[dtype]
    if field == "half_val":
        array = array.view(np.uint16)
    elif field in ("scomplex_val", "dcomplex_val"):
        array = np.ascontiguousarray(array).reshape(-1).view(array.real.dtype)
    if field in _WIRE and array.size > PACK_AS_BYTES:
        tensor.MergeFromString(_packed(_WIRE[field], np.ascontiguousarray(array).tobytes()))
    else:
        getattr(tensor, field).extend(array.ravel().tolist())


def _packed(number: int, payload: bytes) -> bytes:
    """A length-delimited field in its form on the wire."""
    header, length = bytearray([number << 3 | 2]), len(payload)
    while length > 127:
        header.append(length & 127 | 128)
        length >>= 7
    header.append(length)
    return bytes(header) + payload
