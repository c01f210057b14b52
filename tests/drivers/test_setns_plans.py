"""What the setns driver is told becomes what a shim is told; its section of the configuration becomes its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.driver.contract import ContainerConfig, Limits, Mount, NamespaceScopes, SandboxConfig, Security
from podd.driver.hookspecs import DriverPaths
from podd.errors import Invalid, Unsupported
from podd.images.storage import ImageConfig
from podd.linux import capabilities
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd.supervision import plans
from podd.supervision.section import Section, parse

PLACES = plans.Places.of(DriverPaths(run_dir="/run/podd", state_dir="/var/lib/podd", log_dir="/var/log/podd"), "podd")
SANDBOX = SandboxConfig(
    id=SandboxId("0123456789abcdef"),
    pod_uid=PodUid("u"),
    pod_name="web",
    pod_namespace="default",
    attempt=0,
    hostname="web",
)
CONTAINER = ContainerConfig(
    id=ContainerId("fedcba9876543210"),
    sandbox_id=SANDBOX.id,
    name="app",
    attempt=0,
    image="rootfs:/srv/app",
    command=("a",),
    args=("b", "c"),
)


ROOT = plans.Root(["/srv/app"])


def container(**changes: Any) -> dict[str, Any]:
    return dict(plans.container_plan(msgspec.structs.replace(CONTAINER, **changes), ROOT, Section()))


# ---- the section -----------------------------------------------------------------------------------------------------

SECTIONS: dict[str, tuple[Mapping[str, Any], str]] = {
    "a misspelt key": ({"cgroup_parnet": "x"}, "drivers.setns.cgroup_parnet: unknown key; did you mean cgroup_parent?"),
    "a strange key": ({"colour": 1}, "unknown key; known are cgroup_parent, log_max_bytes, log_max_files"),
    "a wrong type": ({"cgroup_parent": 7}, "drivers.setns.cgroup_parent: expected `str`, got `int`"),
    "too small": ({"log_max_bytes": 1}, "drivers.setns.log_max_bytes: expected `int` >= 4096"),
    "a path that is none": ({"cgroup_parent": "/podd"}, "without a leading /"),
    "a path that climbs": ({"cgroup_parent": "a/../.."}, "drivers.setns.cgroup_parent: "),
}


@pytest.mark.parametrize(("section", "words"), SECTIONS.values(), ids=SECTIONS)
def test_a_section_that_is_wrong_is_refused_by_its_key(section: Mapping[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse("setns", section, Section)
    assert words in str(refused.value)


def test_a_section() -> None:
    assert parse("setns", {}, Section) == Section()
    section = parse("setns", {"cgroup_parent": "my.slice/podd", "log_max_bytes": 4096, "log_max_files": 2}, Section)
    plan = plans.container_plan(CONTAINER, ROOT, section)
    assert (plan["log_max_bytes"], plan["log_max_files"]) == (4096, 2)


# ---- sandboxes -------------------------------------------------------------------------------------------------------


def test_sandbox_plan_names_its_places() -> None:
    plan = plans.sandbox_plan(SANDBOX, PLACES)
    assert (plan["run_dir"], plan["containers_dir"], plan["cgroup"]) == (
        "/run/podd/pods/0123456789abcdef",
        "/var/lib/podd/containers",
        "podd/0123456789abcdef",
    )
    assert plan["meta"] == {"uid": "u", "name": "web", "namespace": "default"}
    swept = PLACES.sweep_plan(SANDBOX.id)
    assert all(plan[key] == swept[key] for key in ("id", "run_dir", "containers_dir", "cgroup"))


def test_hostname_is_the_nodes_where_its_namespace_is() -> None:
    node = msgspec.structs.replace(SANDBOX, namespaces=NamespaceScopes(uts="node"))
    assert (plans.sandbox_plan(SANDBOX, PLACES)["hostname"], plans.sandbox_plan(node, PLACES)["hostname"]) == (
        "web",
        "",
    )


@pytest.mark.parametrize("name", ["net", "ipc", "uts"])
def test_namespaces_of_single_containers_are_not_to_be_had(name: str) -> None:
    scopes = msgspec.convert({name: "container"}, NamespaceScopes)
    with pytest.raises(Unsupported, match=name):
        plans.sandbox_plan(msgspec.structs.replace(SANDBOX, namespaces=scopes), PLACES)


# ---- containers ------------------------------------------------------------------------------------------------------


def test_command_and_args_become_one_line() -> None:
    assert container()["argv"] == ["a", "b", "c"]
    assert container(command=())["argv"] == ["b", "c"]


IMAGE = ImageConfig(
    user="app",
    env=[("A", "image"), ("B", "image")],
    entrypoint=["/entry", "-x"],
    cmd=["cmd"],
    working_dir="/srv",
    stop_signal="SIGINT",
)


def of_image(image: ImageConfig = IMAGE, **changes: Any) -> dict[str, Any]:
    config = msgspec.structs.replace(CONTAINER, **{"image": "app:1", "command": (), "args": (), **changes})
    return dict(plans.container_plan(config, plans.Root(["/top", "/below"], image), Section()))


@pytest.mark.parametrize(
    ("given", "argv"),
    [
        ({}, ["/entry", "-x", "cmd"]),
        ({"args": ("a",)}, ["/entry", "-x", "a"]),
        ({"command": ("c",)}, ["c"]),
        ({"command": ("c",), "args": ("a",)}, ["c", "a"]),
    ],
)
def test_a_command_replaces_all_that_the_image_runs_and_args_its_cmd(given: dict[str, Any], argv: list[str]) -> None:
    assert of_image(**given)["argv"] == argv


def test_what_the_pod_says_comes_after_what_the_image_says() -> None:
    plan = of_image(env=(("B", "pod"),))
    assert dict(plan["env"]) == {"A": "image", "B": "pod"}
    assert (plan["working_dir"], plan["image_user"], plan["lowers"]) == ("/srv", "app", ["/top", "/below"])
    assert of_image(working_dir="/x")["working_dir"] == "/x"


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        (["/data", "data/", "//data/."], ["/data"]),
        (["/b/c", "/b", "/a"], ["/a", "/b", "/b/c"]),
        (["../../etc/x", "/.."], ["/etc/x"]),
        (["/", "", "/proc/x", "/sys", "/dev/shm", "/development"], ["/development"]),
        (["/mounted", "/mounted/below", "/mountedbeside"], ["/mountedbeside"]),
    ],
)
def test_volumes_of_an_image(volumes: list[str], expected: list[str]) -> None:
    mounted = Mount(host_path="/srv", container_path="/mounted/")
    assert of_image(ImageConfig(cmd=["x"], volumes=volumes), mounts=(mounted,))["image_volumes"] == expected


@given(paths=st.lists(st.text(st.sampled_from("./ab~\n"), max_size=12)))
def test_volumes_of_an_image_never_lead_out(paths: list[str]) -> None:
    for path in of_image(ImageConfig(cmd=["x"], volumes=paths))["image_volumes"]:
        assert path.startswith("/")
        assert path != "/"
        assert not {"", ".", ".."} & set(path[1:].split("/")), path


@pytest.mark.parametrize(
    "image",
    [
        ImageConfig(cmd=["a\0b"]),
        ImageConfig(cmd=["x"], env=[("A", "\0")]),
        ImageConfig(cmd=["x"], user="\0"),
        ImageConfig(cmd=["x"], working_dir="/\0"),
        ImageConfig(cmd=["x"], volumes=["/\0"]),
        ImageConfig(),
    ],
)
def test_what_no_image_may_say(image: ImageConfig) -> None:
    with pytest.raises(Invalid):
        of_image(image)


def test_paths_that_show_the_host_are_hidden_unless_told_otherwise() -> None:
    default = container()
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(default["masked_paths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(default["read_only_paths"])
    unmasked = container(security=Security(unmasked_proc=True))
    assert not [path for path in unmasked["masked_paths"] + unmasked["read_only_paths"] if path.startswith("/proc")]
    privileged = container(security=Security(privileged=True))
    assert privileged["masked_paths"] + privileged["read_only_paths"] == []
    assert privileged["capabilities"] == capabilities.ALL


def test_nothing_is_shared_between_two_plans() -> None:
    first, second = container(), container()
    assert first == second
    for key, value in first.items():
        if isinstance(value, list | dict):
            assert value is not second[key], key


strings = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
names = strings.filter(lambda name: name and "=" not in name)


@given(
    command=st.lists(strings, min_size=1).map(tuple),
    env=st.lists(st.tuples(names, strings)).map(tuple),
    uid=st.none() | st.integers(0, 2**32 - 2),
    groups=st.lists(st.integers(0, 2**32 - 2)).map(tuple),
    memory=st.none() | st.integers(1, 2**60),
    paths=st.lists(strings.map("/{}".format)),
)
def test_a_plan_is_json_and_says_what_was_asked(
    command: tuple[str, ...],
    env: tuple[tuple[str, str], ...],
    uid: int | None,
    groups: tuple[int, ...],
    memory: int | None,
    paths: list[str],
) -> None:
    plan = container(
        command=command,
        args=(),
        env=env,
        limits=Limits(memory_bytes=memory),
        mounts=tuple(Mount(host_path=path, container_path=path, read_only=True) for path in paths),
        security=Security(uid=uid, supplemental_groups=groups),
    )
    again = json.loads(json.dumps(plan))
    assert again["argv"] == list(command)
    assert [tuple(pair) for pair in again["env"]] == list(env)
    assert (again["uid"], again["supplemental_groups"], again["limits"]["memory_bytes"]) == (uid, list(groups), memory)
    assert [mount["container_path"] for mount in again["mounts"]] == paths
