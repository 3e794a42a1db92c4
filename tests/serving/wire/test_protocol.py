"""The client's own messages are those of TensorFlow Serving, by numbers and types of fields."""

import subprocess
import sys

import pytest

pytest.importorskip("tensorflow_serving.apis")

from google.protobuf import descriptor_pb2, wrappers_pb2
from google.protobuf.any_pb2 import Any
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
)

from memae_tf.serving.wire.protocol import MESSAGES, DataType, State
from memae_tf.serving.wire.status import Code

ORIGINALS = {
    "Any": Any,
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "Int64Value": wrappers_pb2.Int64Value,
}
MODULES = (
    get_model_metadata_pb2,
    get_model_status_pb2,
    meta_graph_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
    tensor_pb2,
    tensor_shape_pb2,
)


def original(name):
    if name in ORIGINALS:
        return ORIGINALS[name]
    (message,) = {getattr(m, name) for m in MODULES if hasattr(m, name)}
    return message


def shape(descriptor):
    """What is on the wire of every field, and what the fields of messages are."""
    declared = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(declared)
    labels = {field.name: field.label for field in declared.field}
    fields = {}
    for field in descriptor.fields:
        kind = field.type
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = ("map", tuple(sorted(shape(field.message_type).items())))
        fields[field.name] = (field.number, kind, labels[field.name])
    return fields


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_are_those_of_the_original(name):
    ours, theirs = shape(MESSAGES[name].DESCRIPTOR), shape(original(name).DESCRIPTOR)
    assert ours == {field: theirs[field] for field in ours}


def test_enums_are_the_originals():
    dtypes = {name: number for name, number in types_pb2.DataType.items() if number < 100}
    assert {name: DataType[name] for name in dtypes} == dtypes
    states = get_model_status_pb2.ModelVersionStatus.State
    assert dict(states.items()) == {state.name: state.value for state in State}
    codes = dict(error_codes_pb2.Code.items())
    assert {code.name: codes[code.name] for code in Code} == {c.name: c.value for c in Code}


def test_nothing_heavy_is_imported_for_a_client():
    code = (
        "import sys; from memae_tf.serving import Client\n"
        "for address in ('localhost:1', 'http://localhost:1'): Client(address, 'm').close()\n"
        "print(sorted({'tensorflow', 'keras', 'pandas', 'tensorflow_serving'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
