"""podd-cli describe: all about a pod on one page, laid out as kubectl's."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from podd.cli import durations, manifest_words
from podd.cli.connect import batches, connect
from podd.cli.layout import LABEL_COLUMNS, NONE, block, fields, indented
from podd.cli.status import Json, addresses, all_statuses, podd_status, status
from podd.cli.text import Table, clean, complain
from podd.cli.words import add_namespace_options, listed_namespace, object_names, pod_names
from podd.errors import PoddError


def arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} pods | pod NAME ... | pod/NAME ... [options]"
    parser.add_argument("words", nargs="+", metavar="pods", help="all of a namespace, or those that are named")
    add_namespace_options(parser)


def run(options: Namespace) -> int:
    if about := object_names(options.words):
        from podd.cli import objects

        return objects.describe(options, *about)
    result = 0
    names = pod_names(options.words)
    with connect(options) as podd:
        if names:
            chosen = [(name, options.namespace) for name in names]
        else:
            pods = podd.call("List", {"namespace": listed_namespace(options)})["pods"]
            chosen = [(pod["metadata"]["name"], pod["metadata"]["namespace"]) for pod in pods]
        for number, (name, namespace) in enumerate(chosen):
            try:
                pod = podd.call("Get", {"name": name, "namespace": namespace})["pod"]
                events = [
                    e for batch in batches(podd, "Events", {"name": pod["metadata"]["uid"]}, "events") for e in batch
                ]
            except PoddError as refusal:
                result = complain(str(refusal))
                continue
            print("\n\n" if number else "", end="")
            print("\n".join(page(pod, events, datetime.now(UTC))))
    return result


def page(pod: Json, events: Sequence[Json], now: datetime) -> Iterator[str]:
    yield from _head(pod)
    added = pod.get("status", {}).get("ephemeralContainerStatuses", ())
    yield from _containers("Init Containers", pod["spec"].get("initContainers", ()), pod)
    yield from _containers("Containers", pod["spec"]["containers"], pod)
    yield from _containers("Ephemeral Containers", [{"name": c["name"], "image": c["image"]} for c in added], pod)
    yield from _conditions(pod)
    yield from _volumes(pod)
    yield from _events(events, now)


def _head(pod: Json) -> Iterator[str]:
    meta, spec, state, ours = pod["metadata"], pod["spec"], pod.get("status", {}), podd_status(pod)
    yield from fields(
        {
            "Name": meta["name"],
            "Namespace": meta.get("namespace", "default"),
            "UID": meta.get("uid"),
            "Driver": ours.get("driver"),
            "Sandbox": _sandbox(ours),
            "Cgroup": ours.get("cgroup"),
            "Created": durations.rfc1123(meta.get("creationTimestamp")),
            "Start Time": durations.rfc1123(state["startTime"]) if state.get("startTime") else None,
            "Labels": meta.get("labels", {}),
            "Annotations": meta.get("annotations", {}),
            "Status": status(pod),
        }
    )
    why = {"Phase": state.get("phase"), "Reason": state.get("reason"), "Message": state.get("message")}
    optional = {"Manifest": ours.get("source"), **why}
    yield from fields({name: value for name, value in optional.items() if value})
    yield from fields(
        {
            "IP": ", ".join(addresses(pod)),
            "Shares": _shares(spec),
            "Restart Policy": spec.get("restartPolicy", "Always"),
            "Grace Period": f"{spec.get('terminationGracePeriodSeconds', 30)}s",
            "QoS Class": state.get("qosClass", "BestEffort"),
            "Last Start": _last_start(pod),
        }
    )


def _sandbox(ours: Json) -> str | None:
    if not ours.get("sandboxId"):
        return None
    restarts = ours.get("restarts", 0)
    again = f", replaced {'once' if restarts == 1 else f'{restarts} times'}" if restarts else ""
    return f"{ours['sandboxId']} ({ours.get('sandboxState', 'unknown')}{again})"


def _shares(spec: Json) -> str:
    """Which namespaces the members have in common, and with whom."""
    pid = "host" if spec.get("hostPID") else "pod" if spec.get("shareProcessNamespace") else "no one"
    net, ipc = ("host" if spec.get(key) else "pod" for key in ("hostNetwork", "hostIPC"))
    return f"net: {net}, ipc: {ipc}, uts: {net}, pid: {pid}"


def _last_start(pod: Json) -> str | None:
    ours = podd_status(pod)
    skew_us, took_us = ours.get("startSkewUs"), ours.get("startTookUs")
    if skew_us is None:
        return None
    took = "" if took_us is None else f", {took_us / 1000:.1f} ms after the decision"
    count = len(pod["spec"]["containers"])
    members = "1 container" if count == 1 else f"{count} containers"
    return f"{members} released within {skew_us / 1000:.3f} ms{took}"


# ---- containers ------------------------------------------------------------------------------------------------------


def _containers(title: str, specs: Sequence[Json], pod: Json) -> Iterator[str]:
    """Nothing where there are none."""
    statuses = {c["name"]: c for c in all_statuses(pod)}
    if specs:
        yield f"{title}:"
    for spec in specs:
        yield f"  {clean(spec['name'])}:"
        yield from indented(4, _container(spec, statuses.get(spec["name"], {})))


def _container(spec: Json, now: Json) -> Iterator[str]:
    yield from fields({"Container ID": now.get("containerID"), "Image": spec.get("image")})
    if now.get("imageID"):
        yield from fields({"Image ID": now["imageID"]})
    if now.get("pid"):
        yield from fields({"PID": str(now["pid"])})
    for title, key in (("Command", "command"), ("Args", "args")):
        if spec.get(key):
            yield f"{title}:"
            yield from (f"  {clean(line)}" for word in spec[key] for line in word.rstrip("\n").split("\n"))
    yield from _state("State", now.get("state", {}))
    if now.get("lastState"):
        yield from _state("Last State", now["lastState"])
    yield from fields({"Ready": str(bool(now.get("ready"))), "Restart Count": str(now.get("restartCount", 0))})
    for title in ("limits", "requests"):
        if amounts := spec.get("resources", {}).get(title):
            yield f"{title.capitalize()}:"
            yield from indented(2, fields({name: str(amount) for name, amount in amounts.items()}, columns=0))
    if spec.get("ports"):
        yield from fields({"Ports": ", ".join(map(manifest_words.port, spec["ports"]))})
    yield from fields(manifest_words.probes(spec))
    sources = manifest_words.env_from(spec)
    if sources:
        yield from block("Environment Variables from", sources)
    environment = {variable["name"]: manifest_words.value(variable) for variable in spec.get("env", ())}
    yield from block("Environment", list(fields(environment, columns=0, none="")))
    yield from block("Mounts", [_mount(mount) for mount in spec.get("volumeMounts", ())])


def _mount(mount: Json) -> str:
    mode = "ro" if mount.get("readOnly") else "rw"
    part = mount.get("subPath") or mount.get("subPathExpr")
    path = f', path="{clean(part)}"' if part else ""
    return f"{clean(mount['mountPath'])} from {mount['name']} ({mode}{path})"


def _state(title: str, state: Json) -> Iterator[str]:
    """A container's state and what belongs to it, indented below."""
    kind = next((name for name in ("waiting", "running", "terminated") if state.get(name) is not None), None)
    yield from fields({title: (kind or "unknown").capitalize()})
    facts: Json = state.get(kind, {}) if kind else {}
    shown = {
        "Reason": facts.get("reason"),
        "Message": facts.get("message"),
        "Exit Code": str(facts["exitCode"]) if "exitCode" in facts else None,
        "Signal": str(facts["signal"]) if facts.get("signal") else None,
        "Started": durations.rfc1123(facts["startedAt"]) if facts.get("startedAt") else None,
        "Finished": durations.rfc1123(facts["finishedAt"]) if facts.get("finishedAt") else None,
    }
    yield from indented(2, fields({name: value for name, value in shown.items() if value}, columns=LABEL_COLUMNS - 2))


# ---- the rest of the page --------------------------------------------------------------------------------------------


def _conditions(pod: Json) -> Iterator[str]:
    conditions = pod.get("status", {}).get("conditions", ())
    if not conditions:
        return
    table = Table(("Type", "Status", "Reason"))
    for condition in conditions:
        table.add(condition["type"], condition["status"], condition.get("reason", ""))
    yield "Conditions:"
    yield from indented(2, table.lines())


def _volumes(pod: Json) -> Iterator[str]:
    volumes = pod["spec"].get("volumes", ())
    yield "Volumes:" + ("" if volumes else f"  {NONE}")
    for volume in volumes:
        yield f"  {clean(volume['name'])}:"
        yield from indented(4, fields(manifest_words.volume(volume)))


def _events(events: Sequence[Json], now: datetime) -> Iterator[str]:
    if not events:
        yield f"Events:  {NONE}"
        return
    yield "Events:"
    table = Table(("Type", "Reason", "Age", "Container", "Message"), wrap=True)
    table.add("----", "------", "---", "---------", "-------")
    for event in events:
        again = f" (x{event['count']})" if event.get("count", 1) > 1 else ""
        when = durations.age(event["time"], now) + again
        table.add(event["type"], event["reason"], when, event.get("container", ""), event["message"])
    yield from indented(2, table.lines())
