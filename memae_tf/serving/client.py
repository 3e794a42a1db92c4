"""A client of TensorFlow Serving, and of the embedded server, for detectors and other models."""

import itertools
import json
import logging
import numbers
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from memae_tf.columns import columns_of
from memae_tf.errors import RequestError, ServerError, UserError
from memae_tf.serving.in_order import in_order
from memae_tf.serving.signatures import (
    Metadata,
    Signature,
    nothing,
    num_rows,
    numpy_dtype,
    record_fields,
    row_slices,
    samples_of,
    tensors_of,
    typed_array,
)
from memae_tf.serving.transports import GrpcTransport, Model, RestTransport, Tensors
from memae_tf.serving.wire.protocol import State
from memae_tf.serving.wire.status import Code, ServingError
from memae_tf.threshold import as_threshold

logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE, FILES_SIGNATURE = "serving_default", "score_bytes"
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0  # seconds
# gRPC counts nanoseconds in 64 bits, and takes ports modulo 65,536.
MOST_SECONDS, LARGEST_PORT = 1e8, 65535
# Faults of the server; about all other errors the caller can do something.
FAULTS = {Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS}


@dataclass(frozen=True)
class VersionStatus:
    """A version of the model: its `state` is "AVAILABLE" if it answers; `error` says why not."""

    version: int
    state: str
    error: str


class Client:
    """Asks a model server over gRPC or REST, with the same calls and answers for both.

    An address like `localhost:8500` is asked over gRPC, in plain text; one like
    `http://localhost:8501` or `https://...` over REST. TensorFlow is not imported.

    Many samples are sent in batches, several at a time. A batch that finds the server unavailable
    (not there yet, restarting, or too busy: UNAVAILABLE, or a connection that is refused or breaks)
    is sent again: after 0.1 s at first, then after twice as long each time, up to 5 s, less a
    random part of up to a half. Nothing else is tried again.

    One client may be used by many threads. It opens connections when they are needed and keeps
    them; `close`, or leaving a `with` block, ends them. A forked process needs one of its own.

    Examples:
        >>> with Client("localhost:8500", "kddcup") as client:
        ...     answer = client.score(records)
        >>> answer["score"], answer["is_anomaly"]
        (array([0.31, 18.0], dtype=float32), array([0, 1]))

    Args:
        address: The address of the server.
        model: The name of the model.
        version: The version to ask; `None` is the newest one at the time of each call.
        label: The label of the version to ask.
        timeout: Seconds that a call may take, with all of its batches and retries.
        retries: How often a batch is sent again.
        batch_size: The most samples in a request; there are fewer if they exceed 4 MiB, the limit
            of many servers and proxies.

    Raises:
        UserError: If an argument is out of its range.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        label: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 6,
        batch_size: int = 1024,
    ):
        if not isinstance(address, str) or not is_address(address):
            raise UserError(
                f"{address!r} is not the address of a server, such as localhost:8500 (gRPC) or "
                "http://localhost:8501 (REST)"
            )
        port = re.search(r":(\d+)(/|$)", address)
        if port and int(port[1]) > LARGEST_PORT:
            raise UserError(f"{address!r}: a port is {LARGEST_PORT} at most")
        if not _is_seconds(timeout) or timeout <= 0:
            raise UserError(
                f"timeout={timeout!r}: should be a positive number of seconds, "
                f"{MOST_SECONDS:g} at most"
            )
        for name, value, least in (("batch_size", batch_size, 1), ("retries", retries, 0)):
            if not isinstance(value, numbers.Integral) or value < least:
                raise UserError(f"{name}={value!r}: should be a whole number, {least} or more")
        self.address = address
        self.model = Model(model, version, label)
        self.timeout = timeout
        self.retries = retries
        self.batch_size = batch_size
        transport = RestTransport if _is_rest(address) else GrpcTransport
        self._transport = transport(address, self.model)
        self._process = os.getpid()
        self._known: dict[str, Signature] = {}
        self._closed = threading.Event()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections and all calls in progress."""
        self._closed.set()
        self._transport.close()

    def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """The versions of the model that the server knows, the newest first.

        Raises:
            RequestError: As in `predict`.
        """
        answer = self._call(self._transport.status, self._deadline(timeout))
        return [
            VersionStatus(v.version, State(v.state).name, v.status.error_message)
            for v in answer.model_version_status
        ]

    def metadata(self, timeout: float | None = None) -> Metadata:
        """The version that answers at the moment, and its signatures.

        Raises:
            RequestError: As in `predict`.
        """
        return self._metadata(self._deadline(timeout))

    def fields(self, timeout: float | None = None) -> dict[str, str] | None:
        """The fields of the records that the model takes, with their dtypes.

        Returns:
            "float32" or "string" by field; `None` if the model does not take records.

        Raises:
            RequestError: As in `predict`.
        """
        return record_fields(self._signature(DEFAULT_SIGNATURE, self._deadline(timeout)))

    def describe(self, timeout: float | None = None) -> dict:
        """The description of an exported detector.

        Returns:
            A dict with `input`, as in the manifest; `threshold`; and `reduction`, "sum" or "mean",
            which says how a score is made from the errors of a sample.

        Raises:
            RequestError: As in `predict`, and if the model has no signature `describe`.
        """
        answer = self.predict({"inputs": [""]}, "describe", timeout)
        return json.loads(answer["description"][0])

    def predict(
        self,
        inputs: Mapping[str, object] | object,
        signature: str = DEFAULT_SIGNATURE,
        timeout: float | None = None,
    ) -> Tensors:
        """The outputs of any signature.

        Args:
            inputs: Arrays, or what NumPy can make arrays of, by the names of the inputs. If there
                is only one input, its values alone are enough. Numbers are converted to the
                input's dtype if it can hold them. Text is str or bytes.
            signature: The name of the signature.
            timeout: Seconds that the call may take; `None` is the client's own.

        Returns:
            An array for each output. Strings are str, or bytes if the name of the output ends in
            `_bytes`.

        Raises:
            RequestError: If the server cannot be reached in time, or has no such model, version or
                signature, or refuses the inputs.
            ServerError: If the server fails.
            UserError: If the inputs do not fit the signature.
        """
        deadline = self._deadline(timeout)
        definition = self._signature(signature, deadline)
        if not isinstance(inputs, Mapping):
            if len(definition.inputs) != 1:
                raise UserError(
                    f"signature {signature} has several inputs, {_names(definition.inputs)}; "
                    "give them by name"
                )
            inputs = {next(iter(definition.inputs)): inputs}
        if set(inputs) != set(definition.inputs):
            raise UserError(
                f"signature {signature} takes {_names(definition.inputs)}, not {_names(inputs)}"
            )
        arrays = {
            alias: typed_array(alias, inputs[alias], tensor.dtype)
            for alias, tensor in definition.inputs.items()
        }
        return self._ask(signature, definition, arrays, deadline)

    def score(
        self, samples: object, threshold: float | None = None, timeout: float | None = None
    ) -> Tensors:
        """The scores and decisions of an exported detector.

        Args:
            samples: Records, as `Detector.detect` takes them: a dict of columns, a DataFrame of
                pandas or polars, a table of pyarrow, an array with named fields, or a list of
                dicts. Images or clips are a uint8 array. Images may also be a list of JPEG and PNG
                files, as bytes; clips, a list of lists of the files of their frames.
            threshold: Replaces the detector's own.
            timeout: Seconds that the call may take; `None` is the client's own.

        Returns:
            `score` (float32), `is_anomaly` (int64) and `threshold` (float32), each (samples,); for
            clips also `frame_score` (samples, frames).

        Raises:
            RequestError, ServerError: As in `predict`.
            UserError: If a field is missing, a numeric field holds text, an image or a clip is not
                valid, or `threshold` is not a number.
        """
        return self._detect(samples, _scoring(samples), threshold, timeout)

    def explain(
        self, samples: object, threshold: float | None = None, timeout: float | None = None
    ) -> Tensors:
        """What `score` returns, and the explanations of the signature `explain`.

        Arguments and errors are those of `score`, but files are not taken. For records, the
        explanations are `field_error` (samples, fields) and `top_fields` (samples, 5), the names of
        the fields with the largest errors; for images `heat_map` (samples, height, width), for
        clips (samples, frames, height, width). With a memory there are also `top_slots` and
        `top_weights` (samples, 5), or (samples, ..., 5) if positions are queries.
        """
        return self._detect(samples, "explain", threshold, timeout)

    def score_batches(
        self,
        batches: Iterable[object],
        threshold: float | None = None,
        explain: bool = False,
    ) -> Iterator[Tensors]:
        """Scores or explains any number of batches, several at a time.

        Args:
            batches: Batches of samples as `score` takes them. They are read in a thread, as answers
                are taken.
            threshold: Replaces the detector's own.
            explain: Whether to explain, too, as `explain` does.

        Yields:
            The answers, in the order of the batches. Each batch has the client's timeout.

        Raises:
            RequestError, ServerError, UserError: As in `score`.
        """
        ask = self.explain if explain else self.score
        return in_order(lambda batch: ask(batch, threshold), batches)

    def _detect(
        self, samples: object, signature: str, threshold: float | None, timeout: float | None
    ) -> Tensors:
        if threshold is not None:
            threshold = as_threshold(threshold)
        deadline = self._deadline(timeout)
        definition = self._signature(signature, deadline)
        for alias in ("score", "is_anomaly", "threshold"):
            if alias not in definition.outputs:
                raise UserError(
                    f"{self._where(signature)}: is not a detector; it has no output {alias}"
                )
        fields = record_fields(definition)
        plain = signature == FILES_SIGNATURE or _is_plain(samples)
        if fields is not None and not (len(fields) == 1 and plain):
            inputs = columns_of(samples, fields)
        elif len(definition.inputs) == 1:
            ((alias, tensor),) = definition.inputs.items()
            inputs = {alias: samples_of(alias, samples, tensor)}
        else:
            raise UserError(
                f"{self._where(signature)}: takes {_names(definition.inputs)}, not records; "
                "use `predict`"
            )
        answer = self._ask(signature, definition, inputs, deadline)
        if threshold is not None:
            answer["threshold"] = np.full_like(answer["threshold"], threshold)
            decision = answer["score"] > answer["threshold"]
            answer["is_anomaly"] = decision.astype(answer["is_anomaly"].dtype)
        return answer

    def _ask(
        self, signature: str, definition: Signature, inputs: Tensors, deadline: float
    ) -> Tensors:
        """Sends the inputs in batches and joins the answers."""
        dtypes = {alias: numpy_dtype(tensor.dtype) for alias, tensor in definition.outputs.items()}
        rows = num_rows(inputs)
        if rows == 0:
            return {alias: nothing(tensor) for alias, tensor in definition.outputs.items()}

        def ask(batch: Tensors) -> Tensors:
            return self._call(
                lambda seconds: self._transport.predict(signature, batch, dtypes, seconds),
                deadline,
                signature,
            )

        slices = [] if rows is None else row_slices(inputs, rows, self.batch_size)
        if len(slices) <= 1:
            return ask(inputs)
        batches = ({k: v[part] for k, v in inputs.items()} for part in slices)
        answers = []
        for part, answer in zip(slices, in_order(ask, batches), strict=True):
            for alias, values in answer.items():
                if values.shape[:1] != (part.stop - part.start,):
                    raise UserError(
                        f"{self._where(signature)}: output {alias} does not have one value per "
                        f"sample, so all {rows} samples should fit into one batch"
                    )
            answers.append(answer)
        return {alias: np.concatenate([a[alias] for a in answers]) for alias in answers[0]}

    def _signature(self, name: str, deadline: float) -> Signature:
        known = self._known
        if name not in known:
            # The newest version may have changed, and the new one may have more signatures.
            known = self._known = self._metadata(deadline).signatures
        if name not in known:
            raise RequestError(
                Code.NOT_FOUND.name,
                f"{self._where()}: has no signature {name}; it has {_names(known)}",
            )
        return known[name]

    def _metadata(self, deadline: float) -> Metadata:
        version, answer = self._call(self._transport.metadata, deadline)
        signatures = {
            name: Signature(
                tensors_of(definition.inputs),
                tensors_of(definition.outputs),
                definition.method_name,
            )
            for name, definition in sorted(answer.signature_def.items())
            if not name.startswith("__")
        }
        return Metadata(version, signatures)

    def _deadline(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else timeout
        if not _is_seconds(seconds):
            raise UserError(
                f"timeout={seconds!r}: should be a number of seconds, {MOST_SECONDS:g} at most"
            )
        return time.monotonic() + seconds

    def _call(self, ask: Callable, deadline: float, signature: str | None = None):
        """The result of `ask`, called with the seconds that are left, with retries."""
        if os.getpid() != self._process:
            # If two processes share a connection, one may get the answers of the other.
            raise UserError(
                f"{self._where(signature)}: this client was made before the process forked; "
                "make one in each process"
            )
        for attempt in itertools.count():
            if self._closed.is_set():
                raise self._told_closed(signature)
            try:
                return ask(deadline - time.monotonic())
            except UnicodeEncodeError as error:
                raise UserError(
                    f"{self._where(signature)}: {error.object[:50]!r} is not text that can be sent"
                ) from None
            except ServingError as error:
                if error.code is Code.CANCELLED and self._closed.is_set():
                    raise self._told_closed(signature) from error
                delay = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY) * random.uniform(0.5, 1)
                if (
                    error.code is not Code.UNAVAILABLE
                    or attempt >= self.retries
                    or time.monotonic() + delay >= deadline
                ):
                    raise self._told(error, signature) from error
                logger.info("%s: %s; trying again in %.1f s", self._where(signature), error, delay)
                if self._closed.wait(delay):
                    raise self._told(error, signature) from error

    def _told_closed(self, signature: str | None) -> RequestError:
        code = Code.CANCELLED.name
        return RequestError(code, f"{self._where(signature)}: {code}: this client is closed")

    def _told(self, error: ServingError, signature: str | None) -> ServerError:
        # The model may have changed, so that its signatures must be asked for again.
        self._known = {}
        kind = ServerError if error.code in FAULTS else RequestError
        return kind(error.code.name, f"{self._where(signature)}: {error}")

    def _where(self, signature: str | None = None) -> str:
        suffix = "" if signature is None else f", signature {signature}"
        return f"{self.address}, {self.model}{suffix}"


def _is_seconds(value: object) -> bool:
    return isinstance(value, numbers.Real) and abs(value) <= MOST_SECONDS


def is_address(text: str) -> bool:
    """Whether a text can be the address of a server: `host:port`, or one with a scheme."""
    return _is_rest(text) or re.fullmatch(r"(dns|ipv4|ipv6|unix):.+|[^/]+:\d+", text) is not None


def _is_rest(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _scoring(samples: object) -> str:
    """The name of the signature that scores such samples."""
    first = samples
    while isinstance(first, (list, tuple, np.ndarray)) and len(first):
        first = first[0]
    return FILES_SIGNATURE if isinstance(first, bytes) else DEFAULT_SIGNATURE


def _is_plain(samples: object) -> bool:
    """Whether samples are an array of values, not records."""
    return isinstance(samples, np.ndarray) and not samples.dtype.names


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names))) or "nothing"
