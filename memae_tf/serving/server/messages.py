"""Readers of TensorFlow Serving's messages that several modules need."""

from collections.abc import Sequence

from tensorflow_serving.apis import inference_pb2, input_pb2

from memae_tf.serving.server.servable import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD
from memae_tf.serving.wire.status import Code, ServingError, invalid_argument


def serialized_examples(message: input_pb2.Input) -> list[bytes]:
    """The examples of an Input, with its context merged into each."""
    if message.WhichOneof("kind") == "example_list_with_context":
        with_context = message.example_list_with_context
        # To join the bytes of two messages is to merge them.
        context = with_context.context.SerializeToString()
        return [context + example.SerializeToString() for example in with_context.examples]
    return [example.SerializeToString() for example in message.example_list.examples]


def inference_tasks(tasks: Sequence[inference_pb2.InferenceTask]) -> list[tuple[str, str]]:
    """(signature, method) of the tasks of a MultiInferenceRequest.

    Raises:
        ServingError: If they cannot be combined.
    """
    if not tasks:
        raise invalid_argument("Inference request must have at least one task.")
    pairs: list[tuple[str, str]] = []
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        signature = spec.signature_name or DEFAULT_SIGNATURE
        if signature in [name for name, _ in pairs]:
            raise invalid_argument(f"Duplicate evaluation of signature: {signature}")
        if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        pairs.append((signature, task.method_name))
    return pairs
