"""tf.Examples in JSON, the input of classify and regress in REST."""

from tensorflow.core.example import example_pb2, feature_pb2

from memae_tf.serving.server import json_document, json_tensors
from memae_tf.serving.server.json_document import shown
from memae_tf.serving.server.json_lists import LongList
from memae_tf.serving.wire.status import invalid_argument


def parse_examples(document: dict) -> list[bytes]:
    """The serialized examples of a request, with its context merged into each.

    Raises:
        ServingError: If the document is not such a request.
    """
    context = b""
    if "context" in document:
        context = _example(document["context"])
    if "examples" not in document:
        raise invalid_argument(
            f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list | LongList):
        raise invalid_argument(
            f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array"
        )
    if not examples:
        raise invalid_argument(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    return [context + _example(example) for example in examples]


def _example(value: object) -> bytes:
    if not isinstance(value, dict):
        raise invalid_argument(
            f"Example must be JSON object but got JSON {json_document.type_name(value)}"
        )
    example = example_pb2.Example()
    for name, content in value.items():
        # A name that is not UTF-8 cannot be a key of the message.
        key = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        _fill(example.features.feature[key], name, content)
    return example.SerializeToString()


def _fill(feature: feature_pb2.Feature, name: str, content: object) -> None:
    for value in content if isinstance(content, list) else [content]:
        kind, converted = _feature_value(name, value)
        if feature.WhichOneof("kind") not in (None, kind):
            raise invalid_argument(
                f"Unexpected element type in feature: {name} expecting type: "
                f"{feature.WhichOneof('kind').removesuffix('_list')}"
            )
        getattr(feature, kind).value.append(converted)


def _feature_value(name: str, value: object) -> tuple[str, object]:
    """The kind of list for a value, and what to append to it."""
    if isinstance(value, str):
        return "bytes_list", json_document.to_bytes(value)
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return "bytes_list", json_tensors.decode_base64(value)
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "int64_list", value
    if isinstance(value, int) and 0 <= value < 2**64:
        raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
    if isinstance(value, int | float):
        # Integers beyond 64 bits are read as floats.
        return "float_list", float(value)
    raise invalid_argument(
        f"Feature: {name} has element with unexpected JSON type: {json_document.type_name(value)}"
    )
