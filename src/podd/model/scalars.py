"""One scalar of a manifest as the type that is wanted there.

YAML guesses types from the look of a word; here the type is known, and a word that YAML would take for another is
refused with the cure, so that `no` is never a country and `0644` never a number that two readers read differently.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from msgspec import inspect

from podd.model.document import BOOLEANS, MEANT, Scalar, meaning


class Unfit(Exception):
    """args: message and remedy."""


MAX_INT = 2**63 - 1
_OCTAL = re.compile(r"0o?[0-7]{1,5}", re.ASCII)


def _string(node: Scalar, _: inspect.Type) -> str:
    if meaning(node) != "str":
        raise Unfit(
            f"a string is wanted, and {node.text or 'this'} is {MEANT[meaning(node)]}", f'quote it: "{node.text}"'
        )
    if "\0" in node.text:
        raise Unfit("has a NUL character, which no program can be given")
    return node.text


def _literal(node: Scalar, kind: inspect.Type) -> str:
    assert isinstance(kind, inspect.LiteralType)
    text = _string(node, kind)
    if text not in kind.values:
        allowed = ", ".join(f'"{value}"' for value in kind.values)
        close = difflib.get_close_matches(text, [str(value) for value in kind.values], 1, 0.7)
        raise Unfit(f'"{text}" is not one of {allowed}', f"did you mean {close[0]}?" if close else "")
    return text


def _integer(node: Scalar, _: inspect.Type) -> int:
    match meaning(node):
        case "int" if len(node.text) <= 20 and abs(int(node.text)) <= MAX_INT:
            return int(node.text)
        case "int":
            raise Unfit("is out of range")
        case "odd int":
            raise Unfit(f"{node.text} is not the same number in YAML 1.1 and 1.2", "write it in decimal")
        case "str" if meaning(Scalar(node.place, node.text, plain=True)) == "int":
            raise Unfit("a whole number is wanted, and this is a string", "remove the quotes")
        case other:
            raise Unfit(f'a whole number is wanted, and "{node.text}" is {MEANT[other]}')


def _boolean(node: Scalar, _: inspect.Type) -> bool:
    if meaning(node) != "bool":
        remedy = "remove the quotes" if node.text in BOOLEANS else ""
        raise Unfit(f'true or false is wanted, and "{node.text}" is {MEANT[meaning(node)]}', remedy)
    return BOOLEANS[node.text]


def _quantity(node: Scalar, _: inspect.Type) -> str:
    """As written: a number keeps its digits. Whether it is a quantity is for the rules."""
    if meaning(node) in ("null", "bool"):
        raise Unfit(f'a quantity is wanted, and "{node.text}" is {MEANT[meaning(node)]}')
    return node.text


def _titled(node: Scalar, kind: inspect.Type) -> int | str:
    """A quantity, a port, or a mode: see `podd.model.pod`."""
    return _TITLED[title(kind)](node, kind)


def title(kind: inspect.Type) -> str:
    """By which `podd.model.pod` tells apart what has the same type in Python."""
    return str((kind.extra_json_schema or {}).get("title", "")) if isinstance(kind, inspect.Metadata) else ""


def _mode(node: Scalar, kind: inspect.Type) -> int:
    """Kubernetes reads YAML 1.1, where a zero first means octal; for a mode nobody means anything else by it."""
    if node.plain and _OCTAL.fullmatch(node.text):
        return int(node.text.replace("o", ""), 8)
    return _integer(node, kind)


def _int_or_string(node: Scalar, kind: inspect.Type) -> int | str:
    """A string of digits is neither a number nor the name of a port."""
    if meaning(node) != "str":
        return _integer(node, kind)
    if meaning(Scalar(node.place, node.text, plain=True)) == "int":
        raise Unfit(f'"{node.text}" is a string, and no name of a port', "remove the quotes")
    return _string(node, kind)


_TITLED: dict[str, Callable[[Scalar, inspect.Type], int | str]] = {
    "IntOrString": _int_or_string,
    "Mode": _mode,
    "Quantity": _quantity,
}

_SCALARS: dict[type[inspect.Type], Callable[[Scalar, inspect.Type], object]] = {
    inspect.StrType: _string,
    inspect.LiteralType: _literal,
    inspect.IntType: _integer,
    inspect.BoolType: _boolean,
    inspect.Metadata: _titled,
}


def read(node: Scalar, kind: inspect.Type) -> object:
    """Raises Unfit."""
    return _SCALARS[type(kind)](node, kind)
