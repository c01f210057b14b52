"""The rules of `podd.model.rules` on requests and limits, of one container and of the pod."""

from __future__ import annotations

from fractions import Fraction

from podd.model import quantity, totals
from podd.model.fields import RESOURCES, Treatment
from podd.model.pod import MAX_PIDS, PIDS, PodSpec, ResourceRequirements
from podd.model.problem import Path, Rules
from podd.model.shapes import amount

HUGE_PAGES = "hugepages-<size>"


def check(rules: Rules, at: Path, resources: ResourceRequirements) -> None:
    limits = {name: _resource(rules, (*at, "limits", name), name, text) for name, text in resources.limits.items()}
    for name, text in resources.requests.items():
        requested = _resource(rules, (*at, "requests", name), name, text)
        limit = limits.get(name)
        if requested is not None and limit is not None and requested > limit:
            rules.error((*at, "requests", name), f"{text} is more than the limit of {resources.limits[name]}")


def _resource(rules: Rules, at: Path, name: str, text: str) -> Fraction | None:
    row = RESOURCES.get(HUGE_PAGES if name.startswith("hugepages-") else name)
    if row is None:
        known = ", ".join(known for known, row in RESOURCES.items() if row.treatment is Treatment.HONOURED)
        rules.unsupported(at, "podd does not know this resource", f"it counts {known}")
        return None
    if row.treatment is Treatment.REFUSED and "limits" in at:
        rules.unsupported(at, row.note, row.remedy)
    elif row.treatment is Treatment.REFUSED:
        rules.warning(at, f"has no effect: {row.note}")
    found = amount(rules, at, text)
    if found is None:
        return None
    if name == PIDS and not 1 <= found <= MAX_PIDS:
        rules.error(at, f"{text} is not between 1 and {MAX_PIDS}")
    elif name != "cpu" and found.denominator != 1:
        _fraction(rules, at, text)
    return found


def _fraction(rules: Rules, at: Path, text: str) -> None:
    """Of what is counted in whole units. 400m of memory is less than a byte, and was meant to be 400M."""
    if text.endswith("m"):
        rules.error(at, f"{text} is {text[:-1]} thousandths", f"did you mean {text[:-1]}M or {text[:-1]}Mi?")
    else:
        rules.warning(at, f"{text} is not a whole number, and is rounded up to {quantity.whole(text)}")


def check_pod(rules: Rules, at: Path, spec: PodSpec) -> None:
    """No container may have more than the pod; all together may not request more than it."""
    own = spec.resources
    exceeded = set()
    for where, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for number, container in enumerate(containers):
            for name, text in container.resources.limits.items():
                if name in own.limits and _is_more(text, own.limits[name]):
                    path = ("spec", where, number, "resources", "limits", name)
                    rules.error(path, f"{text} is more than the pod's limit of {own.limits[name]}")
                    exceeded.add(name)
    for name in sorted(_needed_beyond(spec) - exceeded):
        part, asked = ("requests", own.requests) if name in own.requests else ("limits", own.limits)
        rules.error((*at, part, name), f"{asked[name]} is less than what the containers request together")


def _needed_beyond(spec: PodSpec) -> set[str]:
    """The resources of which the containers request more than the pod."""
    try:
        together = totals.total(spec, totals.requests)
        of_pod = totals.requests(spec.resources)
    except ValueError:  # told where it stands
        return set()
    return {name for name, needed in together.items() if name in of_pod and needed > of_pod[name]}


def _is_more(text: str, limit: str) -> bool:
    try:
        return quantity.parse(text) > quantity.parse(limit)
    except ValueError:  # told where it stands
        return False
