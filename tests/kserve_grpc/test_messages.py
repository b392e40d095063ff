"""The messages are those of the protocol, as TorchServe's own definition of the same service has them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from kserve_grpc.messages import MESSAGES
from tests.support.grpc_client import compile_stubs

# Triton's; TorchServe's definition lacks them.
ADDED = {("double_param", 4), ("uint64_param", 5)}


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The descriptors of TorchServe's messages by name, nested ones included."""
    stubs: Path = tmp_path_factory.mktemp("stubs")
    compile_stubs(stubs)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(stubs)
        top = importlib.import_module("open_inference_grpc_pb2").DESCRIPTOR.message_types_by_name.values()
    found = [*top, *(nested for message in top for nested in message.nested_types)]
    return {message.name: message for message in found if not message.GetOptions().map_entry}


def fields(message: Any) -> set[tuple[Any, ...]]:
    """Return what determines a message on the wire and in code."""
    return {
        (
            field.name,
            field.number,
            field.type,
            field.is_repeated,
            field.containing_oneof.name if field.containing_oneof else None,
            kind(field.message_type) if field.message_type else None,
        )
        for field in message.fields
    }


def kind(message: Any) -> Any:
    return frozenset(fields(message)) if message.GetOptions().map_entry else message.name


def test_all_messages_are_there(definition: dict[str, Any]) -> None:
    assert set(MESSAGES) == set(definition)


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_are_those_of_the_protocol(name: str, definition: dict[str, Any]) -> None:
    own, expected = fields(MESSAGES[name].DESCRIPTOR), fields(definition[name])
    added = {field for field in own if field[:2] in ADDED} if name == "InferParameter" else set()
    assert len(added) == (len(ADDED) if name == "InferParameter" else 0)
    assert own - added == expected
