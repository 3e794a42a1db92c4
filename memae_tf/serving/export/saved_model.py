"""Writes a detector as a SavedModel, with its signatures for TensorFlow Serving."""

import json
import keyword
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from memae_tf.models import Detector, MemAE
from memae_tf.serving.export.interface import Entry, Interface, Tensors, checked

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{m}" for m in ("predict", "classify", "regress"))


@dataclass(frozen=True)
class Signature:
    """A function from named tensors to named tensors in a SavedModel.

    Attributes:
        function: The function.
        sample: An input to warm it up with, by alias.
        inputs: The specs of the inputs, by alias.
        method: Its method of TensorFlow Serving.
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


def signatures_of(interface: Interface) -> dict[str, Signature]:
    """All signatures by name; docs/serving.md describes them."""
    detector, raw, examples = interface.detector, interface.raw, interface.examples
    # The largest part of each signature, as a graph that all of them share.
    score = tf.function(detector.score_features, autograph=False)
    signatures = {
        "serving_default": _signature(raw, score),
        "score_with_threshold": _score_with_threshold(score, raw),
        "score_encoded": _signature(_encoded(raw), score),
        "reconstruct": _signature(raw, partial(_reconstruct, detector.model)),
        "explain": _signature(raw, interface.explain),
        "examples": _signature(examples, score),
        "classify": _signature(examples, lambda x: _classes(score(x)), CLASSIFY),
        "regress": _signature(examples, lambda x: {"outputs": score(x)["score"]}, REGRESS),
        "describe": _describe(interface.description()),
    }
    if interface.files is not None:
        signatures["score_bytes"] = _signature(interface.files, score)
    return signatures


def _signature(
    entry: Entry, function: Callable[[tf.Tensor], Tensors], method: str = PREDICT
) -> Signature:
    """A function of features, as a signature with the inputs of an entry."""
    return Signature(
        lambda inputs: function(entry.featurize(inputs)), entry.samples, entry.inputs, method
    )


def _describe(description: dict) -> Signature:
    """The signature that tells a client with nothing but an address what it must know."""
    text = json.dumps(description, ensure_ascii=False, allow_nan=False)
    return Signature(
        # One row per row, as servers may batch requests.
        lambda inputs: {"description": tf.fill(tf.shape(inputs["inputs"]), text)},
        {"inputs": np.array(["", ""], object)},
        {"inputs": tf.TensorSpec((None,), tf.string)},
    )


def _score_with_threshold(score: Callable[..., Tensors], entry: Entry) -> Signature:
    threshold = free_name("threshold", entry.inputs)

    def function(inputs: Tensors) -> Tensors:
        features = entry.featurize({name: inputs[name] for name in entry.inputs})
        thresholds = _one_a_row(inputs[threshold], tf.shape(features)[0], threshold)
        return score(features, thresholds)

    sample = np.ones(len(next(iter(entry.samples.values()))), "float32")
    return Signature(
        function,
        {**entry.samples, threshold: sample},
        {**entry.inputs, threshold: tf.TensorSpec((None,), tf.float32)},
    )


def _one_a_row(thresholds: tf.Tensor, rows: tf.Tensor, alias: str) -> tf.Tensor:
    """Thresholds (rows,), after a check that there is one for each row, and all are numbers."""
    # Servers do not check shapes, so the graph does.
    thresholds = tf.ensure_shape(thresholds, (None,))
    number = tf.size(thresholds)
    complaint = f"{alias} should have one value a row, and rows and values are"
    thresholds = checked(thresholds, tf.equal(number, rows), complaint, rows, number)
    no_number = tf.reduce_any(tf.math.is_nan(thresholds))
    complaint = f"{alias} should be numbers, and one is NaN, which no score exceeds"
    return checked(thresholds, ~no_number, complaint)


def _encoded(entry: Entry) -> Entry:
    """The entry that takes the features which another entry computes."""
    features = entry.featurize(entry.samples).numpy()
    spec = tf.TensorSpec((None, *features.shape[1:]), tf.float32)
    return Entry(lambda inputs: inputs["features"], {"features": spec}, {"features": features})


def _reconstruct(model: MemAE, features: tf.Tensor) -> Tensors:
    return {"features": features, "reconstruction": model(features, training=False)}


def _classes(answer: Tensors) -> Tensors:
    """A score for each class; the larger one belongs to the detector's decision."""
    scores = tf.stack([answer["threshold"], answer["score"]], axis=1)
    classes = tf.tile([["normal", "anomaly"]], [tf.shape(scores)[0], 1])
    return {"classes": classes, "scores": scores}


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, with underscores appended until it is not taken."""
    while name in taken:
        name += "_"
    return name


def _resources(detector: Detector) -> list:
    """All objects with state that the graphs use."""
    layers = detector._flatten_layers()
    lookups = (layer for layer in layers if isinstance(layer, keras.layers.StringLookup))
    tables = [lookup.lookup_table for lookup in lookups]
    return [*(variable.value for variable in detector.variables), *tables]


def _concrete(signature: Signature):
    """The traced function, with argument names that TensorFlow allows."""
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
    """A valid argument name of a tf.function for each alias; the alias itself if it is valid."""
    # Loaded functions have a "self". Names in a graph are case-insensitive.
    names, taken = {}, {"self"}
    for alias in aliases:
        name = re.sub(r"[^0-9A-Za-z_]", "_", alias)
        if not name[:1].isalpha() or keyword.iskeyword(name):
            name = f"field_{name}"
        while name.lower() in taken:
            name += "_"
        names[alias] = name
        taken.add(name.lower())
    return names


def _rest_safe(value: tf.Tensor) -> tf.Tensor:
    """A value as float32, int64 or string, which the REST API can write."""
    if value.dtype.is_floating:
        return tf.cast(value, tf.float32)
    return value if value.dtype == tf.string else tf.cast(value, tf.int64)


def _finish(path: Path, signatures: dict[str, Signature]) -> None:
    """Sets method names and aliases, for which `tf.saved_model.save` has no arguments."""
    model = SavedModel.FromString(path.read_bytes())
    for key, signature in signatures.items():
        definition = model.meta_graphs[0].signature_def[key]
        definition.method_name = signature.method
        arguments = {name: definition.inputs.pop(name) for name in list(definition.inputs)}
        for alias, name in argument_names(signature.inputs).items():
            definition.inputs[alias].CopyFrom(arguments[name])
    if {"classify", "regress"} <= signatures.keys():
        _share_input(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString(deterministic=True))
    # It belongs to the file before this change, and the manifest has its own checksums.
    path.with_name("fingerprint.pb").unlink(missing_ok=True)


def _share_input(meta_graph: MetaGraphDef) -> None:
    """Makes `regress` use the input tensor of `classify`, as MultiInference requires.

    Each remains a call of its own. If the score were taken from the outputs of `classify`, it would
    have other bits, as TensorFlow optimizes such a call in another way.
    """
    infos = [meta_graph.signature_def[key].inputs["inputs"] for key in ("classify", "regress")]
    # Nodes refer to a first output by the name alone.
    shared, own = (info.name.removesuffix(":0") for info in infos)
    nodes = meta_graph.graph_def.node
    nodes.remove(next(node for node in nodes if node.name == own))
    for node in nodes:
        node.input[:] = [shared if source == own else source for source in node.input]
    infos[1].CopyFrom(infos[0])


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
