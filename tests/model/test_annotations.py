"""podd's own annotations: what they say, and what is said of wrong ones."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.model import manifest
from podd.model.annotations import DEPENDS_ON, KEYSTONE, START, Wishes, parse
from podd.model.problem import Problem

DEPENDS: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "one": ("web=db:ready", {"web": {"db": "ready"}}),
    "several": (
        "web=db:ready,cache:started; report=job:completed",
        {"web": {"db": "ready", "cache": "started"}, "report": {"job": "completed"}},
    ),
    "space, lines and ends": (
        "\n web = db : ready ;;\n report=job:completed;\n",
        {"web": {"db": "ready"}, "report": {"job": "completed"}},
    ),
    "one member in two entries": ("web=db:ready; web=cache:ready", {"web": {"db": "ready", "cache": "ready"}}),
    "nothing": ("", {}),
}


def document(asked: dict[str, str], **spec: Any) -> dict[str, Any]:
    """A pod of five members, of which job ends and db, web, cache and report do not, and one sidecar."""
    base = {"image": "rootfs:/", "command": ["true"]}
    names = ("db", "web", "cache", "report")
    members = [{"name": name, **base} for name in names] + [{"name": "job", "restartPolicy": "OnFailure", **base}]
    sidecar = {"name": "proxy", "restartPolicy": "Always", **base}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shop", "annotations": asked},
        "spec": {"containers": members, "initContainers": [sidecar], **spec},
    }


def wishes(asked: dict[str, str]) -> Wishes:
    (pod,) = manifest.parse(json.dumps(document(asked))).pods
    return parse(pod)


def said(asked: dict[str, str], **spec: Any) -> list[str]:
    try:
        manifest.parse(json.dumps(document(asked, **spec)))
    except Invalid as exc:
        found = exc.facts["problems"]
        assert isinstance(found, list)
        assert all(isinstance(problem, Problem) for problem in found)
        return [f"{problem.path}: {problem.message}; {problem.remedy}" for problem in found]
    return []


@pytest.mark.parametrize(("text", "depends"), DEPENDS.values(), ids=list(DEPENDS))
def test_what_depends_on_says(text: str, depends: dict[str, dict[str, str]]) -> None:
    assert wishes({DEPENDS_ON: text}) == Wishes(depends=depends)  # type: ignore[arg-type]


def test_the_others() -> None:
    assert wishes({}) == Wishes()
    assert wishes({KEYSTONE: "job", START: "ordered"}) == Wishes(keystone="job", ordered=True)
    assert wishes({START: "synchronized"}) == Wishes()


BAD: dict[str, tuple[dict[str, str], str]] = {
    "no member": ({DEPENDS_ON: "web"}, '"web" is not member=other:condition'),
    "no condition": ({DEPENDS_ON: "web=db"}, '"db" is not other:condition; write member=other:condition'),
    "nobody": ({DEPENDS_ON: "web="}, '"" is not other:condition'),
    "JSON": ({DEPENDS_ON: '{"web": {"db": "ready"}}'}, "is not member=other:condition"),
    "condition": ({DEPENDS_ON: "web=db:healthy"}, '"healthy" is not a condition; one of started, ready, completed'),
    "twice": ({DEPENDS_ON: "web=db:ready,db:started"}, '"web" waits for "db" twice; keep one condition'),
    "stranger": (
        {DEPENDS_ON: "web=nosuch:ready"},
        'there is no member "nosuch"; the members are db, web, cache, report, job',
    ),
    "stranger that waits": ({DEPENDS_ON: "nosuch=db:ready"}, 'there is no member "nosuch"'),
    "sidecar": ({DEPENDS_ON: "web=proxy:ready"}, '"proxy" is an init container, and those come before every member'),
    "circle": (
        {DEPENDS_ON: "db=web:started; web=cache:ready; cache=db:ready; report=db:ready"},
        "goes in a circle, and none would ever start: ",
    ),
    "itself": ({DEPENDS_ON: "web=web:started"}, "goes in a circle, and none would ever start: web -> web; remove one"),
    "never completed": (
        {DEPENDS_ON: "web=db:completed"},
        '"db" is restarted whenever it ends, so "web" would wait for ever; give "db" the restartPolicy OnFailure',
    ),
    "against the order": (
        {DEPENDS_ON: "db=web:started", START: "ordered"},
        '"db" waits for "web", which podd.io/start starts after it; list "web" before "db"',
    ),
    "keystone that nobody is": ({KEYSTONE: "nosuch"}, 'there is no member "nosuch"'),
    "keystone that is restarted": ({KEYSTONE: "web"}, '"web" is restarted whenever it ends, so it would never end'),
    "start": ({START: "Ordered"}, '"Ordered" is not one of "ordered", "synchronized"'),
    "misspelt": ({"podd.io/depends_on": "x"}, "is no annotation of podd's; did you mean podd.io/depends-on?"),
    "unknown": (
        {"podd.io/zebra": "x"},
        "is no annotation of podd's; podd reads podd.io/depends-on, podd.io/keystone, podd.io/start",
    ),
}


@pytest.mark.parametrize(("asked", "message"), BAD.values(), ids=list(BAD))
def test_bad(asked: dict[str, str], message: str) -> None:
    (told,) = said(asked)
    path, _, rest = told.partition(": ")
    assert path in [f"metadata.annotations[{key}]" for key in asked]
    assert message in rest


def test_a_circle_is_named_in_the_order_of_waiting() -> None:
    (told,) = said({DEPENDS_ON: "db=web:started; web=cache:ready; cache=db:ready"})
    circle = told.partition("start: ")[2].partition(";")[0].split(" -> ")
    waits = {"db": "web", "web": "cache", "cache": "db"}
    assert len(circle) == 4
    assert all(waits[one] == other for one, other in pairwise(circle))


def test_where_the_pod_does_not_restart_all_can_complete() -> None:
    assert said({DEPENDS_ON: "web=db:completed", KEYSTONE: "web"}, restartPolicy="Never") == []


def test_annotations_of_others_are_let_be() -> None:
    assert said({"example.com/depends-on": "x", "podd": "x", "podd.io.example/x": "y"}) == []


NAMES = st.sampled_from(["db", "web", "cache", "report", "job", "proxy", "x"])
WORDS = NAMES | st.sampled_from(["=", ":", ",", ";", "\n", " ", "ready", "started", "completed"])


@given(st.lists(WORDS, max_size=12).map("".join))
def test_any_text_is_read_or_told(text: str) -> None:
    """And what is accepted can start: in some order each member comes after all that it waits for."""
    if said({DEPENDS_ON: text}):
        return
    depends = wishes({DEPENDS_ON: text}).depends
    begun: set[str] = set()
    for _ in range(5):
        begun |= {name for name in ("db", "web", "cache", "report", "job") if set(depends.get(name, {})) <= begun}
    assert len(begun) == 5
