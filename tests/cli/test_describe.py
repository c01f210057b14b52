from __future__ import annotations

from collections.abc import Iterator

from cli.conftest import Run
from cli.fake_daemon import Answer, Call, FakeDaemon, Json, Refusal
from cli.samples import ago

POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "hello",
        "namespace": "default",
        "uid": "6c1f5e3a-0000-4000-8000-000000000001",
        "creationTimestamp": "2026-11-23T11:59:58Z",
        "labels": {"app": "web", "tier": "front"},
    },
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "rootfs:/",
                "command": ["python3", "-m", "http.server"],
                "args": ["8000", "two\nlines\n"],
                "ports": [
                    {"containerPort": 8000, "hostPort": 80, "name": "http"},
                    {"containerPort": 53, "hostPort": 53, "hostIP": "192.0.2.1", "protocol": "UDP"},
                    {"containerPort": 9},
                ],
                "env": [{"name": "LANG", "value": "C.UTF-8"}, {"name": "EMPTY"}],
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi", "podd.io/pids": 100}},
                "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "etc", "mountPath": "/e", "readOnly": True},
                ],
            },
            {"name": "db", "image": "rootfs:/srv/db"},
        ],
        "volumes": [
            {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
            {"name": "etc", "hostPath": {"path": "/etc", "type": "Directory"}},
        ],
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": 5,
    },
    "status": {
        "phase": "Running",
        "podIP": "10.86.0.2",
        "podIPs": [{"ip": "10.86.0.2"}, {"ip": "fd86::2"}],
        "startTime": "2026-11-23T12:00:00Z",
        "qosClass": "Burstable",
        "conditions": [
            {"type": "Initialized", "status": "True", "lastTransitionTime": "", "reason": "", "message": ""},
            {
                "type": "Ready",
                "status": "False",
                "lastTransitionTime": "",
                "reason": "ContainersNotReady",
                "message": "",
            },
        ],
        "containerStatuses": [
            {
                "name": "web",
                "state": {"running": {"startedAt": "2026-11-23T12:00:00.25Z"}},
                "lastState": {},
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": "rootfs:/",
                "containerID": "setns://0011223344556677",
                "imageID": "",
                "pid": 4711,
            },
            {
                "name": "db",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "the back-off has not passed"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 137,
                        "signal": 9,
                        "reason": "OOMKilled",
                        "message": "",
                        "startedAt": "2026-11-23T12:00:00Z",
                        "finishedAt": "2026-11-23T12:01:00Z",
                        "containerID": "8899aabbccddeeff",
                    }
                },
                "ready": False,
                "started": False,
                "restartCount": 3,
                "image": "rootfs:/srv/db",
                "containerID": "setns://8899aabbccddeeff",
                "imageID": "",
                "pid": None,
            },
        ],
        "podd": {
            "driver": "setns",
            "sandboxId": "00112233aabbccdd",
            "sandboxState": "Ready",
            "cgroup": "podd/pods/00112233aabbccdd",
            "startSkewUs": 212,
            "startTookUs": 9870,
            "restarts": 1,
        },
    },
}

PAGE = """\
Name:           hello
Namespace:      default
UID:            6c1f5e3a-0000-4000-8000-000000000001
Driver:         setns
Sandbox:        00112233aabbccdd (Ready, replaced once)
Cgroup:         podd/pods/00112233aabbccdd
Created:        Mon, 23 Nov 2026 11:59:58 +0000
Start Time:     Mon, 23 Nov 2026 12:00:00 +0000
Labels:         app=web
                tier=front
Annotations:    <none>
Status:         CrashLoopBackOff
Phase:          Running
IP:             10.86.0.2, fd86::2
Shares:         net: pod, ipc: pod, uts: pod, pid: pod
Restart Policy: Always
Grace Period:   5s
QoS Class:      Burstable
Last Start:     2 containers released within 0.212 ms, 9.9 ms after the decision
Containers:
  web:
    Container ID:   setns://0011223344556677
    Image:          rootfs:/
    PID:            4711
    Command:
      python3
      -m
      http.server
    Args:
      8000
      two
      lines
    State:          Running
      Started:      Mon, 23 Nov 2026 12:00:00 +0000
    Ready:          True
    Restart Count:  0
    Limits:
      cpu:           500m
      memory:        64Mi
      podd.io/pids:  100
    Ports:          8000/TCP (http) from 80 of the host, 53/UDP from 53 of the host at 192.0.2.1, 9/TCP
    Environment:
      LANG:   C.UTF-8
      EMPTY:
    Mounts:
      /data from data (rw)
      /e from etc (ro)
  db:
    Container ID:   setns://8899aabbccddeeff
    Image:          rootfs:/srv/db
    State:          Waiting
      Reason:       CrashLoopBackOff
      Message:      the back-off has not passed
    Last State:     Terminated
      Reason:       OOMKilled
      Exit Code:    137
      Signal:       9
      Started:      Mon, 23 Nov 2026 12:00:00 +0000
      Finished:     Mon, 23 Nov 2026 12:01:00 +0000
    Ready:          False
    Restart Count:  3
    Environment:    <none>
    Mounts:         <none>
Conditions:
  Type          Status   Reason
  Initialized   True
  Ready         False    ContainersNotReady
Volumes:
  data:
    Type:           emptyDir (in memory, gone with the pod)
    Size Limit:     16Mi
  etc:
    Type:           hostPath (Directory)
    Path:           /etc
Events:
  Type      Reason    Age        Container   Message
  ----      ------    ---        ---------   -------
  Normal    Created   12d                    made
  Warning   BackOff   12d (x3)   db          restarting \\x1b[31mdb
"""


def events(_: Call) -> Iterator[Answer | Json]:
    event = {"time": ago(days=12, hours=2), "pod": "hello", "namespace": "default", "uid": POD["metadata"]["uid"]}
    normal = {**event, "type": "Normal", "reason": "Created", "message": "made", "container": "", "count": 1}
    warning = {
        "type": "Warning",
        "reason": "BackOff",
        "message": "restarting \x1b[31mdb",
        "container": "db",
        "count": 3,
    }
    yield {"events": [normal]}
    yield {"events": [{**event, **warning}]}
    yield {"events": []}


def test_page(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers |= {"Get": lambda _: {"pod": POD}, "Events": events}
    result = run("describe", "pod", "hello")
    assert result.out.splitlines() == PAGE.splitlines()
    assert (result.status, result.err) == (0, "")
    assert daemon.asked("Events") == [{"name": POD["metadata"]["uid"]}]


def test_pod_of_which_nothing_is_known_yet(run: Run, daemon: FakeDaemon) -> None:
    new = {**POD, "spec": {"containers": [{"name": "web"}]}, "status": {"phase": "Pending"}}
    daemon.answers |= {"Get": lambda _: {"pod": new}, "Events": lambda _: [{"events": []}]}
    result = run("describe", "pod/hello")
    assert result.status == 0
    assert {"Driver:         <none>", "    State:          Unknown", "Events:  <none>"} <= set(result.lines)


def test_failed_start_tells_why(run: Run, daemon: FakeDaemon) -> None:
    why = {"phase": "Failed", "reason": "CreateContainerError", "message": 'web: "nope": not found\nin $PATH'}
    daemon.answers |= {"Get": lambda _: {"pod": {**POD, "status": why}}, "Events": lambda _: [{"events": []}]}
    lines = run("describe", "pod", "hello").lines
    assert 'Message:        web: "nope": not found' in lines
    assert "                in $PATH" in lines


def test_a_static_pod_names_its_file(run: Run, daemon: FakeDaemon) -> None:
    ours = {"driver": "setns", "source": "/etc/podd/pods.d/web.yaml"}
    static = {**POD, "status": {"phase": "Running", "podd": ours}}
    daemon.answers |= {"Get": lambda _: {"pod": static}, "Events": lambda _: [{"events": []}]}
    assert "Manifest:       /etc/podd/pods.d/web.yaml" in run("describe", "pod", "hello").lines


def test_several_pods_and_one_that_is_missing(run: Run, daemon: FakeDaemon) -> None:
    def get(call: Call) -> Json:
        if call.parameters["name"] == "missing":
            raise Refusal("NotFound", "pod missing: not found")
        return {"pod": POD}

    daemon.answers |= {"Get": get, "Events": events, "List": lambda _: {"pods": [POD, POD]}}
    result = run("describe", "pod", "hello", "missing", "hello")
    assert result.status == 1
    assert result.out == f"{PAGE}\n\n{PAGE}"
    assert run("describe", "pods").out == f"{PAGE}\n\n{PAGE}"
