"""From text to Pods: what is read, and what is said of what cannot be."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.model.fields import FIELDS
from podd.model.manifest import parse
from podd.model.problem import MAX_ERRORS, Problem

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "pods").glob("*.yaml"))

HEAD = "apiVersion: v1\nkind: Pod\n"
GOOD = HEAD + "metadata: {name: web}\nspec: {containers: [{name: main, image: 'rootfs:/', command: ['true']}]}\n"


def refused(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse(text, "pod.yaml")
    lines = str(caught.value).splitlines()
    told = caught.value.facts["problems"]
    assert isinstance(told, list)
    assert lines == [str(problem) for problem in told if problem.level == "error"]
    assert msgspec.convert(msgspec.to_builtins(told), list[Problem]) == told
    return lines


def remarks(text: str) -> list[str]:
    return [str(problem) for problem in parse(text, "pod.yaml").remarks]


def test_a_pod() -> None:
    read = parse(GOOD)
    (pod,) = read.pods
    assert (pod.metadata.name, pod.metadata.namespace, pod.spec.restart_policy) == ("web", "default", "Always")
    assert pod.spec.containers[0].command == ("true",)
    assert read.remarks == ()


def test_scalars_become_what_is_wanted() -> None:
    spec = """
      hostNetwork: yes
      hostPID: "off"
      terminationGracePeriodSeconds: 007
    """
    wrong = refused(HEAD + dedent(f"metadata: {{name: web}}\nspec:\n{spec}"))
    assert wrong[1:3] == [
        'pod.yaml:7:16: spec.hostPID: true or false is wanted, and "off" is a string; remove the quotes',
        "pod.yaml:8:38: spec.terminationGracePeriodSeconds: 007 is not the same number in YAML 1.1 and 1.2; "
        "write it in decimal",
    ]
    (pod,) = parse(GOOD.replace("spec: {", "spec: {hostNetwork: on, terminationGracePeriodSeconds: 7, ")).pods
    assert (pod.spec.host_network, pod.spec.termination_grace_period_seconds) == (True, 7)


def test_a_quantity_keeps_its_digits() -> None:
    text = GOOD.replace("name: main,", "name: main, resources: {limits: {cpu: 0.1, memory: 1e9, podd.io/pids: 5}},")
    (pod,) = parse(text).pods
    assert pod.spec.containers[0].resources.limits == {"cpu": "0.1", "memory": "1e9", "podd.io/pids": "5"}


def test_a_pod_that_names_no_namespace_gets_the_one_asked_for() -> None:
    text = GOOD + "---\n" + GOOD.replace("{name: web}", "{name: web, namespace: own}")
    assert [pod.metadata.namespace for pod in parse(text, "x", "asked").pods] == ["asked", "own"]


def test_lists_and_documents() -> None:
    items = "".join(f"- {line}" if n == 0 else f"  {line}" for n, line in enumerate(GOOD.splitlines(keepends=True)))
    text = f"---\n{GOOD.replace('web', 'first')}---\n# empty\n---\napiVersion: v1\nkind: List\nitems:\n{items}"
    assert [pod.metadata.name for pod in parse(text).pods] == ["first", "web"]


def test_problems_of_all_documents_are_told_with_their_places() -> None:
    text = dedent(
        """\
        apiVersion: v1
        kind: Pod
        metadata:
          name: Web
          uid: 5
          restartPolicy: Never
        spec:
          containers:
          - name: main
            image: rootfs:/
            command: [sleep, 1]
            env:
            - {name: COUNTRY, value: no}
            volumeDevices: [{name: x}]
            resources: {limits: {memory: 400m}}
          nodeSelector: {disk: fast}
        ---
        apiVersion: apps/v1
        kind: Deployment
        ---
        just text
        ---
        {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, metadata: {}, spec: {containers: []}}]}
        """
    )
    assert refused(text) == [
        'pod.yaml:4:9: metadata.name: "Web" is not an RFC 1123 subdomain; lower-case letters, digits, "-" and ".", a '
        "letter or digit at both ends, at most 253 characters",
        "pod.yaml:6:3: metadata.restartPolicy: unknown field; did you mean spec.restartPolicy?",
        'pod.yaml:11:22: spec.containers[0].command[1]: a string is wanted, and 1 is a number; quote it: "1"',
        'pod.yaml:13:30: spec.containers[0].env[0].value: a string is wanted, and no is a boolean; quote it: "no"',
        "pod.yaml:14:5: spec.containers[0].volumeDevices: podd attaches no block devices; mount the device by a "
        "hostPath volume",
        "pod.yaml:15:34: spec.containers[0].resources.limits.memory: 400m is 400 thousandths; did you mean 400M or "
        "400Mi?",
        'pod.yaml:19:7: kind: podd does not run "Deployment"; write its template (metadata and spec) as a Pod',
        "pod.yaml:21:1: a Pod is wanted, and this is a string",
        "pod.yaml:23:76: items[0].metadata.name: required",
        "pod.yaml:23:99: items[0].spec.containers: at least one container is required",
    ]


MISPLACED = {
    "metadata: {name: web, containers: []}": "metadata.containers: unknown field; did you mean spec.containers?",
    "metadata: {name: web, restartpolicy: x}": "restartpolicy: unknown field; did you mean spec.restartPolicy?",
    "metadata: {name: web, nodeselector: x}": "metadata.nodeselector: unknown field; did you mean spec.nodeSelector?",
    "metadata: {name: web, label: {}}": "metadata.label: unknown field; did you mean metadata.labels?",
    "metadata: {name: web, volumeMounts: []}": "did you mean spec.containers[].volumeMounts?",
    "metadata: {name: web, zebra: 1}": "metadata.zebra: unknown field",
    "metdata: {}": "metdata: unknown field; did you mean metadata?",
    "containers: []": "containers: unknown field; did you mean spec.containers?",
}


@pytest.mark.parametrize(("line", "said"), MISPLACED.items(), ids=list(MISPLACED))
def test_an_unknown_field_is_answered_with_the_one_that_was_meant(line: str, said: str) -> None:
    text = GOOD.replace("metadata: {name: web}", line) if line.startswith("metadata") else GOOD + line
    (told,) = refused(text)
    assert told.endswith(said)


def test_a_field_that_belongs_deeper_is_shown_with_its_index() -> None:
    (told,) = refused(GOOD.replace("name: main,", "name: main, mountPath: /x,"))
    assert told.endswith("did you mean spec.containers[0].volumeMounts[].mountPath?")


WRONG_SHAPES = {
    "spec: 5": "spec: a mapping is wanted, and this is a number",
    "spec: [a]": "spec: a mapping is wanted, and this is a list",
    "spec:": "spec: required",
    "spec: {containers: {}}": "spec.containers: a list is wanted, and this is a mapping",
    "spec: {containers: }": "spec.containers: required",
    "spec: {containers: [~]}": "spec.containers[0]: a mapping is wanted, and this is nothing (null)",
    "spec: {containers: [x]}": "spec.containers[0]: a mapping is wanted, and this is a string",
    "metadata: {name: [x]}": "metadata.name: a string is wanted, and this is a list",
    "metadata: {name: }": "metadata.name: required",
    "metadata: {name: web, labels: [x]}": "metadata.labels: a mapping is wanted, and this is a list",
    "metadata: {name: web, labels: {a: {}}}": "metadata.labels.a: a string is wanted, and this is a mapping",
    "metadata: {name: web, labels: {a: }}": 'labels.a: a string is wanted, and this is nothing (null); quote it: ""',
    'metadata: {name: web, labels: {a: "\\0"}}': "labels.a: has a NUL character, which no program can be given",
    "apiVersion: v2": 'apiVersion: podd does not run "v2"; podd runs Pods: apiVersion v1, kind Pod',
    "apiVersion:": "apiVersion: required; podd reads apiVersion: v1",
    "kind:": "kind: required; podd reads kind: Pod",
    "kind: [Pod]": 'kind: podd does not run ""; podd runs Pods: apiVersion v1, kind Pod',
    "kind: Service": 'kind: podd does not run "Service"; there is no cluster network',
    "kind: List": "items: a list of objects is wanted",
}


@pytest.mark.parametrize(("line", "said"), WRONG_SHAPES.items(), ids=list(WRONG_SHAPES))
def test_a_wrong_shape(line: str, said: str) -> None:
    key = line.partition(":")[0]
    lines = [line if given.startswith(key) else given for given in GOOD.splitlines()]
    (told,) = refused("\n".join(lines))
    assert said in told


SCALARS = {
    "hostNetwork: maybe": 'true or false is wanted, and "maybe" is a string',
    "hostNetwork: 1": 'true or false is wanted, and "1" is a number',
    'hostNetwork: "true"': 'true or false is wanted, and "true" is a string; remove the quotes',
    "hostNetwork: {}": "true or false is wanted, and this is a mapping",
    'terminationGracePeriodSeconds: "5"': "a whole number is wanted, and this is a string; remove the quotes",
    "terminationGracePeriodSeconds: 5s": 'a whole number is wanted, and "5s" is a string',
    "terminationGracePeriodSeconds: 5.0": 'a whole number is wanted, and "5.0" is a number',
    "terminationGracePeriodSeconds: .inf": 'a whole number is wanted, and ".inf" is a number',
    "terminationGracePeriodSeconds: yes": 'a whole number is wanted, and "yes" is a boolean',
    "terminationGracePeriodSeconds: 1:30": "1:30 is not the same number in YAML 1.1 and 1.2; write it in decimal",
    "terminationGracePeriodSeconds: 9223372036854775808": "is out of range",
    f"terminationGracePeriodSeconds: {'9' * 10_000}": "is out of range",
    "terminationGracePeriodSeconds: []": "a whole number is wanted, and this is a list",
    "restartPolicy: never": '"never" is not one of "Always", "Never", "OnFailure"; did you mean Never?',
    "restartPolicy: Sometimes": '"Sometimes" is not one of "Always", "Never", "OnFailure"',
    "restartPolicy: no": 'a string is wanted, and no is a boolean; quote it: "no"',
    "hostname: 2": 'a string is wanted, and 2 is a number; quote it: "2"',
    "resources: {limits: {cpu: yes}}": 'a quantity is wanted, and "yes" is a boolean',
    "resources: {limits: {cpu: }}": 'a quantity is wanted, and "" is nothing (null)',
    "resources: {limits: {cpu: []}}": "a quantity is wanted, and this is a list",
    "resources: {limits: {cpu: .inf}}": '".inf" is not a quantity like 500m, 2, 1.5Gi or 1e3',
}


MODES = {"0644": 0o644, "0400": 0o400, "0o755": 0o755, "420": 420, "0": 0, "00": 0}


@pytest.mark.parametrize(("text", "mode"), MODES.items(), ids=list(MODES))
def test_the_mode_of_a_file_may_be_octal(text: str, mode: int) -> None:
    """As in a cluster, whose YAML reads it so; of every other number it is refused."""
    config_map = f"{{name: c, defaultMode: {text}, items: [{{key: k, path: p, mode: {text}}}]}}"
    (pod,) = parse(GOOD.replace("spec: {", f"spec: {{volumes: [{{name: v, configMap: {config_map}}}], ")).pods
    volume = pod.spec.volumes[0].config_map
    assert volume is not None
    assert (volume.default_mode, volume.items[0].mode) == (mode, mode)


@pytest.mark.parametrize("text", ["0888", "0x1ff", "1_000", "'0644'", "rw-r--r--", "7:00"])
def test_what_is_no_mode(text: str) -> None:
    config_map = f"{{name: c, defaultMode: {text}}}"
    (told,) = refused(GOOD.replace("spec: {", f"spec: {{volumes: [{{name: v, configMap: {config_map}}}], "))
    assert "spec.volumes[0].configMap.defaultMode" in told


@pytest.mark.parametrize(("field", "said"), SCALARS.items(), ids=[name[:40] for name in SCALARS])
def test_a_scalar_that_does_not_fit(field: str, said: str) -> None:
    (told,) = refused(GOOD.replace("spec: {", "spec: {" + field + ", "))
    assert told.endswith(said)


def test_what_rests_on_something_unreadable_is_not_told() -> None:
    """One mistake, one message: neither the missing volume nor the volume without a source is told as well."""
    mounts = "name: main, volumeMounts: [{name: data, mountPath: /data}],"
    text = GOOD.replace("name: main,", mounts).replace("spec: {", "spec: {volumes: [{name: 5, emptyDir: {}}], ")
    assert len(refused(text)) == 1
    text = GOOD.replace("spec: {", "spec: {volumes: [{name: data, image: {reference: x}}], ")
    assert refused(text) == ["pod.yaml:4:31: spec.volumes[0].image: podd does not mount images yet"]


def test_where_a_field_stands_is_remembered_for_who_refuses_it_later() -> None:
    read = parse(GOOD + "---\n" + GOOD.replace("web", "other"), "pod.yaml")
    first, second = read.pods
    assert read.where(first, "spec.containers[0].image") == "pod.yaml:4:41"
    assert read.where(second, "spec.containers[0].image") == "pod.yaml:9:41"
    assert read.where(second, "spec.containers[0].livenessProbe.exec") == "pod.yaml:9:21"


def test_no_pod_at_all() -> None:
    assert refused("# nothing here\n---\n") == ["pod.yaml:1:1: there is no Pod in it"]


def test_one_name_twice() -> None:
    (told,) = refused(GOOD + "---\n" + GOOD)
    assert told == "pod.yaml:8:18: metadata.name: is the name of an earlier pod of this manifest"
    assert len(parse(GOOD + "---\n" + GOOD.replace("web}", "web, namespace: other}")).pods) == 2


def test_a_merged_mapping_is_read_as_if_it_were_written_there() -> None:
    members = "- &base {name: a, image: 'rootfs:/', command: ['true']}\n  - {<<: *base, name: b}"
    (pod,) = parse(HEAD + f"metadata: {{name: web}}\nspec:\n  containers:\n  {members}\n").pods
    assert [(member.name, member.image) for member in pod.spec.containers] == [("a", "rootfs:/"), ("b", "rootfs:/")]


def test_what_a_cluster_prints_of_a_pod_is_accepted() -> None:
    """The fields that an API server and its admission add, but for the token volume."""
    text = dedent(
        """\
        apiVersion: v1
        kind: Pod
        metadata:
          annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}
          creationTimestamp: "2025-01-01T00:00:00Z"
          generation: 1
          labels: {app: web}
          managedFields: [{manager: kubectl, fieldsV1: {"f:metadata": {"f:labels": {".": {}}}}}]
          name: web
          namespace: default
          resourceVersion: "1234"
          uid: 0b5f2a52-6e0d-4f0a-9b57-1d8a7f1f3c11
        spec:
          containers:
          - command: ["true"]
            image: rootfs:/
            imagePullPolicy: IfNotPresent
            name: main
            resources: {}
            terminationMessagePath: /dev/termination-log
            terminationMessagePolicy: File
          dnsPolicy: ClusterFirst
          enableServiceLinks: true
          nodeName: node-1
          preemptionPolicy: PreemptLowerPriority
          priority: 0
          restartPolicy: Always
          schedulerName: default-scheduler
          securityContext: {}
          serviceAccount: default
          serviceAccountName: default
          terminationGracePeriodSeconds: 30
          tolerations:
          - {effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists, tolerationSeconds: 300}
        status: {phase: Running, startTime: "2025-01-01T00:00:00Z"}
        """
    )
    assert [line.split(": ")[1:3] for line in remarks(text)] == [
        ["note", "metadata.creationTimestamp"],
        ["note", "metadata.generation"],
        ["note", "metadata.managedFields"],
        ["note", "metadata.resourceVersion"],
        ["note", "metadata.uid"],
        ["warning", "spec.nodeName"],
        ["warning", "spec.tolerations"],
        ["note", "status"],
    ]
    assert parse(text).pods[0].metadata.uid == ""


# ---- bounds and chance


def test_too_many_errors_end_the_reading() -> None:
    lines = refused(GOOD + "".join(f"x{number}: 1\n" for number in range(10_000)))
    assert len(lines) == MAX_ERRORS + 1
    assert lines[-1] == f"pod.yaml:{5 + MAX_ERRORS}:1: too many problems: the rest was not read"


def test_a_manifest_of_the_largest_size_is_read_in_bounded_time() -> None:
    text = (GOOD + "---\n").replace("web", "web-{number}")
    many = "".join(text.replace("{number}", str(number)) for number in range(8_000))
    started = time.process_time()
    assert len(parse(many).pods) == 8_000
    assert time.process_time() - started < 60


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_damaged_manifest_is_read_or_refused(path: Path) -> None:
    """Never anything but Invalid, whose message has a place in every line."""
    chance = random.Random(path.name)
    text = path.read_text()
    for _ in range(300):
        damaged = list(text)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.choice((0, 1, 1, 9))] = chance.choice(
                ["", " ", "\n", ":", "- ", "{", "&a ", "*a", "\0"]
            )
        said = ""
        try:
            parse("".join(damaged), "x")
        except Invalid as exc:
            said = str(exc)
        assert all(line.startswith("x:") for line in said.splitlines())


NAMES = sorted({name for rows in FIELDS.values() for name in rows})
LEAVES = st.text(max_size=8) | st.integers() | st.booleans() | st.none() | st.sampled_from(["1Gi", "/a", "rootfs:/"])


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner)))
def test_any_value_is_read_or_refused(value: object) -> None:
    with contextlib.suppress(Invalid):
        parse(msgspec.json.encode({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": value}))


def test_remarks_stand_with_their_pod() -> None:
    def one(name: str, more: str) -> str:
        member = '{name: a, image: "rootfs:/", command: [x]}'
        return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{member}]{more}}}\n"

    read = parse("---\n".join([one("a", ", nodeName: x"), one("b", ""), one("c", ", priority: 3, nodeName: y")]))
    assert [len(read.remarks_of(pod)) for pod in read.pods] == [1, 0, 2]
    assert [remark.path for remark in read.remarks] == ["spec.nodeName", "spec.priority", "spec.nodeName"]
