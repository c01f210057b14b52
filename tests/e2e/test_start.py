"""All members or none: no member runs an instruction before all can, and what cannot run leaves nothing."""

from __future__ import annotations

import json

import pytest
from real import MOUNT, Podd, manifest, sh, shared, sleeper, until

pytestmark = [pytest.mark.root, pytest.mark.parametrize("driver", ["setns", "runc"])]


def marks(podd: Podd) -> list[str]:
    return sorted(p.name for p in podd.shared.iterdir())


def marking(name: str) -> dict[str, object]:
    """Writes a file as its very first act."""
    return sh(name, f": > /shared/{name}; trap 'exit 0' TERM; sleep infinity & wait", **MOUNT)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"command": ["/no/such/program"]}, "/no/such/program"),
        ({"command": ["nowhere-in-path"]}, "nowhere-in-path"),
        ({"command": ["/etc/passwd"]}, "/etc/passwd"),
        ({"command": ["/etc"]}, "/etc"),
        ({"command": ["/shared/script"], **MOUNT}, "/no/interpreter"),
        ({"command": ["/bin/sh"], "securityContext": {"runAsNonRoot": True}}, "runAsNonRoot"),
        ({"image": "rootfs:/no/such/directory", "command": ["/bin/sh"]}, "/no/such/directory"),
    ],
    ids=["path", "name", "mode", "directory", "interpreter", "root", "rootfs"],
)
@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_one_member_that_cannot_run_undoes_all(podd: Podd, bad: dict[str, object], why: str, policy: str) -> None:
    script = podd.shared / "script"
    script.write_text("#!/no/interpreter\n")
    script.chmod(0o755)
    before = podd.snapshot()
    out = podd.apply(
        manifest("p", marking("a"), {"name": "bad", **bad}, marking("c"), restartPolicy=policy, **shared(podd)),
        status=1,
    )
    assert why in out
    assert marks(podd) == ["script"]
    if "runAsNonRoot" in why or "refused" in out:
        return
    status = podd.status("p")
    assert status["phase"] == ("Failed" if policy == "Never" else "Pending")
    (culprit,) = [c for c in status["containerStatuses"] if c["name"] == "bad"]
    assert why in json.dumps(culprit["state"])
    podd.assert_clean(before)
    assert why in podd.cli("events", "p")


def test_a_missing_host_path_is_named(podd: Podd) -> None:
    volume = {"volumes": [{"name": "v", "hostPath": {"path": "/no/such", "type": "Directory"}}]}
    out = podd.apply(manifest("p", sleeper("a"), **volume), status=1)
    assert "/no/such" in out
    assert podd.status("p")["reason"] == "FailedMount"


def test_members_are_released_together_and_the_spread_is_told(podd: Podd) -> None:
    podd.apply(manifest("p", *[marking(n) for n in "abcde"], **shared(podd)))
    until(lambda: marks(podd) == list("abcde"), "all have run")
    measured = podd.status("p")["podd"]
    assert 0 <= measured["startSkewUs"] < 100_000
    assert measured["startTookUs"] > 0


def test_documents_are_accepted_together_or_not_at_all(podd: Podd) -> None:
    good, bad = manifest("good", sleeper("a")), manifest("bad", sleeper("a"), restartPolicy="Sometimes")
    out = podd.apply(f"{good}\n---\n{bad}", status=1)
    assert "restartPolicy" in out
    assert podd.pods() == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p, restartPolicy: Never}\nspec: {containers: []}\n", ":3:"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n    imagee: x\n", ":7:5"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: 3}\n", ":4:"),
        ("apiVersion: v1\nkind: Deployment\nmetadata: {name: p}\n", "Deployment"),
        ("a: [1\n", ":2:"),
        ("\x00", ":1:1"),
        ("x: &a [*a]\n", ""),
    ],
)
def test_bad_yaml_is_refused_with_its_place(podd: Podd, text: str, where: str) -> None:
    out = podd.apply(text, status=1)
    assert where in out
    assert podd.pods() == []


def test_a_tight_processor_limit_binds_the_program_and_not_its_start(podd: Podd) -> None:
    tight = {"resources": {"limits": {"cpu": "10m"}}}
    podd.apply(manifest("p", sleeper("a", **tight), sleeper("b", **tight)))
    assert podd.status("p")["podd"]["startTookUs"] < 500_000
    nodes = json.loads(podd.cli("tree", "p", "-o", "json"))
    nodes = nodes["nodes"] if isinstance(nodes, dict) else nodes
    assert {n["name"]: n["limits"]["cpu_quota_us"] for n in nodes if n["name"] in "ab"} == {"a": 1000, "b": 1000}
    assert nodes[0]["limits"]["cpu_quota_us"] == 2000
