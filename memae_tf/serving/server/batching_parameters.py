"""The parameters of batching, as in TensorFlow Serving's file."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from memae_tf.errors import UserError


@dataclass(frozen=True)
class BatchingParameters:
    """When a batch is full, how long it waits, and how many batches may wait or run.

    Names and defaults are TensorFlow Serving's.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 4
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    def __post_init__(self):
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise UserError(
                f"batch_timeout_micros must not be negative; got {self.batch_timeout_micros}"
            )
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
            raise UserError(f"allowed_batch_sizes must increase; got {list(sizes)}")
        if sizes and sizes[-1] != self.execution_size:
            raise UserError(
                "The last of allowed_batch_sizes must be the largest batch, "
                f"{self.execution_size}; got {sizes[-1]}"
            )

    @property
    def execution_size(self) -> int:
        """The most rows in one run."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size:
            return self.max_execution_batch_size
        return self.max_batch_size

    @classmethod
    def read(cls, path: str | Path) -> "BatchingParameters":
        """Reads a text file like that of TensorFlow Serving's `--batching_parameters_file`."""
        message = _message_class()()
        try:
            text_format.Parse(Path(path).read_text(), message)
        except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
            raise UserError(f"{path} is not a file of batching parameters: {error}") from error
        values = {
            field.name: getattr(value, "value", value)
            for field, value in message.ListFields()
            if field.name != "thread_pool_name"
        }
        values["allowed_batch_sizes"] = tuple(message.allowed_batch_sizes)
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


# BatchingParameters of session_bundle_config.proto, which tensorflow-serving-api leaves out.
_WRAPPED = {
    "max_batch_size": "Int64Value",
    "batch_timeout_micros": "Int64Value",
    "max_enqueued_batches": "Int64Value",
    "num_batch_threads": "Int64Value",
    "thread_pool_name": "StringValue",
    "max_execution_batch_size": "Int64Value",
    "enable_large_batch_splitting": "BoolValue",
}


def _message_class() -> type:
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="memae_tf/batching_parameters.proto",
        package="memae_tf.serving",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, wrapper) in enumerate(_WRAPPED.items(), 1):
        message.field.add(
            name=name,
            number=number,
            label=field_type.LABEL_OPTIONAL,
            type=field_type.TYPE_MESSAGE,
            type_name=f".google.protobuf.{wrapper}",
        )
    message.field.add(
        name="allowed_batch_sizes",
        number=len(_WRAPPED) + 1,
        label=field_type.LABEL_REPEATED,
        type=field_type.TYPE_INT64,
    )
    message.field.add(
        name="pad_variable_length_inputs",
        number=len(_WRAPPED) + 2,
        label=field_type.LABEL_OPTIONAL,
        type=field_type.TYPE_BOOL,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("memae_tf.serving.BatchingParameters")
    )
