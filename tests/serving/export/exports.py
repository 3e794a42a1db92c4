"""Detectors exported in tests, run as the model server runs them."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from memae_tf.serving.export import saved_model, warmup
from memae_tf.serving.export.publication import interface_of


def export(detector, directory):
    """A SavedModel with its warm-up requests, as `load` gives it."""
    signatures = saved_model.signatures_of(interface_of(detector))
    saved_model.save(detector, signatures, directory)
    warmup.write(signatures, directory)
    return load(detector, directory)


def load(detector, directory):
    """What is exported of a detector, and the two ways to load it."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))

    def run(name, inputs):
        """As the model server runs it."""
        definition = meta_graph.signature_def[name]
        assert set(inputs) == set(definition.inputs)
        fetches = {alias: tensor.name for alias, tensor in definition.outputs.items()}
        feeds = {definition.inputs[alias].name: value for alias, value in inputs.items()}
        return session.run(fetches, feeds)

    return SimpleNamespace(
        detector=detector,
        directory=directory,
        definitions=meta_graph.signature_def,
        run=run,
        loaded=tf.saved_model.load(str(directory)),
    )


def assert_same(answer, expected):
    assert set(answer) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(answer[name], values, err_msg=name)


def assert_batch_major_and_rest_safe(definitions):
    for definition in definitions.values():
        for tensor in definition["outputs"].values():
            assert tensor["dtype"] in ("float32", "int64", "string")
            assert tensor["shape"][0] is None
