"""What differs between two manifests of a pod, and what each difference asks for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from podd.core.difference import Change, amended, differences, verdict
from podd.model import manifest
from podd.model.pod import Container, ContainerPort, ObjectMeta, Pod, PodSpec, ResourceRequirements
from podd.model.suggest import present


def pod(spec: str = "", member: str = "", meta: str = "", more: str = "") -> Pod:
    """One container "a"; each part is YAML in flow style."""
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: web{meta and ", "}{meta}}}
spec:
  {{containers: [{{name: a, image: "rootfs:/", command: [run]{member and ", "}{member}}}{more}]{spec and ", "}{spec}}}
"""
    return manifest.parse(text).pods[0]


def of(old: Pod, new: Pod, **how: bool) -> list[tuple[str, object, object, str]]:
    """The values as a reader of JSON sees them."""
    plain = msgspec.json.decode(
        msgspec.json.encode([(c.path, c.old, c.new, c.means) for c in differences(old, new, **how)])
    )
    return [tuple(each) for each in plain]


B = ', {name: b, image: "rootfs:/", command: [run]}'
C = ', {name: c, image: "rootfs:/", command: [run]}'
CPU = "spec.containers[0].resources.limits.cpu"
PORT = "spec.containers[0].ports[0]"
PROBED = "readinessProbe: {tcpSocket: {port: web}}"

DIFFERENT: dict[str, tuple[Pod, Pod, list[tuple[str, object, object, str]], str]] = {
    "a label": (
        pod(meta="labels: {app: web}"),
        pod(meta="labels: {app: db, tier: back}"),
        [("metadata.labels.app", "web", "db", "metadata"), ("metadata.labels.tier", None, "back", "metadata")],
        "amended",
    ),
    "an empty label": (
        pod(),
        pod(meta='labels: {app: ""}'),
        [("metadata.labels.app", None, "", "metadata")],
        "amended",
    ),
    "an annotation": (
        pod(meta="annotations: {note: a}"),
        pod(),
        [("metadata.annotations.note", "a", None, "metadata")],
        "amended",
    ),
    "an annotation of podd's own": (
        pod(),
        pod(meta="annotations: {podd.io/start: ordered}"),
        [("metadata.annotations[podd.io/start]", None, "ordered", "recreate")],
        "recreated",
    ),
    "a bandwidth": (
        pod(),
        pod(meta="annotations: {kubernetes.io/ingress-bandwidth: 1M}"),
        [("metadata.annotations[kubernetes.io/ingress-bandwidth]", None, "1M", "recreate")],
        "recreated",
    ),
    "a port of the host": (
        pod(member="ports: [{containerPort: 80, hostPort: 80}]"),
        pod(member="ports: [{containerPort: 80, hostPort: 81, hostIP: 10.0.0.1}]"),
        [(f"{PORT}.hostPort", 80, 81, "publish"), (f"{PORT}.hostIP", None, "10.0.0.1", "publish")],
        "published",
    ),
    "where it leads": (
        pod(member="ports: [{containerPort: 80, hostPort: 80}]"),
        pod(member="ports: [{containerPort: 81, hostPort: 80}]"),
        [(f"{PORT}.containerPort", 80, 81, "publish")],
        "published",
    ),
    "one more, and a limit": (
        pod(member='resources: {limits: {cpu: "1"}}'),
        pod(member='resources: {limits: {cpu: "2"}}, ports: [{containerPort: 80, hostPort: 80}]'),
        [
            (PORT, None, {"containerPort": 80, "hostPort": 80}, "publish"),
            (CPU, "1", "2", "resize"),
        ],
        "resized",
    ),
    "a port that is only named": (
        pod(),
        pod(member="ports: [{containerPort: 80}]"),
        [(PORT, None, {"containerPort": 80}, "metadata")],
        "amended",
    ),
    "a port with the host's network": (
        pod(spec="hostNetwork: true"),
        pod(spec="hostNetwork: true", member="ports: [{containerPort: 80, hostPort: 80}]"),
        [(PORT, None, {"containerPort": 80, "hostPort": 80}, "metadata")],
        "amended",
    ),
    "a port that a probe knows by name": (
        pod(member=f"ports: [{{containerPort: 80, hostPort: 80, name: web}}], {PROBED}"),
        pod(member=f"ports: [{{containerPort: 81, hostPort: 81, name: web}}], {PROBED}"),
        [(f"{PORT}.containerPort", 80, 81, "recreate"), (f"{PORT}.hostPort", 80, 81, "publish")],
        "recreated",
    ),
    "DNS": (
        pod(spec="dnsPolicy: Default"),
        pod(spec="dnsPolicy: None, dnsConfig: {nameservers: [10.0.0.1]}"),
        [
            ("spec.dnsPolicy", None, "None", "recreate"),
            ("spec.dnsConfig", None, {"nameservers": ["10.0.0.1"]}, "recreate"),
        ],
        "recreated",
    ),
    "a limit": (
        pod(member='resources: {limits: {cpu: "1"}}'),
        pod(member='resources: {limits: {cpu: "2"}}'),
        [(CPU, "1", "2", "resize")],
        "resized",
    ),
    "a limit of the pod": (
        pod(spec='resources: {limits: {cpu: "1"}}'),
        pod(spec='resources: {limits: {cpu: "2"}}'),
        [("spec.resources.limits.cpu", "1", "2", "resize")],
        "resized",
    ),
    "a request, which was the limit": (
        pod(member='resources: {limits: {cpu: "2"}}'),
        pod(member='resources: {limits: {cpu: "2"}, requests: {cpu: "1"}}'),
        [("spec.containers[0].resources.requests.cpu", "2", "1", "resize")],
        "resized",
    ),
    "processes": (
        pod(member="resources: {limits: {podd.io/pids: 10}}"),
        pod(member="resources: {limits: {podd.io/pids: 20}}"),
        [("spec.containers[0].resources.limits[podd.io/pids]", "10", "20", "recreate")],
        "recreated",
    ),
    "a limit and a label": (
        pod(member='resources: {limits: {cpu: "1"}}'),
        pod(member='resources: {limits: {cpu: "2"}}', meta="labels: {a: b}"),
        [("metadata.labels.a", None, "b", "metadata"), (CPU, "1", "2", "resize")],
        "resized",
    ),
    "a command": (
        pod(),
        pod(member="args: [x]"),
        [("spec.containers[0].args", None, ["x"], "recreate")],
        "recreated",
    ),
    "one container more, in front of another": (
        pod(more=C),
        pod(more=B + C),
        [("spec.containers[1]", None, {"name": "b", "image": "rootfs:/", "command": ["run"]}, "recreate")],
        "recreated",
    ),
    "one container less": (
        pod(more=B + C),
        pod(more=C),
        [("spec.containers[1]", {"name": "b", "image": "rootfs:/", "command": ["run"]}, None, "recreate")],
        "recreated",
    ),
    "another order": (
        pod(more=B + C),
        pod(more=C + B),
        [("spec.containers", ["a", "b", "c"], ["a", "c", "b"], "recreate")],
        "recreated",
    ),
    "a variable, at another place": (
        pod(member="env: [{name: A, value: u}, {name: B, value: v}]"),
        pod(member="env: [{name: B, value: w}]"),
        [
            ("spec.containers[0].env[0]", {"name": "A", "value": "u"}, None, "recreate"),
            ("spec.containers[0].env[0].value", "v", "w", "recreate"),
        ],
        "recreated",
    ),
    "one volume at two places": (
        pod(member="volumeMounts: [{name: v, mountPath: /a}]", spec="volumes: [{name: v, emptyDir: {}}]"),
        pod(
            member="volumeMounts: [{name: v, mountPath: /b}, {name: v, mountPath: /a, readOnly: true}]",
            spec="volumes: [{name: v, emptyDir: {}}]",
        ),
        [
            ("spec.containers[0].volumeMounts[0]", None, {"name": "v", "mountPath": "/b"}, "recreate"),
            ("spec.containers[0].volumeMounts[1].readOnly", False, True, "recreate"),
        ],
        "recreated",
    ),
    "a volume of another kind": (
        pod(spec="volumes: [{name: v, emptyDir: {}}]"),
        pod(spec="volumes: [{name: v, hostPath: {path: /x}}]"),
        [
            ("spec.volumes[0].emptyDir", {}, None, "recreate"),
            ("spec.volumes[0].hostPath", None, {"path": "/x"}, "recreate"),
        ],
        "recreated",
    ),
    "a user": (
        pod(),
        pod(member="securityContext: {runAsUser: 0}"),
        [("spec.containers[0].securityContext.runAsUser", None, 0, "recreate")],
        "recreated",
    ),
}


@pytest.mark.parametrize(("old", "new", "found", "what"), DIFFERENT.values(), ids=DIFFERENT)
def test_each_difference_is_found_and_classed(
    old: Pod, new: Pod, found: list[tuple[str, object, object, str]], what: str
) -> None:
    assert of(old, new) == found
    assert verdict(differences(old, new)) == what


SAME: dict[str, tuple[Pod, Pod]] = {
    "names for the host's DNS": (pod(spec="dnsPolicy: Default"), pod(spec="dnsPolicy: ClusterFirst, dnsConfig: {}")),
    "names that are not asked for": (pod(), pod(spec="setHostnameAsFQDN: false, subdomain: '', hostAliases: []")),
    "defaults of the pod": (
        pod(),
        pod(spec="restartPolicy: Always, terminationGracePeriodSeconds: 30, hostNetwork: false, os: {name: linux}"),
    ),
    "an empty security context": (pod(), pod(spec="securityContext: {}", member="securityContext: {}")),
    "defaults of the pod's security context": (
        pod(),
        pod(
            spec="securityContext: {runAsNonRoot: false, fsGroupChangePolicy: Always,"
            " seccompProfile: {type: RuntimeDefault}}"
        ),
    ),
    "defaults of a container's security context": (
        pod(),
        pod(
            member="securityContext: {privileged: false, allowPrivilegeEscalation: true, capabilities: {},"
            " readOnlyRootFilesystem: false, procMount: Default}"
        ),
    ),
    "the pull policy of an image without a tag": (pod(), pod(member="imagePullPolicy: Always")),
    "resize policies that say what is so anyway": (
        pod(),
        pod(member="resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]"),
    ),
    "one core": (
        pod(member='resources: {limits: {cpu: "1"}}'),
        pod(member='resources: {limits: {cpu: "1000m"}}'),
    ),
    "a request as high as the limit": (
        pod(member='resources: {limits: {cpu: "1"}}'),
        pod(member='resources: {limits: {cpu: "1"}, requests: {cpu: "1000m"}}'),
    ),
    "defaults of a mount": (
        pod(member="volumeMounts: [{name: v, mountPath: /a}]", spec="volumes: [{name: v, emptyDir: {}}]"),
        pod(
            member="volumeMounts: [{name: v, mountPath: /a, readOnly: false, mountPropagation: None}]",
            spec='volumes: [{name: v, emptyDir: {medium: ""}}]',
        ),
    ),
    "defaults of a probe": (
        pod(member="livenessProbe: {httpGet: {port: 80}}"),
        pod(member="livenessProbe: {httpGet: {port: 80, path: /, scheme: HTTP}, periodSeconds: 10}"),
    ),
}


@pytest.mark.parametrize(("old", "new"), SAME.values(), ids=SAME)
def test_two_ways_to_write_the_same_are_no_difference(old: Pod, new: Pod) -> None:
    assert of(old, new) == []
    assert of(new, old) == []
    assert verdict(()) == "unchanged"


def test_a_container_that_is_not_to_run_as_root_differs_from_one_that_leaves_it_to_the_pod() -> None:
    old = pod(member="securityContext: {runAsUser: 5}")
    new = pod(member="securityContext: {runAsUser: 5, runAsNonRoot: false}")
    assert verdict(differences(old, new)) == "recreated"


def test_what_podd_sets_is_no_difference() -> None:
    asked = pod()
    meta = msgspec.structs.replace(asked.metadata, uid="0e5a", creation_timestamp="2026-01-01T00:00:00Z")
    assert of(msgspec.structs.replace(asked, metadata=meta), asked) == []


def test_the_name_of_a_driver_counts_where_it_is_another_driver() -> None:
    old, new = pod(), pod(spec="runtimeClassName: setns")
    assert of(old, new, same_driver=True) == []
    assert of(old, new, same_driver=False) == [("spec.runtimeClassName", None, "setns", "recreate")]


def test_a_running_pod_takes_what_it_can_and_nothing_else() -> None:
    there = pod(member='resources: {limits: {cpu: "1"}}', more=B, meta="annotations: {x: u}")
    asked = pod(member='resources: {limits: {cpu: "2"}}, imagePullPolicy: Always', more=B, meta="labels: {a: b}")
    after = amended(there, asked)
    assert differences(after, asked) == ()
    assert after.spec.containers[0].image_pull_policy is None
    assert after.spec.containers[1] == there.spec.containers[1]


# ---- what a resize cannot do


def only(old: Pod, new: Pod, **how: bool) -> Change:
    (change,) = differences(old, new, **how)
    return change


def test_a_class_of_service_is_for_life() -> None:
    change = only(pod(), pod(member='resources: {limits: {cpu: "1"}}'))
    assert (change.means, change.note) == ("recreate", "makes the pod Burstable, which is BestEffort")


def test_a_driver_that_cannot_publish() -> None:
    old, new = (pod(member=f"ports: [{{containerPort: 80, hostPort: {port}}}]") for port in (80, 81))
    change = only(old, new, can_publish=False)
    assert change.means == "recreate"
    assert change.note == "the driver cannot lead other ports of the host to what runs"


def test_a_driver_that_cannot_resize() -> None:
    old, new = pod(member='resources: {limits: {cpu: "1"}}'), pod(member='resources: {limits: {cpu: "2"}}')
    change = only(old, new, can_resize=False)
    assert (change.means, change.note) == ("recreate", "the driver cannot change limits of what runs")


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("200M", "100M", "less memory: refused where more is in use"),
        ("100M", "200M", ""),
        ("1G", "1000M", None),
    ],
)
def test_less_memory_is_told(old: str, new: str, note: str | None) -> None:
    before, after = (pod(member=f"resources: {{limits: {{memory: {each}}}}}") for each in (old, new))
    assert [c.note for c in differences(before, after)] == ([] if note is None else [note])


def test_a_container_that_must_be_restarted_is_told() -> None:
    policy = "resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]"
    old, new = (pod(member=f"{policy}, resources: {{limits: {{memory: {n}M}}}}") for n in (100, 200))
    assert (only(old, new).means, only(old, new).note) == (
        "resize",
        "container a is restarted: its resizePolicy says so",
    )


def test_init_containers_that_are_no_sidecars_have_run() -> None:
    def init(cpu: str, more: str = "") -> Pod:
        return pod(
            spec=f'initContainers: [{{name: i, image: "rootfs:/", command: [x]{more}, '
            f"resources: {{limits: {{cpu: {cpu}}}}}}}]"
        )

    assert only(init("'1'"), init("'2'")).means == "recreate"
    sidecar = ", restartPolicy: Always"
    assert only(init("'1'", sidecar), init("'2'", sidecar)).means == "resize"


# ---- of all pods there can be


def value_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    kind = present(kind)
    match kind:
        case inspect.Metadata(type=plain):
            return value_of(plain)
        case inspect.StructType():
            return struct_of(kind.cls)
        case inspect.VarTupleType(item_type=item):
            return st.lists(value_of(item), max_size=2).map(tuple)
        case inspect.DictType():
            return st.dictionaries(st.sampled_from(["cpu", "memory", "x"]), st.sampled_from(["1", "2"]), max_size=2)
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.BoolType():
            return st.booleans()
        case inspect.Metadata(type=inspect.IntType()) | inspect.IntType():
            return st.integers(0, 3)
        case _:
            return st.sampled_from(["1", "2", "3"])  # also as a quantity


def struct_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """The required fields, and some of the others."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    needed = {f.name: value_of(f.type) for f in info.fields if f.required}
    rest = {f.name: st.deferred(lambda f=f: value_of(f.type)) for f in info.fields if not f.required}  # type: ignore[misc]
    return st.fixed_dictionaries(needed, optional=rest).map(lambda given: cls(**given))


PODS = st.builds(lambda spec: Pod(metadata=ObjectMeta(name="web"), spec=spec), struct_of(PodSpec))


@settings(max_examples=40, deadline=None)
@given(PODS)
def test_nothing_differs_from_itself(one: Pod) -> None:
    again = msgspec.convert(msgspec.to_builtins(one), Pod)
    assert differences(one, again) == ()


@settings(max_examples=40, deadline=None)
@given(PODS, PODS)
def test_every_difference_is_seen_from_both_sides(one: Pod, other: Pod) -> None:
    there, back = differences(one, other), differences(other, one)
    assert bool(there) == bool(back)
    for change in there:
        assert change.path
        assert change.old != change.new


AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "memory"]), st.sampled_from(["2", "2000m", "3"]))
RESOURCES = st.builds(ResourceRequirements, limits=AMOUNTS, requests=st.just({"cpu": "1"}))
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"))
PORTS = st.lists(
    st.builds(ContainerPort, container_port=st.integers(1, 3), host_port=st.none() | st.integers(1, 3)), max_size=2
).map(tuple)


@settings(max_examples=40, deadline=None)
@given(
    struct_of(Container),
    st.lists(RESOURCES, min_size=6, max_size=6),
    st.lists(LABELS, min_size=4, max_size=4),
    st.lists(PORTS, min_size=2, max_size=2),
)
def test_what_can_be_taken_in_place_is_taken_whole(
    member: Container,
    resources: list[ResourceRequirements],
    labels: list[dict[str, str]],
    ports: list[tuple[ContainerPort, ...]],
) -> None:
    """Labels, annotations, ports and limits of two containers and a sidecar: another pod is needed for its QoS class,
    and for ports whose names are in use."""
    replace = msgspec.structs.replace

    def made(
        resources: list[ResourceRequirements], labels: list[dict[str, str]], ports: tuple[ContainerPort, ...]
    ) -> Pod:
        a, b, c = (replace(member, name=name, resources=each) for name, each in zip("abc", resources, strict=True))
        a = replace(a, ports=ports)
        spec = PodSpec(containers=(a, b), init_containers=(replace(c, restart_policy="Always"),))
        return Pod(metadata=ObjectMeta(name="web", labels=labels[0], annotations=labels[1]), spec=spec)

    there, asked = made(resources[:3], labels[:2], ports[0]), made(resources[3:], labels[2:], ports[1])
    found = differences(there, asked)
    event(verdict(found))
    needed = ("makes the pod ", "a probe or hook uses the name")
    assert all(change.note.startswith(needed) for change in found if change.means == "recreate")
    if verdict(found) != "recreated":
        assert differences(amended(there, asked), asked) == ()
