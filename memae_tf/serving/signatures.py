"""Signatures as a server describes them, and the conversion of a user's values to their inputs."""

import numbers
from dataclasses import dataclass

import numpy as np

from memae_tf.errors import UserError
from memae_tf.serving.transports import Tensors
from memae_tf.serving.wire import tensors
from memae_tf.serving.wire.protocol import DataType

# The default limit of a gRPC message, less some room for what is not values.
MAX_BATCH_BYTES = 4 * 2**20 - 2**16
# Bytes that a string takes besides its own, in both transports.
STRING_BYTES = 4


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        dtype: TensorFlow's name of the dtype: "float", "int64", "string", ...
        shape: The shape, with `None` for free dimensions; `None` if even the rank is unknown.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature by name, and its method."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    method: str


@dataclass(frozen=True)
class Metadata:
    """The version that answers, and its signatures by name."""

    version: int
    signatures: dict[str, Signature]


def record_fields(signature: Signature) -> dict[str, str] | None:
    """The dtypes of the fields of records; `None` if a signature does not take records."""
    dtypes = {"float": "float32", "string": "string"}
    if any(len(t.shape or ()) != 1 or t.dtype not in dtypes for t in signature.inputs.values()):
        return None
    return {alias: dtypes[tensor.dtype] for alias, tensor in signature.inputs.items()}


def tensors_of(infos) -> dict[str, Tensor]:
    """Inputs or outputs by name, from the `TensorInfo` messages of a server."""
    return {
        alias: Tensor(
            tensors.dtype_name(info.dtype),
            None
            if info.tensor_shape.unknown_rank
            else tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
        )
        for alias, info in sorted(infos.items())
    }


def numpy_dtype(dtype: str) -> np.dtype:
    """NumPy's dtype for TensorFlow's name of a dtype; `object` for strings."""
    return np.dtype(tensors.numpy_type(DataType[f"DT_{dtype.upper()}"]))


def nothing(tensor: Tensor) -> np.ndarray:
    """An input or output with no samples."""
    return np.zeros(
        (0, *(size or 0 for size in (tensor.shape or ())[1:])), numpy_dtype(tensor.dtype)
    )


def samples_of(alias: str, values: object, tensor: Tensor) -> np.ndarray:
    """Samples that are not records, such as images and clips, as the array of an input.

    Raises:
        UserError: If they do not fit the input.
    """
    if isinstance(values, (list, tuple)) and not values:
        # NumPy cannot know the number of axes without samples.
        return nothing(tensor)
    if tensor.dtype == "uint8":
        values = _array(alias, values)
        if values.dtype.kind in "biuf" and values.dtype != np.uint8:
            # Even if the values fit, as they may have another scale, and a mask is not a picture.
            raise UserError(
                f"input {alias} takes uint8, with values of 0 to 255, not {values.dtype}"
            )
    array = _with_channels(typed_array(alias, values, tensor.dtype), tensor)
    _require_shape(alias, array, tensor)
    return array


def _array(alias: str, values: object) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise UserError(
            f"input {alias} takes one array, but these have several sizes; images and frames can "
            "be sent as JPEG or PNG files"
        ) from None


def typed_array(alias: str, values: object, dtype: str) -> np.ndarray:
    """An input as an array of its dtype.

    Raises:
        UserError: If the dtype cannot hold the values.
    """
    if dtype == "string":
        array = np.asarray(values, object)
        if not all(isinstance(value, (str, bytes)) for value in array.flat):
            raise UserError(f"input {alias} takes text, str or bytes")
        return array
    target, array = numpy_dtype(dtype), _array(alias, values)
    if target == np.uint64 and array.dtype.kind == "f":
        array = _whole_numbers(values, array)
    if array.dtype == object and array.size and target.kind in "iuf":
        array = _numbers(alias, array, dtype)
    if target == array.dtype:
        return array
    if array.dtype.kind not in {"b": "b", "c": "biufc"}.get(target.kind, "biuf"):
        hint = "; this signature takes no files" if array.dtype.kind in "SO" else ""
        raise UserError(f"input {alias} takes {dtype}, not {array.dtype}{hint}")
    with np.errstate(invalid="ignore", over="ignore"):
        typed = array.astype(target)
        if target.kind in "iu" and not np.array_equal(typed, array):
            raise UserError(f"input {alias} takes {dtype}, which cannot hold its values")
    return typed


def _numbers(alias: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """Objects as numbers, if they are numbers: NumPy keeps integers beyond int64 as objects."""
    if not all(isinstance(value, numbers.Real) for value in array.flat):
        return array
    target = numpy_dtype(dtype)
    wide = np.uint64 if target == np.uint64 else np.int64
    if target.kind == "f" or not all(isinstance(v, numbers.Integral) for v in array.flat):
        wide = np.float64
    try:
        return array.astype(wide)
    except OverflowError:
        raise UserError(f"input {alias} takes {dtype}, which cannot hold its values") from None


def _whole_numbers(values: object, array: np.ndarray) -> np.ndarray:
    """Integers as uint64; NumPy makes floats of them if only some are beyond int64."""
    whole = np.asarray(values, object)
    if not all(isinstance(value, numbers.Integral) for value in whole.flat):
        return array
    try:
        return whole.astype(np.uint64)
    except OverflowError:
        return array


def _with_channels(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Pixels with an axis of channels, which is added to grey ones without it."""
    rank = len(tensor.shape or ())
    grey = tensor.dtype == "uint8" and array.ndim + 1 == rank
    if grey and rank == 4 and array.shape[-1] in (3, 4):
        raise UserError(
            f"input images takes a batch, but an array of shape {array.shape} looks like one image "
            "in colour: send image[None]"
        )
    return array[..., None] if grey else array


def _require_shape(alias: str, array: np.ndarray, tensor: Tensor) -> None:
    """Checks the shape of samples, as the server's message would be about its graph."""
    if tensor.shape is None:
        return
    # The first axis is the samples.
    wanted, given = tensor.shape[1:], array.shape[1:]
    if array.ndim != len(tensor.shape) or any(
        w not in (None, g) for w, g in zip(wanted, given, strict=True)
    ):
        axes = ", ".join("any" if size is None else str(size) for size in wanted)
        raise UserError(f"input {alias} takes samples of shape ({axes}), not {given}")


def num_rows(inputs: Tensors) -> int | None:
    """The number of samples; `None` if the inputs do not have one row per sample."""
    lengths = {array.shape[:1] for array in inputs.values()}
    return next(iter(lengths))[0] if len(lengths) == 1 and lengths != {()} else None


def row_slices(inputs: Tensors, rows: int, batch_size: int) -> list[slice]:
    """The batches: up to `batch_size` samples, but not more than `MAX_BATCH_BYTES`."""
    ends = np.cumsum(sum(_row_bytes(array, rows) for array in inputs.values()))
    slices, start = [], 0
    while start < rows:
        sent = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, sent + MAX_BATCH_BYTES, side="right"))
        # A single sample that is too large is sent, and the server may refuse it.
        stop = min(max(fitting, start + 1), start + batch_size, rows)
        slices.append(slice(start, stop))
        start = stop
    return slices


def _row_bytes(array: np.ndarray, rows: int) -> np.ndarray:
    """The approximate number of bytes that each row of an input takes in a message."""
    if array.dtype != object:
        return np.full(rows, array.nbytes // rows)
    texts = (
        value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for value in array.flat
    )
    lengths = [len(text) + STRING_BYTES for text in texts]
    return np.reshape(lengths, (rows, -1)).sum(axis=1)
