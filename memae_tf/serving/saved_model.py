"""A detector as a SavedModel, with the signatures that TensorFlow Serving answers to."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from memae_tf.models import Detector
from memae_tf.serving.records import RecordInterface, Tensors

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{m}" for m in ("predict", "classify", "regress"))


@dataclass(frozen=True)
class Signature:
    """A function of named tensors to named tensors, as a SavedModel keeps it.

    Attributes:
        function: What it computes.
        sample: An input to warm it up with, by alias.
        inputs: The spec of every input, by alias.
        method: The method of TensorFlow Serving that it is for.
    """

    function: Callable[[Tensors], Tensors]
    sample: dict[str, np.ndarray]
    inputs: dict[str, tf.TensorSpec]
    method: str = PREDICT


def save(detector: Detector, signatures: dict[str, Signature], directory: Path) -> None:
    """Writes the signatures of a detector as a SavedModel into a directory."""
    module = tf.Module()
    module.tracked = _resources(detector)
    functions = {name: _concrete(signature) for name, signature in signatures.items()}
    tf.saved_model.save(module, str(directory), signatures=functions)
    _finish(directory / "saved_model.pb", signatures)


def signatures_of(interface: RecordInterface) -> dict[str, Signature]:
    """Every signature by name; docs/serving.md says what each is for."""
    detector, raw = interface.detector, (interface.samples, interface.inputs)
    return {
        "serving_default": Signature(detector, *raw),
        "score_with_threshold": _score_with_threshold(interface),
        "score_encoded": _score_encoded(interface),
        "reconstruct": Signature(partial(_reconstruct, detector), *raw),
        "explain": Signature(interface.explain, *raw),
        "examples": _of_examples(interface, detector),
        "classify": _of_examples(interface, lambda x: _classes(detector(x)), CLASSIFY),
        "regress": _of_examples(interface, lambda x: {"outputs": detector(x)["score"]}, REGRESS),
    }


def _score_with_threshold(interface: RecordInterface) -> Signature:
    threshold = free_name("threshold", interface.inputs)

    def function(inputs: Tensors) -> Tensors:
        records = {name: inputs[name] for name in interface.inputs}
        return interface.detector(records, inputs[threshold])

    sample = np.ones(len(interface.sample_examples), "float32")
    return Signature(
        function,
        {**interface.samples, threshold: sample},
        {**interface.inputs, threshold: tf.TensorSpec((None,), tf.float32)},
    )


def _score_encoded(interface: RecordInterface) -> Signature:
    detector, model = interface.detector, interface.detector.model

    def function(inputs: Tensors) -> Tensors:
        features = inputs["features"]
        reconstruction = model(features, training=False)
        return detector.decide(model.sample_error(features, reconstruction))

    sample = detector.featurizer(interface.samples).numpy()
    spec = tf.TensorSpec((None, *sample.shape[1:]), tf.float32)
    return Signature(function, {"features": sample}, {"features": spec})


def _of_examples(
    interface: RecordInterface, function: Callable[[Tensors], Tensors], method: str = PREDICT
) -> Signature:
    """A function of raw input, as one of serialized tf.Examples."""
    sample = np.array([e.SerializeToString() for e in interface.sample_examples], object)
    return Signature(
        lambda inputs: function(interface.parse(inputs["inputs"])),
        # The alias that Classify and Regress look for.
        {"inputs": sample},
        {"inputs": tf.TensorSpec((None,), tf.string)},
        method,
    )


def _reconstruct(detector: Detector, inputs: Tensors) -> Tensors:
    features = detector.featurizer(inputs)
    return {"features": features, "reconstruction": detector.model(features, training=False)}


def _classes(answer: Tensors) -> Tensors:
    """A score for each class, of which the larger one is that of the detector's decision."""
    scores = tf.stack([answer["threshold"], answer["score"]], axis=1)
    classes = tf.tile([["normal", "anomaly"]], [tf.shape(scores)[0], 1])
    return {"classes": classes, "scores": scores}


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, with as many underscores behind it as it takes to be none of the others."""
    while name in taken:
        name += "_"
    return name


def _resources(detector: Detector) -> list:
    """Everything with a state that the graphs use."""
    tables = [lookup.lookup_table for lookup in detector.featurizer.lookups.values()]
    return [*(variable.value for variable in detector.variables), *tables]


def _concrete(signature: Signature):
    """The traced function, its arguments named as TensorFlow allows."""
    names = argument_names(signature.inputs)

    def function(arguments: Tensors) -> Tensors:
        inputs = {alias: arguments[name] for alias, name in names.items()}
        outputs = signature.function(inputs)
        return {alias: _rest_safe(value) for alias, value in outputs.items()}

    specs = {
        names[alias]: tf.TensorSpec(spec.shape, spec.dtype, names[alias])
        for alias, spec in signature.inputs.items()
    }
    return tf.function(function, autograph=False).get_concrete_function(specs)


def argument_names(aliases: Iterable[str]) -> dict[str, str]:
    """A name for each alias that a tf.function's argument can have: the alias itself if it can."""
    # "self" is the loaded function's own.
    names, taken = {}, {"self"}
    for alias in aliases:
        name = re.sub(r"[^0-9A-Za-z_]", "_", alias)
        name = name if name[:1].isalpha() else f"field_{name}"
        names[alias] = free_name(name, taken)
        taken.add(names[alias])
    return names


def _rest_safe(value: tf.Tensor) -> tf.Tensor:
    """float32, int64 or string: what the REST API can write."""
    if value.dtype.is_floating:
        return tf.cast(value, tf.float32)
    return value if value.dtype == tf.string else tf.cast(value, tf.int64)


def _finish(path: Path, signatures: dict[str, Signature]) -> None:
    """Sets what `tf.saved_model.save` has no arguments for: method names and any alias."""
    model = SavedModel.FromString(path.read_bytes())
    for key, signature in signatures.items():
        definition = model.meta_graphs[0].signature_def[key]
        definition.method_name = signature.method
        arguments = {name: definition.inputs.pop(name) for name in list(definition.inputs)}
        for alias, name in argument_names(signature.inputs).items():
            definition.inputs[alias].CopyFrom(arguments[name])
    path.write_bytes(model.SerializeToString(deterministic=True))
    # It was that of the file before; the manifest has checksums of its own.
    path.with_name("fingerprint.pb").unlink(missing_ok=True)


def signature_definitions(directory: Path) -> dict[str, dict]:
    """Method, inputs and outputs of every signature of a SavedModel, for the manifest."""
    model = SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    definitions = model.meta_graphs[0].signature_def
    return {
        key: {
            "method_name": definitions[key].method_name,
            "inputs": _tensors(definitions[key].inputs),
            "outputs": _tensors(definitions[key].outputs),
        }
        for key in sorted(definitions)
        if not key.startswith("__")
    }


def _tensors(infos) -> dict[str, dict]:
    return {
        alias: {
            "dtype": tf.as_dtype(infos[alias].dtype).name,
            "shape": tf.TensorShape(infos[alias].tensor_shape).as_list(),
        }
        for alias in sorted(infos)
    }
