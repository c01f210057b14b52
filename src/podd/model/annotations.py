"""What podd adds to Kubernetes' pods, as annotations, so that the same manifest still runs in a cluster.

    podd.io/depends-on: web=db:ready,cache:started; report=migrate:completed
    podd.io/keystone: web
    podd.io/start: ordered

depends-on is a list of `member=other:condition,...`, separated by ";" or by ends of lines; space does not count.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Literal, get_args

from podd.model.pod import Container, Pod, RestartPolicy
from podd.model.problem import Path, Rules
from podd.model.value import Value

Condition = Literal["started", "ready", "completed"]
"""started: its process runs, or has run. ready: as Kubernetes has it. completed: it has ended with exit code 0."""

Depends = Mapping[str, Mapping[str, Condition]]
"""By member, what it waits for."""

PREFIX = "podd.io/"
DEPENDS_ON = "podd.io/depends-on"
KEYSTONE = "podd.io/keystone"
START = "podd.io/start"
KNOWN = (DEPENDS_ON, KEYSTONE, START)

INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
"""Not podd's own, and yet more than words: how many bits a second come to a pod, and leave it."""

_FORM = "member=other:condition, as in web=db:ready,cache:started; report=migrate:completed"
_ENTRIES = re.compile(r"[;\n]")


class Wishes(Value):
    """keystone: the member whose end for good ends the pod. ordered: start members one by one, as they are listed."""

    depends: Depends = {}
    keystone: str | None = None
    ordered: bool = False


def says_how_it_is_run(key: str) -> bool:
    """Of an annotation: a pod that runs cannot take another value of it."""
    return key.startswith(PREFIX) or key in (INGRESS, EGRESS)


def parse(pod: Pod) -> Wishes:
    """Of a pod that was checked."""
    asked = pod.metadata.annotations
    depends = _read_depends(asked[DEPENDS_ON]) if DEPENDS_ON in asked else {}
    return Wishes(depends=depends, keystone=asked.get(KEYSTONE), ordered=asked.get(START) == "ordered")


def check(rules: Rules, pod: Pod) -> None:
    """Tell what is wrong with those of podd's own."""
    for key, value in pod.metadata.annotations.items():
        at: Path = ("metadata", "annotations", key)
        match key:
            case "podd.io/depends-on":
                _check_depends(rules, at, pod, value)
            case "podd.io/keystone":
                _check_keystone(rules, at, pod, value)
            case "podd.io/start":
                if value not in ("ordered", "synchronized"):
                    rules.error(at, f'"{value}" is not one of "ordered", "synchronized"')
            case _ if key.startswith(PREFIX):
                close = difflib.get_close_matches(key, KNOWN, 1, 0.8)
                remedy = f"did you mean {close[0]}?" if close else f"podd reads {', '.join(KNOWN)}"
                rules.error(at, "is no annotation of podd's", remedy)


# ---- depends-on ------------------------------------------------------------------------------------------------------


class _Unfit(ValueError):
    """args: what is wrong, and the remedy."""


@lru_cache(maxsize=256)  # the policy asks for it with each change of a pod
def _read_depends(text: str) -> Depends:
    """Raises _Unfit: it cannot be read."""
    depends: dict[str, dict[str, Condition]] = {}
    for entry in filter(None, map(str.strip, _ENTRIES.split(text))):
        member, equals, others = entry.partition("=")
        if not equals:
            raise _Unfit(f'"{entry}" is not {_FORM}', "")
        below = depends.setdefault(member.strip(), {})
        for other, condition in _read_others(others):
            if other in below:
                raise _Unfit(f'"{member.strip()}" waits for "{other}" twice', "keep one condition")
            below[other] = condition
    return depends


def _read_others(text: str) -> Iterator[tuple[str, Condition]]:
    for part in text.split(","):
        other, colon, asked = (word.strip() for word in part.partition(":"))
        found = [condition for condition in _conditions() if condition == asked]
        if not colon or not other:
            raise _Unfit(f'"{part.strip()}" is not other:condition', f"write {_FORM}")
        if not found:
            raise _Unfit(f'"{asked}" is not a condition', f"one of {', '.join(_conditions())}")
        yield other, found[0]


def _conditions() -> tuple[Condition, ...]:
    return get_args(Condition)


def _check_depends(rules: Rules, at: Path, pod: Pod, text: str) -> None:
    try:
        depends = _read_depends(text)
    except _Unfit as unfit:
        rules.error(at, *unfit.args)
        return
    names = [name for member, others in depends.items() for name in (member, *others)]
    strangers = [name for name in dict.fromkeys(names) if not _is_member(rules, at, pod, name)]
    if strangers:
        return
    for member, others in depends.items():
        for other, condition in others.items():
            _check_dependence(rules, at, pod, member, other, condition)
    circle = _circle(depends)
    if circle:
        rules.error(at, f"goes in a circle, and none would ever start: {' -> '.join(circle)}", "remove one")


def _check_dependence(rules: Rules, at: Path, pod: Pod, member: str, other: str, condition: Condition) -> None:
    order = [container.name for container in pod.spec.containers]
    if condition == "completed" and _policy(pod, other) == "Always":
        message = f'"{other}" is restarted whenever it ends, so "{member}" would wait for ever'
        rules.error(at, message, f'give "{other}" the restartPolicy OnFailure or Never')
    if pod.metadata.annotations.get(START) == "ordered" and order.index(other) > order.index(member):
        message = f'"{member}" waits for "{other}", which {START} starts after it'
        rules.error(at, message, f'list "{other}" before "{member}"')


def _circle(depends: Depends) -> list[str]:
    """Who waits for whom along one, first and last the same; [] if there is none."""
    try:
        TopologicalSorter(depends).prepare()
    except CycleError as exc:
        return list(reversed(exc.args[1]))
    return []


# ---- keystone --------------------------------------------------------------------------------------------------------


def _check_keystone(rules: Rules, at: Path, pod: Pod, name: str) -> None:
    if _is_member(rules, at, pod, name) and _policy(pod, name) == "Always":
        message = f'"{name}" is restarted whenever it ends, so it would never end the pod'
        rules.error(at, message, f'give "{name}" the restartPolicy OnFailure or Never')


def _is_member(rules: Rules, at: Path, pod: Pod, name: str) -> bool:
    names = [container.name for container in pod.spec.containers]
    if name in names:
        return True
    if any(container.name == name for container in pod.spec.init_containers):
        message = f'"{name}" is an init container, and those come before every member'
        remedy = "remove it here; a sidecar holds up the members until its startupProbe succeeds"
        rules.error(at, message, remedy, rests_on=("spec", "initContainers"))
    else:
        known = f"the members are {', '.join(names)}"
        rules.error(at, f'there is no member "{name}"', known, rests_on=("spec", "containers"))
    return False


def _policy(pod: Pod, name: str) -> RestartPolicy:
    member: Container = next(container for container in pod.spec.containers if container.name == name)
    return member.restart_policy or pod.spec.restart_policy
