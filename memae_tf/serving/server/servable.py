"""One loaded version of a model, and what can be computed with it.

It runs in a Session, as in the C++ server: variables, tables and assets are loaded in the same way,
feeds and fetches use the tensor names of the signature, and there are neither casts nor checks of
static shapes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session

from memae_tf.serving.wire import tensors
from memae_tf.serving.wire.status import (
    Code,
    ServingError,
    failed_precondition,
    invalid_argument,
)

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
TAGS = ("serve",)


@dataclass(frozen=True)
class Classification:
    """Labels and scores of classes, both (examples, classes); one of them may be missing."""

    labels: np.ndarray | None
    scores: np.ndarray | None

    def rows(self) -> list[list[tuple[bytes, np.float32]]]:
        """The (label, score) pairs of each example."""
        shape = (self.scores if self.labels is None else self.labels).shape
        labels = np.full(shape, b"", object) if self.labels is None else self.labels
        scores = np.zeros(shape, np.float32) if self.scores is None else self.scores
        return [list(zip(*row, strict=True)) for row in zip(labels, scores, strict=True)]


@dataclass(frozen=True)
class Regression:
    """A value for each example."""

    values: np.ndarray


class Servable:
    """A SavedModel in its own graph and session.

    Args:
        path: The directory of the version, with `saved_model.pb`.

    Raises:
        Exception: What TensorFlow's loader raises for a directory without a SavedModel.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, list(TAGS), self.path)
            self._session._extend_graph()
        except BaseException:
            self._session.close()
            raise
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = dict(
            meta_graph.signature_def.items()
        )
        self._graph = graph
        self._outputs = {}
        self.runner = self

    def close(self) -> None:
        """Frees the session, after which nothing can run."""
        self._session.close()
        self._session = self._graph = None
        self._outputs.clear()

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph, with feeds by tensor name; results are in the order of `fetches`.

        Raises:
            ServingError: With the code of the failed op, or DEADLINE_EXCEEDED.
        """
        # `Session.run` would cast feeds and check their static shapes. The C++ API, which
        # TensorFlow Serving uses, does neither.
        options = _run_options(timeout)
        try:
            results = self._session._call_tf_sessionrun(
                options,
                {self._tensor(name): value for name, value in feeds.items()},
                [self._tensor(name) for name in fetches],
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise ServingError(Code(error.error_code), _clean(error.message)) from None
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        # Single bytes would get a dtype of NumPy's own, which drops zeros at the end.
        return [
            np.asarray(result, object if isinstance(result, bytes) else None) for result in results
        ]

    def _tensor(self, name: str):
        if name not in self._outputs:
            try:
                tensor = self._graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
            except (KeyError, ValueError) as error:
                raise invalid_argument(
                    f"Tensor {name}, specified in either feed_devices or fetch_devices was not "
                    "found in the Graph"
                ) from error
            self._outputs[name] = tensor._as_tf_output()
        return self._outputs[name]

    def predict(
        self,
        signature_name: str,
        inputs: Mapping[str, object],
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs of a signature by alias.

        Args:
            signature_name: The name of the signature; "" is `serving_default`.
            inputs: Arrays or TensorProtos by alias.
            output_filter: Aliases of the wanted outputs; empty for all.
            timeout: Seconds that the run may take.
        """
        name = signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise failed_precondition(f'Serving signature key "{name}" not found.')
        signature = self.signatures[name]
        _check_count(signature, inputs)
        arrays = {alias: _input(signature, alias, inputs) for alias in sorted(signature.inputs)}
        aliases = _wanted(signature, output_filter)
        for index, (alias, array) in enumerate(arrays.items()):
            _check_dtype(index, signature.inputs[alias].dtype, array)
        results = self.runner.run(
            {signature.inputs[alias].name: array for alias, array in arrays.items()},
            [signature.outputs[alias].name for alias in aliases],
            timeout,
        )
        return dict(zip(aliases, results, strict=True))

    def classify(
        self, signature_name: str, examples: Sequence[bytes], timeout: float | None = None
    ) -> Classification:
        """Classes of serialized tf.Examples."""
        [answer] = self.infer([(signature_name, CLASSIFY_METHOD)], examples, timeout)
        return answer

    def regress(
        self, signature_name: str, examples: Sequence[bytes], timeout: float | None = None
    ) -> Regression:
        """A value for each of some serialized tf.Examples."""
        [answer] = self.infer([(signature_name, REGRESS_METHOD)], examples, timeout)
        return answer

    def infer(
        self,
        tasks: Sequence[tuple[str, str]],
        examples: Sequence[bytes],
        timeout: float | None = None,
    ) -> list[Classification | Regression]:
        """Answers of several (signature, method) pairs from one run on the same examples."""
        heads = []
        for signature_name, method in tasks:
            name = signature_name or DEFAULT_SIGNATURE
            if name not in self.signatures:
                raise invalid_argument(f"No signature was found with the name: {name}")
            check = _classification_head if method == CLASSIFY_METHOD else _regression_head
            heads.append(check(self.signatures[name]))
        inputs = {feed for feed, _ in heads}
        if len(inputs) > 1:
            raise invalid_argument("Input tensor must be the same for all Signatures.")
        if not examples:
            raise invalid_argument("Input is empty.")
        batch = np.empty(len(examples), object)
        batch[:] = examples
        fetches = list(dict.fromkeys(name for _, outputs in heads for name in outputs.values()))
        results = self.runner.run({inputs.pop(): batch}, fetches, timeout)
        found = dict(zip(fetches, results, strict=True))
        answers = []
        for (_, outputs), (_, method) in zip(heads, tasks, strict=True):
            arrays = {alias: found[name] for alias, name in outputs.items()}
            finish = _classification if method == CLASSIFY_METHOD else _regression
            answers.append(finish(arrays, len(examples)))
        return answers


def _run_options(timeout: float | None):
    if timeout is None:
        return None
    # 0 would mean no limit.
    options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(timeout * 1000)))
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def _clean(message: str) -> str:
    # The same text as from the C++ server, on one line.
    return " ".join(message.removeprefix("Graph execution error:").split())


def _check_count(signature: meta_graph_pb2.SignatureDef, inputs: Collection[str]) -> None:
    sent, expected = set(inputs), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_braces(sent)}) != len({_braces(expected)}). "
            f"Sent extra: {_braces(sent - expected)}. "
            f"Missing but required: {_braces(expected - sent)}."
        )


def _braces(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _input(
    signature: meta_graph_pb2.SignatureDef, alias: str, inputs: Mapping[str, object]
) -> np.ndarray:
    value = inputs.get(alias)
    if value is None:
        if alias not in signature.defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not "
                "found in request and no default value provided. Inputs expected to be in the set "
                f"{_braces(signature.inputs)}."
            )
        value = signature.defaults[alias]
    return value if isinstance(value, np.ndarray) else tensors.array_of(value, alias)


def _wanted(signature: meta_graph_pb2.SignatureDef, output_filter: Sequence[str]) -> list[str]:
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_braces(signature.outputs)}."
            )
        if output_filter.count(alias) > 1:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    return list(output_filter) or sorted(signature.outputs)


def _check_dtype(index: int, expected: int, array: np.ndarray) -> None:
    provided = tensors.dtype_of(array)
    if provided != expected:
        raise invalid_argument(
            f"Expects arg[{index}] to be {tensors.dtype_name(expected)} but "
            f"{tensors.dtype_name(provided)} is provided"
        )


def _classification_head(
    signature: meta_graph_pb2.SignatureDef,
) -> tuple[str, dict[str, str]]:
    """The name of the tensor to feed, and those to fetch by alias."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    if "inputs" not in signature.inputs:
        raise failed_precondition(f"No classification inputs found in SignatureDef: {signature}")
    outputs = {
        alias: signature.outputs[alias].name
        for alias in ("classes", "scores")
        if alias in signature.outputs
    }
    if not outputs:
        raise failed_precondition(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {signature}'
        )
    return signature.inputs["inputs"].name, outputs


def _regression_head(signature: meta_graph_pb2.SignatureDef) -> tuple[str, dict[str, str]]:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise failed_precondition(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise failed_precondition(f"No regression outputs found in SignatureDef: {signature}")
    return signature.inputs["inputs"].name, {"outputs": signature.outputs["outputs"].name}


def _classification(arrays: Mapping[str, np.ndarray], examples: int) -> Classification:
    for alias, dtype, kind in (("classes", "DT_STRING", object), ("scores", "DT_FLOAT", "f4")):
        array = arrays.get(alias)
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid_argument(
                f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}"
            )
        if array.dtype != np.dtype(kind):
            raise invalid_argument(f"Expected {alias} Tensor of {dtype}. Got: {array.dtype}")
        if len(array) != examples:
            raise invalid_argument(
                f"Expected {alias} output batch size of {examples}. Got: {len(array)}"
            )
    classes, scores = arrays.get("classes"), arrays.get("scores")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{classes.shape[1]} vs. {scores.shape[1]}"
        )
    return Classification(classes, scores)


def _regression(arrays: Mapping[str, np.ndarray], examples: int) -> Regression:
    values = arrays["outputs"]
    if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 1):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(values.shape)}"
        )
    if len(values) != examples:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {examples} vs. {len(values)}"
        )
    if values.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT. Got: {values.dtype}")
    return Regression(values.reshape(-1))
