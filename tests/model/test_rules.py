"""Every rule on values, from both sides of its border."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podd.errors import Invalid
from podd.model import manifest

Found = list[tuple[str, str]]


def check(
    spec: dict[str, Any] | None = None, meta: dict[str, Any] | None = None, members: list[dict[str, Any]] | None = None
) -> tuple[Found, Found]:
    """Errors and warnings of a good pod with that laid over it, as path and message."""
    good = {"image": "rootfs:/", "command": ["true"]}
    containers = [{"name": f"c{n}", **good, **member} for n, member in enumerate(members or [{}])]
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", **(meta or {})},
        "spec": {"containers": containers, **(spec or {})},
    }
    try:
        found = manifest.parse(json.dumps(document)).remarks
    except Invalid as exc:
        found = exc.facts["problems"]  # type: ignore[assignment]
    said = {level: [(p.path, p.message) for p in found if p.level == level] for level in ("error", "warning")}
    return said["error"], said["warning"]


def member(**fields: Any) -> tuple[Found, Found]:
    return check(members=[fields])


def context(**fields: Any) -> tuple[Found, Found]:
    return member(securityContext=fields)


def init(**fields: Any) -> tuple[Found, Found]:
    return check({"initContainers": [{"name": "i", "image": "rootfs:/", "command": ["true"], **fields}]})


def restart_rules(*rules: dict[str, Any], policy: str | None = "Never") -> tuple[Found, Found]:
    return member(restartPolicy=policy, restartPolicyRules=list(rules))


def codes(*values: int, operator: str = "In", action: str = "Restart") -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": operator, "values": values}}


def volume(**fields: Any) -> tuple[Found, Found]:
    return check({"volumes": [{"name": "v", **fields}]})


def mounts(*wanted: tuple[str, str]) -> tuple[Found, Found]:
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]
    return check({"volumes": volumes}, members=[{"volumeMounts": [{"name": n, "mountPath": p} for n, p in wanted]}])


def sysctl(name: str, value: str = "1", **spec: Any) -> tuple[Found, Found]:
    return check({"securityContext": {"sysctls": [{"name": name, "value": value}]}, **spec})


LONG = "a" * 63
SIDECAR = {"name": "s", "image": "rootfs:/", "command": ["true"], "restartPolicy": "Always"}

GOOD = {
    "the longest names": check(meta={"name": ".".join([LONG] * 3 + ["a" * 61]), "namespace": LONG}),
    "labels": check(meta={"labels": {"app": "", "a.example/B_c.d": "x-Y_z.0", "k" * 63: "v" * 63}}),
    "annotations": check(meta={"annotations": {"UPPER.example/x": "anything\n\u2603", "y": ""}}),
    "annotations of the largest size": check(meta={"annotations": {"k": "v" * (256 * 1024 - 1)}}),
    "the most processes": member(resources={"limits": {"podd.io/pids": 4194304}}),
    "grace of nothing": check({"terminationGracePeriodSeconds": 0}),
    "a hostname": check({"hostname": LONG}),
    "a driver": check({"runtimeClassName": "runc"}),
    "the largest ids": context(runAsUser=2**31 - 1, runAsGroup=2**31 - 1),
    "root": context(runAsUser=0),
    "not root": context(runAsUser=1, runAsNonRoot=True),
    "not root, as the image says": member(image="x", securityContext={"runAsNonRoot": True}),
    "root by the member's own word": check(
        {"securityContext": {"runAsNonRoot": True}}, members=[{"securityContext": {"runAsNonRoot": False}}]
    ),
    "the pod's user is not that of the member": check(
        {"securityContext": {"runAsUser": 0, "runAsNonRoot": True}}, members=[{"securityContext": {"runAsUser": 5}}]
    ),
    "groups": check({"securityContext": {"supplementalGroups": [0, 2**31 - 1], "fsGroup": 0}}),
    "capabilities": context(capabilities={"add": ["SYS_ADMIN", "CHECKPOINT_RESTORE"], "drop": ["ALL"]}),
    "privileged": context(privileged=True, allowPrivilegeEscalation=True),
    "a profile": context(seccompProfile={"type": "Localhost", "localhostProfile": "a/b..json"}),
    "ports": member(
        ports=[{"containerPort": 1}, {"containerPort": 65535, "name": "a-0123456789-bc", "protocol": "SCTP"}]
    ),
    "one port name in two members": check(members=[{"ports": [{"containerPort": 1, "name": "a"}]}] * 2),
    "ports of the host": check(
        {"initContainers": [{**SIDECAR, "ports": [{"containerPort": 1, "hostPort": 80}]}]},
        members=[
            {
                "ports": [
                    {"containerPort": 2, "hostPort": 80, "protocol": "UDP"},
                    {"containerPort": 2, "hostPort": 80, "hostIP": "192.0.2.1"},
                    {"containerPort": 2, "hostPort": 80, "hostIP": "2001:db8::1"},
                ]
            }
        ],
    ),
    "names of a network": check(
        {
            "subdomain": "db",
            "setHostnameAsFQDN": True,
            "hostAliases": [{"ip": "::1", "hostnames": ["a", "b.example"]}, {"ip": "192.0.2.1"}],
        }
    ),
    "another name of the longest": check({"hostnameOverride": f"{'a' * 31}.{'b' * 32}", "hostname": "x"}),
    "DNS of its own": check(
        {
            "dnsPolicy": "None",
            "dnsConfig": {
                "nameservers": ["192.0.2.1", "2001:db8::1"],
                "searches": ["a.example", "_tcp.example.", "."] + ["a"] * 29,
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
            },
        }
    ),
    **{
        f"DNS as {policy} has it": check({"dnsPolicy": policy})
        for policy in ("Default", "ClusterFirst", "ClusterFirstWithHostNet")
    },
    "bandwidths": check(
        meta={"annotations": {"kubernetes.io/ingress-bandwidth": "1k", "kubernetes.io/egress-bandwidth": "1P"}}
    ),
    "hostPort with hostNetwork": check(
        {"hostNetwork": True}, members=[{"ports": [{"containerPort": 80, "hostPort": 80}]}]
    ),
    "names of variables": member(
        env=[{"name": "a.b-c d!", "value": ""}, {"name": "1"}, {"name": "1", "value": "x\ny"}]
    ),
    "an empty word": member(command=["sh", "", "\n"], args=[""]),
    "args alone": member(command=[], args=["true"]),
    "an image for other drivers": member(image="docker.io/library/busybox:1", command=[]),
    "volumes": check(
        {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "0"}}, {"name": "w", "hostPath": {"path": "/"}}]}
    ),
    "mounts": mounts(("v", "/a"), ("v", "/a/b"), ("w", "/procs"), ("w", "/a b/..c")),
    "equal limits and requests": member(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}}),
    "requests without limits": member(resources={"requests": {"cpu": "1", "memory": "0"}}),
    "the pod's limits": check(
        {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}},
        members=[{"resources": {"limits": {"cpu": "500m"}}}] * 2,
    ),
    "the pod's limits hold what runs at one time": check(
        {
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "600m"}},
            "initContainers": [
                {"name": "i", "image": "rootfs:/", "command": ["true"], "resources": {"requests": {"cpu": "600m"}}}
            ],
        },
        members=[{"resources": {"requests": {"cpu": "300m"}}}] * 2,
    ),
    "an init container": init(restartPolicy="OnFailure", ports=[{"containerPort": 80}]),
    "a sidecar": init(
        restartPolicy="Always",
        startupProbe={"exec": {"command": ["true"]}},
        livenessProbe={"exec": {"command": ["true"]}},
        readinessProbe={"exec": {"command": ["true"]}},
        lifecycle={"preStop": {"sleep": {"seconds": 1}}},
        resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
    ),
    "restart rules": restart_rules(codes(0, 255), codes(42, operator="NotIn")),
    "the most restart rules": restart_rules(*(codes(number) for number in range(20))),
    "a deadline": check({"activeDeadlineSeconds": 1}),
    "resize policies": member(
        resizePolicy=[
            {"resourceName": "cpu", "restartPolicy": "NotRequired"},
            {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        ]
    ),
    "a termination message": member(terminationMessagePath="/tmp/x", terminationMessagePolicy="FallbackToLogsOnError"),
    "sysctls of the pod": check(
        {
            "securityContext": {
                "sysctls": [
                    {"name": name, "value": "1 2"}
                    for name in (
                        *(
                            "net.ipv4.ip_local_port_range",
                            "net/ipv4/conf/eth0.100/forwarding",
                            "kernel.shm_rmid_forced",
                        ),
                        *("kernel.msgmax", "kernel.sem", "fs.mqueue.msg_max"),
                    )
                ]
            }
        }
    ),
    "sysctls of what is not the host's": sysctl("kernel.sem", hostNetwork=True),
    "a seccomp annotation of no meaning": check(meta={"annotations": {"example/seccomp.security": "x"}}),
    "an AppArmor annotation that asks for nothing": check(
        meta={"annotations": {"container.apparmor.security.beta.kubernetes.io/c0": "unconfined"}}
    ),
}


@pytest.mark.parametrize("found", GOOD.values(), ids=list(GOOD))
def test_good(found: tuple[Found, Found]) -> None:
    assert found == ([], [])


C0 = "spec.containers[0]"
CONTEXT = f"{C0}.securityContext"
SYSCTL = "spec.securityContext.sysctls[0]"

BAD: dict[str, tuple[tuple[Found, Found], str, str]] = {
    # names
    "pod name": (check(meta={"name": "a_b"}), "metadata.name", '"a_b" is not an RFC 1123 subdomain'),
    "pod name, a newline": (check(meta={"name": "web\n"}), "metadata.name", "is not an RFC 1123 subdomain"),
    "pod name too long": (check(meta={"name": "a" * 254}), "metadata.name", "is not an RFC 1123 subdomain"),
    "pod name that climbs": (check(meta={"name": "../x"}), "metadata.name", "is not an RFC 1123 subdomain"),
    "namespace": (check(meta={"namespace": "a.b"}), "metadata.namespace", '"a.b" is not an RFC 1123 label'),
    "namespace of nothing": (check(meta={"namespace": ""}), "metadata.namespace", '"" is not an RFC 1123 label'),
    "label key": (check(meta={"labels": {"a b": "x"}}), "metadata.labels[a b]", '"a b" is not a qualified name'),
    "label prefix": (check(meta={"labels": {"A/b": "x"}}), "metadata.labels[A/b]", '"A/b" is not a qualified name'),
    "label without prefix": (check(meta={"labels": {"/b": "x"}}), "metadata.labels[/b]", "is not a qualified name"),
    "label key too long": (
        check(meta={"labels": {"k" * 64: "x"}}),
        f"metadata.labels.{'k' * 64}",
        "not a qualified name",
    ),
    "label value": (check(meta={"labels": {"a": "-x"}}), "metadata.labels.a", '"-x" is not a label value'),
    "label value too long": (check(meta={"labels": {"a": "x" * 64}}), "metadata.labels.a", "is not a label value"),
    "annotation key": (check(meta={"annotations": {"a\n": "x"}}), "metadata.annotations[a\\n]", "not a qualified name"),
    "annotations too large": (
        check(meta={"annotations": {"k": "\u2603" * (256 * 1024 // 3 + 1)}}),
        "metadata.annotations",
        "has 262147 bytes, at most 262144 are allowed",
    ),
    "container name": (member(name="Main"), f"{C0}.name", '"Main" is not an RFC 1123 label'),
    "container name too long": (member(name="a" * 64), f"{C0}.name", "is not an RFC 1123 label"),
    "container names": (
        check(members=[{"name": "a"}, {"name": "a"}]),
        "spec.containers[1].name",
        '"a" is given twice: container names are unique',
    ),
    "volume name": (volume(name="V", emptyDir={}), "spec.volumes[0].name", '"V" is not an RFC 1123 label'),
    "volume names": (
        check({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}),
        "spec.volumes[1].name",
        '"v" is given twice: volume names are unique',
    ),
    "hostname": (check({"hostname": "a.b"}), "spec.hostname", '"a.b" is not an RFC 1123 label'),
    "hostname, a newline": (check({"hostname": "a\nb"}), "spec.hostname", '"a\\nb" is not an RFC 1123 label'),
    "hostname too long": (check({"hostname": "a" * 64}), "spec.hostname", "is not an RFC 1123 label"),
    "driver": (check({"runtimeClassName": "../x"}), "spec.runtimeClassName", '"../x" is not the name of a driver'),
    "no driver": (check({"runtimeClassName": ""}), "spec.runtimeClassName", '"" is not the name of a driver'),
    # the pod
    "grace": (
        check({"terminationGracePeriodSeconds": -1}),
        "spec.terminationGracePeriodSeconds",
        "-1 is not between 0 and",
    ),
    "windows": (check({"os": {"name": "windows"}}), "spec.os.name", '"windows" is not one of "linux"'),
    "grace of ages": (
        check({"terminationGracePeriodSeconds": 2**31}),
        "spec.terminationGracePeriodSeconds",
        "2147483648 is not between 0 and 2147483647",
    ),
    **{
        f"{number} processes": (
            member(resources={"limits": {"podd.io/pids": number}}),
            f"{C0}.resources.limits[podd.io/pids]",
            f"{number} is not between 1 and 4194304",
        )
        for number in ("0", "0.5", "4194305", "1Gi")
    },
    "two process namespaces": (
        check({"hostPID": True, "shareProcessNamespace": True}),
        "spec.shareProcessNamespace",
        "excludes hostPID: a pod has one process namespace",
    ),
    # a container
    "no image": (member(image=""), f"{C0}.image", "required"),
    "space around an image": (
        member(image="busybox "),
        f"{C0}.image",
        "has space around it or control characters in it",
    ),
    "a newline in an image": (member(image="a\nb"), f"{C0}.image", "has space around it or control characters in it"),
    "a relative root": (member(image="rootfs:x"), f"{C0}.image", '"x" is not an absolute path'),
    "a root that climbs": (member(image="rootfs:/a/../b"), f"{C0}.image", 'must not contain ".."'),
    "no command": (member(command=[]), f"{C0}.command", "required: a rootfs: image says nothing of what to run"),
    "no program": (member(command=["", "x"]), f"{C0}.command[0]", "is empty: it names the program to run"),
    "directory": (member(workingDir="tmp"), f"{C0}.workingDir", '"tmp" is not an absolute path'),
    "variable": (member(env=[{"name": "a=b"}]), f"{C0}.env[0].name", '"a=b" is not the name of a variable'),
    "variable of nothing": (member(env=[{"name": ""}]), f"{C0}.env[0].name", '"" is not the name of a variable'),
    "variable, a newline": (member(env=[{"name": "a\n"}]), f"{C0}.env[0].name", "is not the name of a variable"),
    "port": (member(ports=[{"containerPort": 0}]), f"{C0}.ports[0].containerPort", "0 is not between 1 and 65535"),
    "port too large": (member(ports=[{"containerPort": 65536}]), f"{C0}.ports[0].containerPort", "not between 1 and"),
    "host port": (
        check({"hostNetwork": True}, members=[{"ports": [{"containerPort": 1, "hostPort": 65536}]}]),
        f"{C0}.ports[0].hostPort",
        "65536 is not between 1 and 65535",
    ),
    "a port of the host for two": (
        check(members=[{"ports": [{"containerPort": n, "hostPort": 80}]} for n in (1, 2)]),
        "spec.containers[1].ports[0].hostPort",
        "80/TCP is given twice: a port of the host leads to one place",
    ),
    "a port of the host for a member and a sidecar": (
        check(
            {"initContainers": [{**SIDECAR, "ports": [{"containerPort": 1, "hostPort": 80}]}]},
            members=[{"ports": [{"containerPort": 2, "hostPort": 80, "hostIP": "0.0.0.0"}]}],
        ),
        f"{C0}.ports[0].hostPort",
        "80/TCP is given twice",
    ),
    "an address of the host": (
        member(ports=[{"containerPort": 80, "hostPort": 80, "hostIP": "localhost"}]),
        f"{C0}.ports[0].hostIP",
        '"localhost" is not an IPv4 or IPv6 address',
    ),
    "an alias of no address": (
        check({"hostAliases": [{"ip": "fe80::1%eth0", "hostnames": ["a"]}]}),
        "spec.hostAliases[0].ip",
        '"fe80::1%eth0" is not an IPv4 or IPv6 address',
    ),
    "an alias that is two lines": (
        check({"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a\n10.0.0.2 b"]}]}),
        "spec.hostAliases[0].hostnames[0]",
        "is not an RFC 1123 subdomain",
    ),
    "a subdomain": (check({"subdomain": "a.b"}), "spec.subdomain", '"a.b" is not an RFC 1123 label'),
    "a full name that the kernel does not keep": (
        check({"hostname": "a" * 40, "subdomain": "db", "setHostnameAsFQDN": True}),
        "spec.setHostnameAsFQDN",
        f"{'a' * 40}.db.default.svc.cluster.local has more than 64 characters",
    ),
    "another name and the full one": (
        check({"hostnameOverride": "a.b", "setHostnameAsFQDN": True}),
        "spec.hostnameOverride",
        "excludes setHostnameAsFQDN",
    ),
    "another name and the host's": (
        check({"hostnameOverride": "a.b", "hostNetwork": True}),
        "spec.hostnameOverride",
        "excludes hostNetwork",
    ),
    "another name, too long": (
        check({"hostnameOverride": "a" * 65}),
        "spec.hostnameOverride",
        "has more than 64 characters",
    ),
    "another name": (check({"hostnameOverride": "A"}), "spec.hostnameOverride", '"A" is not an RFC 1123 subdomain'),
    "no DNS at all": (check({"dnsPolicy": "None"}), "spec.dnsConfig.nameservers", "required with dnsPolicy None"),
    "a DNS policy": (check({"dnsPolicy": "Mine"}), "spec.dnsPolicy", '"Mine" is not one of'),
    "nameservers": (
        check({"dnsConfig": {"nameservers": [f"10.0.0.{n}" for n in range(4)]}}),
        "spec.dnsConfig.nameservers",
        "has 4, at most 3 are asked",
    ),
    "a nameserver by name": (
        check({"dnsConfig": {"nameservers": ["dns"]}}),
        "spec.dnsConfig.nameservers[0]",
        '"dns" is not an IPv4 or IPv6 address',
    ),
    **{
        f"searches of {len(searches)}": (
            check({"dnsConfig": {"searches": searches}}),
            "spec.dnsConfig.searches",
            "is longer than a resolver reads",
        )
        for searches in (["a"] * 33, [f"{'a' * 63}.{'b' * 63}"] * 17)
    },
    "a search": (check({"dnsConfig": {"searches": ["a b"]}}), "spec.dnsConfig.searches[0]", '"a b" is not a domain'),
    **{
        f"a DNS option {name!r}": (
            check({"dnsConfig": {"options": [{"name": name}]}}),
            "spec.dnsConfig.options[0].name",
            f'"{shown}" is not an option of resolv.conf(5)',
        )
        for name, shown in (("", ""), ("a\nnameserver 10.0.0.1", "a\\nnameserver 10.0.0.1"), ("ndots:2", "ndots:2"))
    },
    "a DNS option's value": (
        check({"dnsConfig": {"options": [{"name": "ndots", "value": "2 debug"}]}}),
        "spec.dnsConfig.options[0].value",
        '"2 debug" is not the value of such an option',
    ),
    **{
        f"bandwidth {text}": (
            check(meta={"annotations": {"kubernetes.io/egress-bandwidth": text}}),
            "metadata.annotations[kubernetes.io/egress-bandwidth]",
            said,
        )
        for text, said in (
            ("fast", '"fast" is not a quantity'),
            ("999", "999 is not between 1k and 1P bits a second"),
            ("1001T", "1001T is not between 1k and 1P bits a second"),
            ("-1M", "-1M is not between 1k and 1P bits a second"),
        )
    },
    "other port of the host": (
        check({"hostNetwork": True}, members=[{"ports": [{"containerPort": 80, "hostPort": 81}]}]),
        f"{C0}.ports[0].hostPort",
        "must equal containerPort with hostNetwork",
    ),
    "port names": (
        member(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
        f"{C0}.ports[1].name",
        '"a" is given twice: port names are unique in a container',
    ),
    **{
        f"port name {name}": (
            member(ports=[{"containerPort": 1, "name": name}]),
            f"{C0}.ports[0].name",
            f'"{name}" is not the name of a port',
        )
        for name in ("A", "80", "a--b", "-a", "a-", "a" * 16)
    },
    # init containers, restarts, and what containers leave behind
    "an init container's name": (
        check({"initContainers": [{"name": "c0", "image": "rootfs:/", "command": ["true"]}]}),
        f"{C0}.name",
        '"c0" is given twice: container names are unique',
    ),
    "an init container's command": (
        init(command=[]),
        "spec.initContainers[0].command",
        "required: a rootfs: image says nothing of what to run",
    ),
    "an init container's capability": (
        init(securityContext={"capabilities": {"add": ["NOSUCH"]}}),
        "spec.initContainers[0].securityContext.capabilities.add[0]",
        '"NOSUCH" is not a capability',
    ),
    "an init container's mount": (
        init(volumeMounts=[{"name": "x", "mountPath": "/x"}]),
        "spec.initContainers[0].volumeMounts[0].name",
        'there is no volume "x"',
    ),
    "an init container's limit": (
        init(resources={"limits": {"cpu": "x"}}),
        "spec.initContainers[0].resources.limits.cpu",
        '"x" is not a quantity',
    ),
    "an init container's resize policy": (
        init(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
        "spec.initContainers[0].resizePolicy",
        "an init container runs to its end, and is not resized",
    ),
    "rules without a policy": (
        restart_rules(codes(1), policy=None),
        f"{C0}.restartPolicy",
        "required with restartPolicyRules",
    ),
    "too many rules": (
        restart_rules(*(codes(number) for number in range(21))),
        f"{C0}.restartPolicyRules",
        "has 21 rules, at most 20 are allowed",
    ),
    "a rule without codes": (
        restart_rules({"action": "Restart"}),
        f"{C0}.restartPolicyRules[0].exitCodes",
        "required",
    ),
    "a rule of no code": (
        restart_rules(codes()),
        f"{C0}.restartPolicyRules[0].exitCodes.values",
        "at least one exit code is required",
    ),
    **{
        f"exit code {code}": (
            restart_rules(codes(1, code)),
            f"{C0}.restartPolicyRules[0].exitCodes.values[1]",
            f"{code} is not between 0 and 255",
        )
        for code in (-1, 256)
    },
    "an exit code twice": (
        restart_rules(codes(1, 2, 1)),
        f"{C0}.restartPolicyRules[0].exitCodes.values[2]",
        '"1" is given twice: exit codes are a set',
    ),
    "a rule for all": (
        restart_rules(codes(1, action="RestartAllContainers")),
        f"{C0}.restartPolicyRules[0].action",
        "podd restarts the container that ended, and not yet all of its pod",
    ),
    "an operator": (
        restart_rules(codes(1, operator="Equals")),
        f"{C0}.restartPolicyRules[0].exitCodes.operator",
        '"Equals" is not one of "In", "NotIn"',
    ),
    "deadline": (check({"activeDeadlineSeconds": 0}), "spec.activeDeadlineSeconds", "0 is not between 1 and"),
    "deadline of ages": (
        check({"activeDeadlineSeconds": 2**31}),
        "spec.activeDeadlineSeconds",
        "2147483648 is not between 1 and 2147483647",
    ),
    "resize policy": (
        member(resizePolicy=[{"resourceName": "podd.io/pids", "restartPolicy": "NotRequired"}]),
        f"{C0}.resizePolicy[0].resourceName",
        '"podd.io/pids" cannot be resized',
    ),
    "resize policies": (
        member(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2),
        f"{C0}.resizePolicy[1].resourceName",
        '"cpu" is given twice: a resource has one resize policy',
    ),
    **{
        f"termination message at {path!r}": (
            member(terminationMessagePath=path),
            f"{C0}.terminationMessagePath",
            said,
        )
        for path, said in {
            "": '"" is not an absolute path',
            "log": '"log" is not an absolute path',
            "/x/../y": 'must not contain ".."',
            "//.": "is the root of the container, and no file",
            "/proc/log": "is in the container's own /proc",
        }.items()
    },
    # volumes
    "no source": (volume(), "spec.volumes[0]", "a volume has exactly one source"),
    "two sources": (volume(emptyDir={}, hostPath={"path": "/"}), "spec.volumes[0]", "a volume has exactly one source"),
    "host path": (volume(hostPath={"path": "x"}), "spec.volumes[0].hostPath.path", '"x" is not an absolute path'),
    "host path that climbs": (
        volume(hostPath={"path": "/x/.."}),
        "spec.volumes[0].hostPath.path",
        'must not contain ".."',
    ),
    "host path, a newline": (
        volume(hostPath={"path": "/\n"}),
        "spec.volumes[0].hostPath.path",
        "has control characters in it",
    ),
    "size": (volume(emptyDir={"sizeLimit": "-1"}), "spec.volumes[0].emptyDir.sizeLimit", "-1 is negative"),
    "size of nothing": (
        volume(emptyDir={"sizeLimit": "x"}),
        "spec.volumes[0].emptyDir.sizeLimit",
        '"x" is not a quantity',
    ),
    "mount of nothing": (mounts(("x", "/x")), f"{C0}.volumeMounts[0].name", 'there is no volume "x"'),
    **{
        f"mount at {path!r}": (mounts(("v", path)), f"{C0}.volumeMounts[0].mountPath", said)
        for path, said in {
            "": '"" is not an absolute path',
            "a": '"a" is not an absolute path',
            "/a:b": 'must not contain ":"',
            "/a/../b": 'must not contain ".."',
            "/a\tb": "has control characters in it",
            "/": "is the root of the container",
            "//.": "is the root of the container",
            "/proc": "is in the container's own /proc",
            "/./proc//self/": "is in the container's own /proc",
        }.items()
    },
    "mounts at one path": (
        mounts(("v", "/a/b"), ("w", "//a/./b/")),
        f"{C0}.volumeMounts[1].mountPath",
        '"//a/./b/" is given twice: mount paths are unique in a container',
    ),
    # resources
    "amount": (member(resources={"limits": {"cpu": "1x"}}), f"{C0}.resources.limits.cpu", '"1x" is not a quantity'),
    "negative": (member(resources={"limits": {"cpu": "-1"}}), f"{C0}.resources.limits.cpu", "-1 is negative"),
    "more than the limit": (
        member(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1001m"}}),
        f"{C0}.resources.requests.cpu",
        "1001m is more than the limit of 1",
    ),
    "device": (
        member(resources={"limits": {"example.com/gpu": "1"}}),
        f"{C0}.resources.limits[example.com/gpu]",
        "podd does not know this resource",
    ),
    "huge pages": (
        member(resources={"limits": {"hugepages-2Mi": "4Mi"}}),
        f"{C0}.resources.limits.hugepages-2Mi",
        "podd counts no huge pages",
    ),
    "thousandths of a byte": (
        member(resources={"requests": {"memory": "500m"}}),
        f"{C0}.resources.requests.memory",
        "500m is 500 thousandths",
    ),
    "more than the pod": (
        check({"resources": {"limits": {"cpu": "1"}}}, members=[{"resources": {"limits": {"cpu": "2"}}}]),
        f"{C0}.resources.limits.cpu",
        "2 is more than the pod's limit of 1",
    ),
    "an init container with more than the pod": (
        check(
            {
                "resources": {"limits": {"cpu": "1"}},
                "initContainers": [
                    {"name": "i", "image": "rootfs:/", "command": ["true"], "resources": {"limits": {"cpu": "2"}}}
                ],
            }
        ),
        "spec.initContainers[0].resources.limits.cpu",
        "2 is more than the pod's limit of 1",
    ),
    "more requested than the pod's limit": (
        check({"resources": {"limits": {"cpu": "1"}}}, members=[{"resources": {"requests": {"cpu": "600m"}}}] * 2),
        "spec.resources.limits.cpu",
        "1 is less than what the containers request together",
    ),
    "more requested than by the pod": (
        check({"resources": {"requests": {"cpu": "1"}}}, members=[{"resources": {"limits": {"cpu": "600m"}}}] * 2),
        "spec.resources.requests.cpu",
        "1 is less than what the containers request together",
    ),
    # security
    **{
        f"{name} {number}": (
            context(**{name: number}),
            f"{CONTEXT}.{name}",
            f"{number} is not between 0 and 2147483647",
        )
        for name in ("runAsUser", "runAsGroup")
        for number in (-1, 2**31, 2**32, 2**63 - 1)
    },
    "the pod's user": (
        check({"securityContext": {"runAsUser": -1}}),
        "spec.securityContext.runAsUser",
        "-1 is not between 0 and 2147483647",
    ),
    "group": (
        check({"securityContext": {"supplementalGroups": [1, 2**32]}}),
        "spec.securityContext.supplementalGroups[1]",
        "4294967296 is not between 0 and 2147483647",
    ),
    "group of files": (
        check({"securityContext": {"fsGroup": -1}}),
        "spec.securityContext.fsGroup",
        "-1 is not between 0 and 2147483647",
    ),
    "root that must not be": (
        context(runAsUser=0, runAsNonRoot=True),
        f"{CONTEXT}.runAsUser",
        "is 0, and runAsNonRoot forbids root",
    ),
    "the pod's root that must not be": (
        check({"securityContext": {"runAsUser": 0}}, members=[{"securityContext": {"runAsNonRoot": True}}]),
        f"{CONTEXT}.runAsUser",
        "is 0, and runAsNonRoot forbids root",
    ),
    "no root and no other": (
        context(runAsNonRoot=True),
        f"{CONTEXT}.runAsUser",
        "required with runAsNonRoot: a rootfs: image runs as root",
    ),
    "privileged without": (
        context(privileged=True, allowPrivilegeEscalation=False),
        f"{CONTEXT}.allowPrivilegeEscalation",
        "cannot be false where privileged is true",
    ),
    "unmasked": (context(procMount="Unmasked"), f"{CONTEXT}.procMount", "Unmasked needs hostUsers: false"),
    **{
        f"capability {name!r}": (
            context(capabilities={verb: [name]}),
            f"{CONTEXT}.capabilities.{verb}[0]",
            f'"{name}" is not a capability',
        )
        for verb, name in (("add", "CAP_KILL"), ("drop", "kill"), ("add", "all"), ("add", "NOSUCH"), ("drop", ""))
    },
    "profile without a name": (
        context(seccompProfile={"type": "Localhost"}),
        f"{CONTEXT}.seccompProfile.localhostProfile",
        "required with type Localhost",
    ),
    "profile with a name too many": (
        context(seccompProfile={"type": "Unconfined", "localhostProfile": "x"}),
        f"{CONTEXT}.seccompProfile.localhostProfile",
        "is for type Localhost, and the type is Unconfined",
    ),
    **{
        f"profile {name!r}": (
            check({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": name}}}),
            "spec.securityContext.seccompProfile.localhostProfile",
            "is not a path below the directory of profiles",
        )
        for name in ("/etc/x", "../x", "a/../../x", "a\nb")
    },
    **{
        f"sysctl {name!r}": (sysctl(name), f"{SYSCTL}.name", "is not the name of a sysctl")
        for name in ("", "net..x", "net.x ", "net.X", ".net", "net.ipv4/../../kernel", "net." + "a" * 250)
    },
    **{
        f"sysctl {name!r} of the host": (sysctl(name), f"{SYSCTL}.name", "is the whole host's")
        for name in (
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel.hostname",
            "kernel.semx",
            "network.x",
            "fs/file-max",
        )
    },
    "sysctl of the host's network": (
        sysctl("net.core.somaxconn", hostNetwork=True),
        f"{SYSCTL}.name",
        "with hostNetwork it would be the host's",
    ),
    "sysctl of the host's IPC": (
        sysctl("kernel/shmmax", hostIPC=True),
        f"{SYSCTL}.name",
        "with hostIPC it would be the host's",
    ),
    "sysctl value": (sysctl("net.x", "1\n2"), f"{SYSCTL}.value", "has control characters in it"),
    "sysctl twice": (
        check({"securityContext": {"sysctls": [{"name": n, "value": "1"} for n in ("net.x.y", "net/x/y")]}}),
        "spec.securityContext.sysctls[1].name",
        '"net/x/y" is given twice',
    ),
    "AppArmor by annotation": (
        check(meta={"annotations": {"container.apparmor.security.beta.kubernetes.io/c0": "runtime/default"}}),
        "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c0]",
        "podd does not set AppArmor profiles yet",
    ),
    "seccomp by annotation": (
        check(meta={"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}),
        "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]",
        "is read by no Kubernetes since 1.27",
    ),
}


@pytest.mark.parametrize(("found", "path", "said"), BAD.values(), ids=[name[:50] for name in BAD])
def test_bad(found: tuple[Found, Found], path: str, said: str) -> None:
    (told,) = found[0]
    assert told[0] == path
    assert said in told[1]


WARNED: dict[str, tuple[tuple[Found, Found], str, str]] = {
    "rules that change nothing": (
        restart_rules(codes(1), policy="Always"),
        f"{C0}.restartPolicyRules",
        "has no effect: with restartPolicy Always every end is a restart",
    ),
    "a name that the host has": (
        check({"hostname": "a", "hostNetwork": True}),
        "spec.hostname",
        "has no effect: with hostNetwork a pod has the host's name",
    ),
    "a part of a byte": (
        member(resources={"limits": {"memory": "1.1Gi"}}),
        f"{C0}.resources.limits.memory",
        "1.1Gi is not a whole number, and is rounded up to 1181116007",
    ),
}


@pytest.mark.parametrize(("found", "path", "said"), WARNED.values(), ids=list(WARNED))
def test_warned(found: tuple[Found, Found], path: str, said: str) -> None:
    assert found == ([], [(path, said)])
