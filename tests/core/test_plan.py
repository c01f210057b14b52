from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.core import plan
from podd.core.environment import expand
from podd.core.plan import EmptyDir, Host, HostPath
from podd.driver.contract import ContainerConfig, Dns, HostAlias, Mount, NamespaceScopes, PortMapping, SandboxConfig
from podd.model.ids import ContainerId, SandboxId
from podd.model.pod import Pod

HOST = Host(state_dir="/var/lib/podd", log_dir="/var/log/podd/pods", memory_bytes=8 * 2**30)
UID = "0b5f2a52-6e0d-4f0a-9b57-1d8a7f1f3c11"


def pod(spec: dict[str, Any] | None = None, **container: Any) -> Pod:
    """A pod of one member "main"; what is given is laid over it."""
    member = {"name": "main", "image": "rootfs:/", "command": ["true"], **container}
    meta = {"name": "web", "namespace": "prod", "uid": UID, "labels": {"app": "web"}, "annotations": {"note": "x"}}
    return msgspec.convert({"metadata": meta, "spec": {"containers": [member], **(spec or {})}}, Pod)


def sandbox(of: Pod, host: Host = HOST) -> SandboxConfig:
    return plan.sandbox_config(of, SandboxId("0123456789abcdef"), 2, host)


def container(of: Pod, host: Host = HOST) -> ContainerConfig:
    ids = ContainerId("fedcba9876543210"), SandboxId("0123456789abcdef")
    return plan.container_config(of, of.spec.containers[0], *ids, 3, host)


# ---- the sandbox


def test_the_plainest_pod() -> None:
    config = sandbox(pod())
    assert (config.id, config.pod_uid, config.attempt) == ("0123456789abcdef", UID, 2)
    assert (config.pod_name, config.pod_namespace, config.hostname) == ("web", "prod", "web")
    assert config.namespaces == NamespaceScopes(net="pod", ipc="pod", uts="pod", pid="container")
    assert config.log_directory == f"/var/log/podd/pods/prod_web_{UID}"
    assert (config.labels, config.annotations) == ({"app": "web"}, {"note": "x"})


@pytest.mark.parametrize(
    ("spec", "scopes"),
    [
        ({"hostNetwork": True}, NamespaceScopes(net="node", uts="node")),
        ({"hostIPC": True}, NamespaceScopes(ipc="node")),
        ({"hostPID": True}, NamespaceScopes(pid="node")),
        ({"shareProcessNamespace": True}, NamespaceScopes(pid="pod")),
    ],
)
def test_scopes_of_namespaces(spec: dict[str, Any], scopes: NamespaceScopes) -> None:
    assert sandbox(pod(spec)).namespaces == scopes


@pytest.mark.parametrize(
    ("name", "spec", "hostname"),
    [
        ("web", {}, "web"),
        ("web", {"hostname": "other"}, "other"),
        ("web", {"hostname": "other", "hostNetwork": True}, ""),
        ("a" * 64, {}, "a" * 63),
        ("a" * 62 + ".b", {}, "a" * 62),
        ("a" * 61 + "--b", {}, "a" * 61),
        ("a.b", {}, "a.b"),
        ("web", {"subdomain": "db"}, "web"),
        ("web", {"subdomain": "db", "setHostnameAsFQDN": True}, "web.db.prod.svc.cluster.local"),
        ("web", {"setHostnameAsFQDN": True}, "web"),
        ("web", {"subdomain": "db", "setHostnameAsFQDN": True, "hostNetwork": True}, ""),
        ("web", {"hostname": "other", "subdomain": "db", "hostnameOverride": "a.example"}, "a.example"),
    ],
)
def test_hostname(name: str, spec: dict[str, Any], hostname: str) -> None:
    of = pod(spec)
    of = msgspec.structs.replace(of, metadata=msgspec.structs.replace(of.metadata, name=name))
    assert sandbox(of).hostname == hostname


@pytest.mark.parametrize(
    ("spec", "domain"),
    [
        ({"subdomain": "db"}, "db.prod.svc.cluster.local"),
        ({"subdomain": "db", "hostname": "other"}, "db.prod.svc.cluster.local"),
        ({"subdomain": "db", "hostNetwork": True}, ""),
        ({"subdomain": "db", "hostnameOverride": "a.example"}, ""),
        ({}, ""),
    ],
)
def test_domain(spec: dict[str, Any], domain: str) -> None:
    assert sandbox(pod(spec)).domain == domain


PORTS: list[dict[str, Any]] = [
    {"containerPort": 80, "hostPort": 8080},
    {"containerPort": 81},
    {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
]
MAPPED = [
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=53, protocol="UDP", host_ip="192.0.2.1"),
]


def test_ports_of_what_lasts_are_led_to_the_pod() -> None:
    first = {"name": "first", "image": "rootfs:/", "ports": [{"containerPort": 1, "hostPort": 1}]}
    beside = {**first, "name": "beside", "restartPolicy": "Always"}
    of = pod({"initContainers": [first, beside]}, ports=PORTS)
    assert sandbox(of).ports == (PortMapping(container_port=1, host_port=1), *MAPPED)
    assert sandbox(pod({"hostNetwork": True}, ports=PORTS[:1])).ports == ()


@pytest.mark.parametrize("policy", ["", "Default", "ClusterFirst", "ClusterFirstWithHostNet", "None"])
def test_dns(policy: str) -> None:
    config = {
        "nameservers": ["192.0.2.1"],
        "searches": ["a.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    of = pod({"dnsPolicy": policy, "dnsConfig": config})
    assert sandbox(of).dns == Dns(
        of_host=policy != "None", servers=("192.0.2.1",), searches=("a.example",), options=("ndots:2", "edns0")
    )
    assert sandbox(pod()).dns == Dns()


def test_host_aliases() -> None:
    aliases = [{"ip": "::1", "hostnames": ["a", "b"]}, {"ip": "192.0.2.1"}]
    assert sandbox(pod({"hostAliases": aliases})).host_aliases == (HostAlias(ip="::1", names=("a", "b")),)


def test_bandwidths() -> None:
    of = pod()
    wanted = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1Ki"}
    of = msgspec.structs.replace(of, metadata=msgspec.structs.replace(of.metadata, annotations=wanted))
    assert (sandbox(of).ingress_bits, sandbox(of).egress_bits) == (10_000_000, 1024)
    assert (sandbox(pod()).ingress_bits, sandbox(pod()).egress_bits) == (None, None)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("net.core.somaxconn", "net.core.somaxconn"),
        ("net/core/somaxconn", "net.core.somaxconn"),
        ("net/ipv4/conf/eth0.100/forwarding", "net.ipv4.conf.eth0/100.forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "net.ipv4.conf.eth0/100.forwarding"),
    ],
)
def test_names_of_sysctls(written: str, name: str) -> None:
    of = pod({"securityContext": {"sysctls": [{"name": written, "value": "1"}]}})
    assert sandbox(of).sysctls == {name: "1"}


def test_a_log_directory_is_one_part_of_a_path() -> None:
    of = pod()
    of = msgspec.structs.replace(of, metadata=msgspec.structs.replace(of.metadata, name="n" * 253, namespace="s" * 63))
    part = sandbox(of).log_directory.rpartition("/")[2]
    assert len(part) == 255
    assert part.startswith("s" * 63 + "_nnn")
    assert part.endswith("_" + UID)


def test_no_logs_where_there_is_no_directory() -> None:
    host = msgspec.structs.replace(HOST, log_dir="")
    assert (sandbox(pod(), host).log_directory, container(pod(), host).log_path) == ("", "")


# ---- a container

MESSAGE = Mount(
    host_path=f"/var/lib/podd/volumes/{UID}/.messages/fedcba9876543210", container_path="/dev/termination-log"
)


def test_the_plainest_container() -> None:
    config = container(pod())
    assert (config.id, config.sandbox_id, config.attempt) == ("fedcba9876543210", "0123456789abcdef", 3)
    assert (config.name, config.image, config.command, config.args) == ("main", "rootfs:/", ["true"], [])
    assert (config.env, config.mounts, config.working_dir) == ([], [MESSAGE], "")
    assert config.log_path == f"/var/log/podd/pods/prod_web_{UID}/main/3.log"


EXPANSIONS = {
    "$(A)": "one",
    "x$(A)$(B)y": "xonetwoy",
    "$$(A)": "$(A)",
    "$$$(A)": "$one",
    "$$$$(A)": "$$(A)",
    "$$": "$",
    "$": "$",
    "a$": "a$",
    "$A": "$A",
    "$(missing)": "$(missing)",
    "$()": "$()",
    "$(A": "$(A",
    "$(A $(B)": "$(A $(B)",
    "$($(A))": "$($(A))",
    "$(date +%T)": "$(date +%T)",
    "$(A\n)": "$(A\n)",
    "$(REF)": "$(A)",
    "$(EMPTY)": "",
}


@pytest.mark.parametrize(("text", "expanded"), EXPANSIONS.items(), ids=list(EXPANSIONS))
def test_expansion(text: str, expanded: str) -> None:
    """What stands in for a reference is not looked at again: REF's value stays as it is."""
    assert expand(text, {"A": "one", "B": "two", "REF": "$(A)", "EMPTY": ""}) == expanded


@given(st.text(alphabet="$()AB x\n", max_size=30))
def test_expansion_agrees_with_reading_letter_by_letter(text: str) -> None:
    env = {"A": "1", "B": "$", "": "never"}
    del env[""]
    assert expand(text, env) == _expanded_slowly(text, env)


def _expanded_slowly(text: str, env: dict[str, str]) -> str:
    """The specification of Kubernetes' expansion, as a loop."""
    out, rest = "", text
    while rest:
        head, rest = rest[0], rest[1:]
        if head != "$" or not rest:
            out += head
        elif rest[0] == "$":
            out, rest = out + "$", rest[1:]
        elif rest[0] == "(" and ")" in rest:
            name, _, rest = rest[1:].partition(")")
            out += env.get(name, f"$({name})")
        else:
            out += head
    return out


def test_a_variable_may_refer_to_those_before_it() -> None:
    env = [{"name": "B", "value": "$(A)"}, {"name": "A", "value": "1"}, {"name": "C", "value": "$(A)$(B)$(C)"}]
    assert container(pod(env=env)).env == [("B", "$(A)"), ("A", "1"), ("C", "1$(A)$(C)")]


def test_of_two_variables_with_one_name_the_later_counts() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "B", "value": "$(A)"}]
    assert container(pod(env=env)).env == [("A", "12"), ("B", "12")]


def test_command_and_args_are_expanded_with_the_whole_environment() -> None:
    config = container(pod(command=["$(A)", "$(HOSTNAME)"], args=["$$(A)"], env=[{"name": "A", "value": "x"}]))
    assert (config.command, config.args) == (["x", "$(HOSTNAME)"], ["$(A)"])


def test_nothing_of_one_container_reaches_the_next() -> None:
    first = container(pod(env=[{"name": "SECRET", "value": "x"}]))
    second = container(pod(command=["$(SECRET)"]))
    assert (first.env, second.env, second.command) == ([("SECRET", "x")], [], ["$(SECRET)"])


# ---- security


def test_the_containers_security_context_counts_before_the_pods() -> None:
    of_pod = {"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": True, "seccompProfile": {"type": "Unconfined"}}
    inherited = container(pod({"securityContext": of_pod})).security
    assert (inherited.uid, inherited.gid, inherited.run_as_non_root, inherited.seccomp) == (1, 2, True, "unconfined")
    own = {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False, "seccompProfile": {"type": "RuntimeDefault"}}
    security = container(pod({"securityContext": of_pod}, securityContext=own)).security
    assert (security.uid, security.gid, security.run_as_non_root, security.seccomp) == (0, 0, False, "runtime/default")


def test_security_of_a_pod_that_asks_for_nothing() -> None:
    security = container(pod()).security
    assert (security.uid, security.gid, security.supplemental_groups) == (None, None, [])
    assert not security.privileged
    assert not security.no_new_privileges
    assert security.seccomp == "runtime/default"


@pytest.mark.parametrize(("allowed", "no_new_privileges"), [(None, False), (True, False), (False, True)])
def test_allow_privilege_escalation(allowed: bool | None, no_new_privileges: bool) -> None:
    context = {} if allowed is None else {"allowPrivilegeEscalation": allowed}
    assert container(pod(securityContext=context)).security.no_new_privileges is no_new_privileges


def test_fs_group_is_a_supplemental_group_once() -> None:
    context = {"supplementalGroups": [5, 6, 5], "fsGroup": 6}
    assert container(pod({"securityContext": context})).security.supplemental_groups == [5, 6]
    assert container(pod({"securityContext": {"fsGroup": 0}})).security.supplemental_groups == [0]


@pytest.mark.parametrize(
    ("context", "seccomp"),
    [
        (
            {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}},
            "localhost//var/lib/podd/seccomp/a/b.json",
        ),
        ({"seccompProfile": {"type": "Unconfined"}}, "unconfined"),
        ({"privileged": True}, "unconfined"),
        ({"privileged": True, "seccompProfile": {"type": "RuntimeDefault"}}, "unconfined"),
    ],
)
def test_seccomp(context: dict[str, Any], seccomp: str) -> None:
    assert container(pod(securityContext=context)).security.seccomp == seccomp


def test_the_rest_of_a_security_context() -> None:
    context = {
        "readOnlyRootFilesystem": True,
        "capabilities": {"add": ["SYS_TIME"], "drop": ["ALL"]},
        "privileged": True,
    }
    security = container(pod(securityContext=context)).security
    assert (security.read_only_rootfs, security.privileged) == (True, True)
    assert (security.capabilities_add, security.capabilities_drop) == (("SYS_TIME",), ("ALL",))
    assert container(pod(securityContext={"procMount": "Unmasked"})).security.unmasked_proc


# ---- volumes

VOLUMES = [
    {"name": "disk", "emptyDir": {}},
    {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1.5Ki"}},
    {"name": "etc", "hostPath": {"path": "/etc", "type": "Directory"}},
]


def test_volumes() -> None:
    assert plan.volumes(pod({"volumes": VOLUMES, "securityContext": {"fsGroup": 7}}), HOST) == (
        EmptyDir(name="disk", path=f"/var/lib/podd/volumes/{UID}/disk", medium="", size_limit_bytes=None, fs_group=7),
        EmptyDir(
            name="ram", path=f"/var/lib/podd/volumes/{UID}/ram", medium="Memory", size_limit_bytes=1536, fs_group=7
        ),
        HostPath(name="etc", path="/etc", type="Directory"),
    )


@pytest.mark.parametrize(
    ("volume", "memory", "size"),
    [
        ({"medium": "Memory"}, None, None),
        ({"medium": "Memory"}, "64Mi", 2**26),
        ({"medium": "Memory", "sizeLimit": "1Gi"}, "64Mi", 2**26),
        ({"medium": "Memory", "sizeLimit": "1Mi"}, "64Mi", 2**20),
        ({"medium": "Memory", "sizeLimit": "0"}, "64Mi", 2**26),
        ({"sizeLimit": "0"}, "64Mi", None),
        ({"sizeLimit": "1Gi"}, "64Mi", 2**30),
    ],
)
def test_a_tmpfs_is_no_larger_than_what_the_pod_may_use(
    volume: dict[str, str], memory: str | None, size: int | None
) -> None:
    resources = {"limits": {"memory": memory}} if memory else {}
    (made,) = plan.volumes(pod({"volumes": [{"name": "v", "emptyDir": volume}]}, resources=resources), HOST)
    assert isinstance(made, EmptyDir)
    assert made.size_limit_bytes == size


def test_mounts_come_outer_before_inner_and_else_as_written() -> None:
    wanted = [
        {"name": "ram", "mountPath": "/data/cache/"},
        {"name": "etc", "mountPath": "/data", "readOnly": True},
        {"name": "disk", "mountPath": "/b"},
        {"name": "disk", "mountPath": "/a"},
    ]
    *mounts, message = container(pod({"volumes": VOLUMES}, volumeMounts=wanted)).mounts
    assert message == MESSAGE
    assert mounts == [
        Mount(host_path="/etc", container_path="/data", read_only=True),
        Mount(host_path=f"/var/lib/podd/volumes/{UID}/disk", container_path="/b"),
        Mount(host_path=f"/var/lib/podd/volumes/{UID}/disk", container_path="/a"),
        Mount(host_path=f"/var/lib/podd/volumes/{UID}/ram", container_path="/data/cache/"),
    ]


MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "where it is asked for": ({"terminationMessagePath": "/tmp/last"}, "/tmp/last"),
    "not in the host's own /dev": ({"securityContext": {"privileged": True}}, ""),
    "not in a /dev that is mounted": ({"volumeMounts": [{"name": "etc", "mountPath": "/dev/"}]}, ""),
    "of a privileged container elsewhere": (
        {"securityContext": {"privileged": True}, "terminationMessagePath": "/tmp/last"},
        "/tmp/last",
    ),
}


@pytest.mark.parametrize(("member", "path"), MESSAGES.values(), ids=list(MESSAGES))
def test_termination_messages_are_mounted(member: dict[str, Any], path: str) -> None:
    mounts = container(pod({"volumes": VOLUMES}, **member)).mounts
    assert [m.container_path for m in mounts if "/.messages/" in m.host_path] == ([path] if path else [])
