"""The published interface and the types that serve it say the same; so does the documentation."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from varlink import scanner  # type: ignore[import-untyped]

from control.fakes import FakeEngine
from podd.control.dispatch import SERVICE_DESCRIPTION, Method
from podd.control.errors import NAMES, parameters_of
from podd.control.messages import PodObject
from podd.control.service import interface_text, make_service
from podd.errors import Invalid

INTERFACE = scanner.Interface(interface_text())
SERVICE = make_service(FakeEngine())
DECLARED = {name: member for name, member in INTERFACE.members.items() if isinstance(member, scanner._Method)}


def served() -> dict[str, Method]:
    return {name.rpartition(".")[2]: method for name, method in SERVICE._methods.items() if name.startswith("io.podd.")}


def test_every_declared_method_is_served_and_no_other() -> None:
    assert list(DECLARED) == list(served())


@pytest.mark.parametrize("name", DECLARED)
def test_parameters_and_replies_are_as_declared(name: str) -> None:
    method = served()[name]
    assert list(differences(DECLARED[name].in_type, inspect.type_info(method.parameters), f"{name} in")) == []
    _, taken, returned = typing.get_type_hints(method.answer).values()
    assert taken is method.parameters
    assert list(differences(DECLARED[name].out_type, inspect.type_info(returned), f"{name} out")) == []


SCALARS: dict[type, type[inspect.Type]] = {
    str: inspect.StrType,
    int: inspect.IntType,
    bool: inspect.BoolType,
    float: inspect.FloatType,
}


def differences(idl: Any, python: inspect.Type, where: str) -> Iterator[str]:  # noqa: C901 - one branch per kind of type
    match idl, python:
        case scanner._Maybe(), inspect.UnionType(types=types):
            inner = [each for each in types if not isinstance(each, inspect.NoneType)]
            if len(inner) == len(types) or len(inner) != 1:
                yield f"{where}: {types} is not optional"
            else:
                yield from differences(idl.element_type, inner[0], where)
        case scanner._CustomType(), _:
            yield from differences(INTERFACE.members[idl.name].type, python, f"{where} {idl.name}")
        case scanner._Object(), inspect.StructType(cls=cls) if cls is PodObject:
            return
        case scanner._Object(), inspect.DictType():
            return
        case scanner._Struct(), inspect.StructType(fields=fields):
            ours = {field.encode_name: field.type for field in fields}
            if set(ours) != set(idl.fields):
                yield f"{where}: fields {sorted(set(ours) ^ set(idl.fields))} on one side only"
            for name in set(ours) & set(idl.fields):
                yield from differences(idl.fields[name], ours[name], f"{where}.{name}")
        case scanner._Array(), inspect.CollectionType(item_type=item) | inspect.ListType(item_type=item):
            yield from differences(idl.element_type, item, f"{where}[]")
        case scanner._Array(), inspect.VarTupleType(item_type=item):
            yield from differences(idl.element_type, item, f"{where}[]")
        case scanner._Dict(), inspect.DictType(value_type=value):
            yield from differences(idl.element_type, value, f"{where}[string]")
        case scanner._Enum(), inspect.LiteralType(values=values):
            if set(values) != set(idl.fields):
                yield f"{where}: {set(values) ^ set(idl.fields)} on one side only"
        case str(), inspect.LiteralType():
            return  # of what is any string on the wire podd sends only some
        case _:
            if not isinstance(python, SCALARS.get(type(idl), type(None))):
                yield f"{where}: {idl!r} is not {python!r}"


def test_a_difference_is_seen() -> None:
    class Wrong(msgspec.Struct):
        name: str | None
        namespace: str
        more: int

    seen = list(differences(DECLARED["Get"].in_type, inspect.type_info(Wrong), "x"))
    assert seen[0] == "x: fields ['more'] on one side only"
    assert len(seen) == 3


def test_the_errors_are_as_declared() -> None:
    errors = {f"io.podd.{name}": m for name, m in INTERFACE.members.items() if isinstance(m, scanner._Error)}
    assert set(errors) == set(NAMES.values())
    sent = json.loads(json.dumps(parameters_of(Invalid("m", remedy="r", a=1))))
    for error in errors.values():
        assert list(error.type.fields) == list(sent)


def test_every_member_is_explained() -> None:
    for interface in (INTERFACE, scanner.Interface(SERVICE_DESCRIPTION)):
        assert interface.doc
        unexplained = [member.name for member in interface.members.values() if not member.doc]
        assert [name for name in unexplained if name != "Process"] == []


def test_the_documentation_shows_the_interface_as_it_is() -> None:
    page = Path(__file__).parents[2].joinpath("docs/varlink.md").read_text()
    assert f"```varlink\n{interface_text()}```\n" in page, "copy io.podd.varlink into docs/varlink.md"
