"""Label selectors as Kubernetes writes them: "app=web,tier!=test,env in (a,b),!debug". Source: labels concept page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from podd.errors import Invalid

Selector = Callable[[Mapping[str, str]], bool]

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"({_NAME})\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL = re.compile(rf"({_NAME})\s*(==|=|!=)\s*((?:{_NAME})?)")
_EXISTS = re.compile(rf"(!?)\s*({_NAME})")
_COMMA = re.compile(r",(?![^()]*\))")


def parse(text: str) -> Selector:
    """ "" selects all. Raises Invalid, naming the part that is wrong."""
    terms = [_term(part.strip(), text) for part in _COMMA.split(text)] if text.strip() else []
    return lambda labels: all(term(labels) for term in terms)


def _term(part: str, whole: str) -> Selector:
    if found := _SET.fullmatch(part):
        name, is_in = found[1], found[2] == "in"
        values = {value.strip() for value in found[3].split(",")}
        return lambda labels: (labels.get(name) in values) == is_in
    if found := _EQUAL.fullmatch(part):
        name, is_equal, value = found[1], found[2] != "!=", found[3]
        return lambda labels: (labels.get(name) == value) == is_equal
    if found := _EXISTS.fullmatch(part):
        name, wanted = found[2], not found[1]
        return lambda labels: (name in labels) == wanted
    raise Invalid(
        f"selector {whole!r}: {part!r} is no requirement",
        remedy='write it as in "app=web,tier!=test,env in (a,b),!debug"',
    )
