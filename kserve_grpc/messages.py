"""Protobuf messages of V2's gRPC service, built from a table so that no generated code is needed.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md defines them; the
last two members of `InferParameter` are Triton's. Nested messages are at the top here: on the wire that is the same.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
PARAMETER = "InferParameter"

# Each field as "type name" or "repeated type name", in the order of their numbers, which start at 1. "map name" is a
# map from texts to parameters.
SCHEMA: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready",),
    "ModelReadyRequest": ("string name", "string version"),
    "ModelReadyResponse": ("bool ready",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("string name", "string version", "repeated string extensions"),
    "ModelMetadataRequest": ("string name", "string version"),
    "ModelMetadataResponse": (
        "string name",
        "repeated string versions",
        "string platform",
        "repeated TensorMetadata inputs",
        "repeated TensorMetadata outputs",
    ),
    "TensorMetadata": ("string name", "string datatype", "repeated int64 shape"),
    "ModelInferRequest": (
        "string model_name",
        "string model_version",
        "string id",
        "map parameters",
        "repeated InferInputTensor inputs",
        "repeated InferRequestedOutputTensor outputs",
        "repeated bytes raw_input_contents",
    ),
    "InferInputTensor": (
        "string name",
        "string datatype",
        "repeated int64 shape",
        "map parameters",
        "InferTensorContents contents",
    ),
    "InferRequestedOutputTensor": ("string name", "map parameters"),
    "ModelInferResponse": (
        "string model_name",
        "string model_version",
        "string id",
        "map parameters",
        "repeated InferOutputTensor outputs",
        "repeated bytes raw_output_contents",
    ),
    "InferOutputTensor": (
        "string name",
        "string datatype",
        "repeated int64 shape",
        "map parameters",
        "InferTensorContents contents",
    ),
    # The fields of this message exclude each other.
    PARAMETER: (
        "bool bool_param",
        "int64 int64_param",
        "string string_param",
        "double double_param",
        "uint64 uint64_param",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents",
        "repeated int32 int_contents",
        "repeated int64 int64_contents",
        "repeated uint32 uint_contents",
        "repeated uint64 uint64_contents",
        "repeated float fp32_contents",
        "repeated double fp64_contents",
        "repeated bytes bytes_contents",
    ),
}
CHOICE = "parameter_choice"
Field = descriptor_pb2.FieldDescriptorProto


def _add_field(message: Any, number: int, text: str) -> None:
    """Add a field to a message's descriptor."""
    *label, kind, name = text.split()
    field = message.field.add(name=name, number=number)
    field.label = Field.LABEL_REPEATED if label or kind == "map" else Field.LABEL_OPTIONAL
    if kind == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "string key")
        _add_field(entry, 2, f"{PARAMETER} value")
        kind = f"{message.name}.{entry.name}"
    if kind.split(".")[0] in SCHEMA:
        field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")


def _messages() -> dict[str, Any]:
    """Return the class of each message by its name."""
    file = descriptor_pb2.FileDescriptorProto(name="kserve_grpc.proto", package=PACKAGE, syntax="proto3")
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for number, text in enumerate(fields, start=1):
            _add_field(message, number, text)
        if name == PARAMETER:
            message.oneof_decl.add(name=CHOICE)
            for field in message.field:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in SCHEMA}


MESSAGES = _messages()
