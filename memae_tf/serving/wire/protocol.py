"""The messages of TensorFlow Serving's protocol that a client needs, without TensorFlow.

The messages of the package tensorflow-serving-api import all of TensorFlow, which takes seconds and
a gigabyte. These are made at run time from the tables below, in their own pool, so that one process
can use both. Only numbers and types of fields are on the wire, and
tests/serving/wire/test_protocol.py compares them with the originals.
"""

import enum

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from memae_tf.serving.wire.status import Code

PACKAGE = "memae_tf.tensorflow_serving"


class DataType(enum.IntEnum):
    """TensorFlow's dtypes."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23
    DT_FLOAT8_E5M2 = 24
    DT_FLOAT8_E4M3FN = 25
    DT_FLOAT8_E4M3FNUZ = 26
    DT_FLOAT8_E4M3B11FNUZ = 27
    DT_FLOAT8_E5M2FNUZ = 28
    DT_INT4 = 29
    DT_UINT4 = 30
    DT_INT2 = 31
    DT_UINT2 = 32
    DT_FLOAT4_E2M1FN = 33


class State(enum.IntEnum):
    """The states of a version."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


_TYPES = dict(FieldDescriptorProto.Type.items())
_ENUMS = {enumeration.__name__: enumeration for enumeration in (DataType, State, Code)}
# In the words of a .proto file; "map:X" stands for map<string, X>.
_MESSAGES = {
    "Dim": "int64 size = 1",
    "TensorShapeProto": "repeated Dim dim = 2; bool unknown_rank = 3",
    "TensorProto": """
        DataType dtype = 1; TensorShapeProto tensor_shape = 2; bytes tensor_content = 4;
        repeated float float_val = 5; repeated double double_val = 6; repeated int32 int_val = 7;
        repeated bytes string_val = 8; repeated float scomplex_val = 9;
        repeated int64 int64_val = 10; repeated bool bool_val = 11;
        repeated double dcomplex_val = 12; repeated int32 half_val = 13;
        repeated uint32 uint32_val = 16; repeated uint64 uint64_val = 17""",
    "Int64Value": "int64 value = 1",
    "ModelSpec": """
        string name = 1; Int64Value version = 2; string signature_name = 3;
        string version_label = 4""",
    "PredictRequest": "ModelSpec model_spec = 1; map:TensorProto inputs = 2",
    "PredictResponse": "map:TensorProto outputs = 1; ModelSpec model_spec = 2",
    "GetModelStatusRequest": "ModelSpec model_spec = 1",
    "StatusProto": "Code error_code = 1; string error_message = 2",
    "ModelVersionStatus": "int64 version = 1; State state = 2; StatusProto status = 3",
    "GetModelStatusResponse": "repeated ModelVersionStatus model_version_status = 1",
    "GetModelMetadataRequest": "ModelSpec model_spec = 1; repeated string metadata_field = 2",
    "Any": "string type_url = 1; bytes value = 2",
    "GetModelMetadataResponse": "ModelSpec model_spec = 1; map:Any metadata = 2",
    "TensorInfo": "string name = 1; DataType dtype = 2; TensorShapeProto tensor_shape = 3",
    "SignatureDef": "map:TensorInfo inputs = 1; map:TensorInfo outputs = 2; string method_name = 3",
    "SignatureDefMap": "map:SignatureDef signature_def = 1",
}


def _make_messages() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto3"
    )
    for name, enumeration in _ENUMS.items():
        # Each in a message of its own, as enum values share a scope, and two are called UNKNOWN.
        declared = file.message_type.add(name=f"{name}s").enum_type.add(name=name)
        for value in enumeration:
            declared.value.add(name=value.name, number=value)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(";"):
            _add_field(message, *field.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _add_field(message, *words: str) -> None:
    """Adds a field to a message, from the words of `[repeated] type name = number`."""
    *label, kind, name, _, number = words
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if label else field.LABEL_OPTIONAL
    if kind.startswith("map:"):
        # A `map` is a repeated message of key and value.
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "string", "key", "=", "1")
        _add_field(entry, kind.removeprefix("map:"), "value", "=", "2")
        field.label = field.LABEL_REPEATED
        kind = f"{message.name}.{entry.name}"
    if kind in _ENUMS:
        field.type, field.type_name = field.TYPE_ENUM, f".{PACKAGE}.{kind}s.{kind}"
    elif f"TYPE_{kind.upper()}" in _TYPES:
        field.type = _TYPES[f"TYPE_{kind.upper()}"]
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


MESSAGES = _make_messages()
TensorProto = MESSAGES["TensorProto"]
PredictRequest = MESSAGES["PredictRequest"]
PredictResponse = MESSAGES["PredictResponse"]
GetModelStatusRequest = MESSAGES["GetModelStatusRequest"]
GetModelStatusResponse = MESSAGES["GetModelStatusResponse"]
GetModelMetadataRequest = MESSAGES["GetModelMetadataRequest"]
GetModelMetadataResponse = MESSAGES["GetModelMetadataResponse"]
SignatureDefMap = MESSAGES["SignatureDefMap"]
