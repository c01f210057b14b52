"""A pod that needs what its driver lacks is refused, with the field and who could do it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from podd.core import needs
from podd.driver.contract import Capabilities
from podd.errors import Unsupported
from podd.model.annotations import EGRESS, INGRESS
from podd.model.pod import (
    ContainerPort,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    Probe,
    SecurityContext,
    SleepAction,
    TCPSocketAction,
    VolumeMount,
)
from world import make_container, make_pod

PLAIN = Capabilities(held_start=True, shared_uts=True, pid_pod=False, pid_node=False, rootfs_directory=True)
FULL = Capabilities(held_start=True, shared_uts=True, pid_pod=True, pid_node=True, rootfs_directory=True, images=True)
MAPPED = (ContainerPort(container_port=1), ContainerPort(container_port=2, host_port=2))
SIDECAR = make_container("s", ports=MAPPED, restart_policy="Always")


@pytest.mark.parametrize(
    ("spec", "field", "capability"),
    [
        ({"share_process_namespace": True}, "spec.shareProcessNamespace", "pid-pod"),
        ({"host_pid": True}, "spec.hostPID", "pid-node"),
    ],
)
def test_what_is_lacking_is_named_with_who_has_it(spec: dict[str, bool], field: str, capability: str) -> None:
    pod = make_pod("a", **spec)
    message = f"{field}: needs capability {capability}; driver plain lacks it; full has it: set spec.runtimeClassName"
    with pytest.raises(Unsupported) as refused:
        needs.check(pod, "plain", {"plain": PLAIN, "full": FULL})
    assert str(refused.value) == message
    needs.check(pod, "full", {"plain": PLAIN, "full": FULL})


def test_an_image_reference_needs_a_driver_with_images() -> None:
    pod = make_pod("a", "b")
    b = replace(pod.spec.containers[1], image="nginx")
    pod = replace(pod, spec=replace(pod.spec, containers=(pod.spec.containers[0], b)))
    with pytest.raises(Unsupported, match=r"spec.containers\[1\].image: needs capability images; .* no driver here"):
        needs.check(pod, "plain", {"plain": PLAIN})


def test_an_init_container_needs_its_image_as_well() -> None:
    pod = make_pod("a")
    (a,) = pod.spec.containers
    pod = replace(pod, spec=replace(pod.spec, init_containers=(replace(a, name="setup", image="nginx"),)))
    with pytest.raises(Unsupported, match=r"spec.initContainers\[0\].image: needs capability images"):
        needs.check(pod, "plain", {"plain": PLAIN})


@pytest.mark.parametrize(
    ("handler", "field", "capability"),
    [
        ({"readiness_probe": Probe(exec=ExecAction(command=("true",)))}, "readinessProbe.exec", "exec"),
        ({"liveness_probe": Probe(http_get=HTTPGetAction(port=80))}, "livenessProbe.httpGet", "connect"),
        ({"startup_probe": Probe(tcp_socket=TCPSocketAction(port=80))}, "startupProbe.tcpSocket", "connect"),
        ({"startup_probe": Probe(grpc=GRPCAction(port=80))}, "startupProbe.grpc", "connect"),
        (
            {"lifecycle": Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=("true",))))},
            "lifecycle.preStop.exec",
            "exec",
        ),
        (
            {"lifecycle": Lifecycle(post_start=LifecycleHandler(http_get=HTTPGetAction(port=80)))},
            "lifecycle.postStart.httpGet",
            "connect",
        ),
    ],
)
def test_what_reaches_into_a_container_needs_a_driver_that_can(
    handler: dict[str, Probe | Lifecycle], field: str, capability: str
) -> None:
    pod = make_pod("a", "b")
    member = replace(pod.spec.containers[1], **handler)
    regular = replace(pod, spec=replace(pod.spec, containers=(pod.spec.containers[0], member)))
    sidecar = replace(
        pod, spec=replace(pod.spec, init_containers=(replace(member, name="i", restart_policy="Always"),))
    )
    able = replace(FULL, exec=True, connect=True)
    for probed, at in ((regular, "containers[1]"), (sidecar, "initContainers[0]")):
        with pytest.raises(Unsupported) as refused:
            needs.check(probed, "full", {"full": FULL, "able": able})
        expected = f"spec.{at}.{field}: needs capability {capability}; driver full lacks it"
        assert str(refused.value) == f"{expected}; able has it: set spec.runtimeClassName"
        needs.check(probed, "able", {"able": able})


def test_a_hook_that_sleeps_needs_nothing() -> None:
    pod = make_pod("a")
    sleeps = replace(
        pod.spec.containers[0], lifecycle=Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=1)))
    )
    needs.check(replace(pod, spec=replace(pod.spec, containers=(sleeps,))), "plain", {"plain": PLAIN})


def test_a_plain_pod_needs_nothing_special() -> None:
    needs.check(make_pod(), "plain", {"plain": PLAIN})


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        (make_pod("a", make_container("b", ports=MAPPED)), "spec.containers[1].ports[1].hostPort"),
        (make_pod("a", init_containers=(SIDECAR,)), "spec.initContainers[0].ports[1].hostPort"),
        (make_pod("a", annotations=dict.fromkeys([INGRESS], "1M")), f"metadata.annotations[{INGRESS}]"),
        (make_pod("a", annotations=dict.fromkeys([EGRESS], "1M")), f"metadata.annotations[{EGRESS}]"),
    ],
)
def test_what_is_led_to_a_pod_or_limited_needs_a_network(pod: Pod, field: str) -> None:
    with pytest.raises(Unsupported) as refused:
        needs.check(pod, "full", {"full": FULL})
    assert str(refused.value) == f"{field}: needs capability network; driver full lacks it; no driver here has it"
    needs.check(pod, "able", {"able": replace(FULL, network=True)})
    needs.check(replace(pod, spec=replace(pod.spec, host_network=True)), "full", {"full": FULL})


def test_ports_of_an_init_container_are_led_nowhere() -> None:
    needs.check(make_pod("a", init_containers=(replace(SIDECAR, restart_policy=None),)), "full", {"full": FULL})


BARE = replace(FULL, isolation=False)
OF_HOST = {"host_network": True, "host_ipc": True, "host_pid": True}
PROGRAM = make_container("a", security_context=SecurityContext(privileged=True))


@pytest.mark.parametrize(
    ("spec", "member", "said"),
    [
        ({"host_network": False}, {}, "spec.hostNetwork: false needs"),
        ({"host_ipc": False}, {}, "spec.hostIPC: false needs"),
        ({"host_pid": False}, {}, "spec.hostPID: false needs"),
        ({}, {"security_context": SecurityContext()}, "spec.containers[0].securityContext.privileged: false needs"),
        (
            {},
            {"security_context": SecurityContext(privileged=True, read_only_root_filesystem=True)},
            "spec.containers[0].securityContext.readOnlyRootFilesystem: needs",
        ),
        ({}, {"volume_mounts": (VolumeMount(name="v", mount_path="/v"),)}, "spec.containers[0].volumeMounts: needs"),
        ({}, {"image": "rootfs:/srv"}, "spec.containers[0].image: rootfs:/srv needs"),
    ],
)
def test_where_nothing_is_kept_from_the_host_a_pod_must_ask_for_nothing_else(
    spec: dict[str, bool], member: dict[str, object], said: str
) -> None:
    drivers = {"bare": BARE, "one": FULL, "two": FULL, "three": FULL}
    needs.check(make_pod(PROGRAM, **OF_HOST), "bare", drivers)
    pod = make_pod(replace(PROGRAM, **member), **{**OF_HOST, **spec})
    with pytest.raises(Unsupported) as refused:
        needs.check(pod, "bare", drivers)
    who = "one, two and three have it: set spec.runtimeClassName"
    assert str(refused.value) == f"{said} capability isolation; driver bare lacks it; {who}"
    needs.check(pod, "one", drivers)


@pytest.mark.parametrize("field", ["stdin", "tty"])
def test_input_and_terminals_need_a_driver_that_attaches(field: str) -> None:
    with pytest.raises(
        Unsupported, match=rf"spec\.containers\[0\]\.{field}: needs capability attach; .* no driver here"
    ):
        needs.check(make_pod(make_container("a", **{field: True})), "full", {"full": FULL})


def test_every_capability_is_one_that_drivers_declare() -> None:
    pods = [make_pod(), make_pod(make_container("a", stdin=True), share_process_namespace=True)]
    asked = {need.capability for pod in pods for need in needs.needs(pod)}
    assert asked <= set(Capabilities.__struct_fields__)
