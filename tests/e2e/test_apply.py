"""A manifest that changes: the real daemon does the least, and never gives up what runs for what cannot."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from real import MOUNT, Podd, alive, manifest, sh, shared, sleeper, until

pytestmark = pytest.mark.root


def labelled(text: str, **labels: str) -> str:
    pod = json.loads(text)
    pod["metadata"]["labels"] = labels
    return json.dumps(pod)


def bounded(memory: str, cpu: str = "500m") -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory, "cpu": cpu}}}


def limits(podd: Podd, name: str) -> dict[str, dict[str, Any]]:
    nodes = json.loads(podd.cli("tree", name, "-o", "json"))
    return {n["name"]: n["limits"] for n in (nodes["nodes"] if isinstance(nodes, dict) else nodes)}


def uid(podd: Podd, name: str) -> str:
    return podd.pod(name)["metadata"]["uid"]  # type: ignore[no-any-return]


def test_the_same_changes_nothing(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    pids = podd.pids("p")
    assert podd.apply(manifest("p", sleeper("a"), restartPolicy="Always")) == "pod/p unchanged: Running\n"
    assert podd.pids("p") == pids
    (podd.shared / "p.yaml").write_text(manifest("p", sleeper("a")))
    assert podd.cli("diff", "-f", podd.shared / "p.yaml") == ""


def test_a_label_is_taken_in_place(podd: Podd) -> None:
    text = manifest("p", sleeper("a"))
    podd.apply(labelled(text, app="web"))
    pids = podd.pids("p")
    assert podd.apply(labelled(text, app="db", tier="back")) == "pod/p amended: Running\n"
    assert podd.pids("p") == pids
    assert podd.cli("get", "pods", "-l", "app=db,tier in (back),!old", "-o", "name") == "pod/p\n"
    podd.kill()
    podd.start()
    assert podd.pod("p")["metadata"]["labels"] == {"app": "db", "tier": "back"}
    assert "is there with the value" in podd.cli("label", "pod", "p", "app=x", status=1)
    podd.cli("label", "pod", "p", "app=x", "tier-", "--overwrite")
    podd.cli("annotate", "pods", "-l", "app=x", "note=a b")
    meta = podd.pod("p")["metadata"]
    assert (meta["labels"], meta["annotations"]) == ({"app": "x"}, {"note": "a b"})
    assert podd.pids("p") == pids
    assert podd.cli("delete", "pods", "-l", "app=x", "--now") == "pod/p deleted\n"


def test_limits_are_changed_while_it_runs(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a", **bounded("64Mi")), sleeper("b", **bounded("64Mi"))))
    pids = podd.pids("p")
    text = manifest("p", sleeper("a", **bounded("128Mi", "250m")), sleeper("b", **bounded("64Mi")))
    plan = podd.cli("apply", "-f", "-", "--dry-run", stdin=text)
    assert '  spec.containers[0].resources.limits.memory: "64Mi" -> "128Mi"' in plan.splitlines()
    assert podd.apply(text) == "pod/p resized: Running\n"
    assert podd.pids("p") == pids
    assert (limits(podd, "p")["a"]["memory_bytes"], limits(podd, "p")["a"]["cpu_quota_us"]) == (128 << 20, 25_000)
    assert podd.apply(text) == "pod/p unchanged: Running\n"


def test_another_command_recreates_when_the_new_one_is_prepared(podd: Podd) -> None:
    """The old one ends slowly; meanwhile the new one is there, and no instruction of it has run."""
    slow = sh("a", "trap 'sleep 1; : > /shared/ended; exit 0' TERM; sleep infinity & wait", **MOUNT)
    fast = sh("a", "test -e /shared/ended && : > /shared/after; sleep infinity & wait", **MOUNT)
    podd.apply(manifest("p", slow, **shared(podd)))
    old, pids = uid(podd, "p"), podd.pids("p")
    text = manifest("p", fast, **shared(podd))
    diff = podd.cli("diff", "-f", "-", stdin=text, status=1)
    assert "@@ spec.containers[0].command @@ recreate" in diff.splitlines()
    assert podd.cli("apply", "-f", "-", stdin=text) == "pod/p recreated\n"
    until(lambda: podd.status("p").get("reason") == "Terminating", "the new one is prepared")
    assert alive(pids["a"])
    assert uid(podd, "p") == old
    until(lambda: uid(podd, "p") != old, "the new one has taken its place")
    assert podd.apply(text) == "pod/p unchanged: Running\n"
    assert not alive(pids["a"])
    until((podd.shared / "after").exists, "the new one has run")


def test_a_new_one_that_cannot_start_leaves_the_old_one_alone(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), sleeper("b")))
    old, pids = uid(podd, "p"), podd.pids("p")
    before = podd.snapshot()
    bad = manifest("p", sleeper("a"), {"name": "b", "command": ["/no/such/program"]})
    out = podd.apply(bad, status=1)
    assert out.startswith("podd-cli: pod/p: kept as it is, because another could not take its place: ")
    assert "/no/such/program" in out
    assert (uid(podd, "p"), podd.pids("p")) == (old, pids)
    assert [c["restartCount"] for c in podd.status("p")["containerStatuses"]] == [0, 0]
    podd.assert_clean(before)
    assert "FailedRecreate" in podd.cli("events", "p")
    assert podd.apply(manifest("p", sleeper("a"), sleeper("b"))) == "pod/p unchanged: Running\n"


def test_documents_are_judged_together(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a")))
    pids = podd.pids("p")
    wrong = manifest("w", sleeper("a"), runtimeClassName="nobody")
    both = f"{labelled(manifest('p', sleeper('a')), app='web')}\n---\n{manifest('q', sleeper('a'))}\n---\n{wrong}"
    plan = podd.cli("apply", "-f", "-", "--dry-run", stdin=both, status=1)
    assert [line for line in plan.splitlines() if "dry run" in line] == [
        "pod/p amended (dry run)",
        "pod/q created (dry run)",
    ]
    podd.apply(both, status=1)
    assert podd.pids("p") == pids
    assert "labels" not in podd.pod("p")["metadata"]
    assert [p["metadata"]["name"] for p in podd.pods()] == ["p"]


def test_what_must_go_on_all_the_same(podd: Podd) -> None:
    text = manifest("p", sleeper("a"), overhead={"cpu": 1})
    assert "overhead" in podd.apply(text, status=1)
    assert podd.apply(text, "--strict=warn") == "pod/p created: Running\n"
    insecure = manifest("q", sleeper("a", securityContext={"appArmorProfile": {"type": "RuntimeDefault"}}))
    assert "appArmorProfile" in podd.apply(insecure, "--strict=warn", status=1)
    (podd.shared / "p.yaml").write_text(text)
    assert podd.cli("delete", "-f", podd.shared / "p.yaml", "--now") == "pod/p deleted\n"
    assert "there is none" in podd.cli("delete", "-f", podd.shared / "p.yaml", status=1)
    assert podd.cli("delete", "-f", podd.shared / "p.yaml", "--ignore-not-found") == ""


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_in_the_middle_of_a_replacement_is_made_good(podd: Podd, seed: int) -> None:
    """One of the two runs in the end, and nothing else is left. The first points are those of taking up what runs."""
    dice = random.Random(seed)
    first = manifest("p", sleeper("a"), sleeper("b"))
    for n, point in enumerate(sorted(dice.sample(range(15, 55), 2))):
        podd.apply(first)
        podd.stop()
        podd.start(PODD_FAILPOINT=f"any:{point}")
        changed = manifest("p", sleeper("a"), sleeper("b"), terminationGracePeriodSeconds=20 + n)
        podd.cli("apply", "-f", "-", "--wait", stdin=changed, status=None)
        podd.kill()
        podd.start()

        def rests() -> bool:
            (pod,) = podd.pods()
            return pod["status"]["phase"] == "Running" and len(podd.pids("p")) == 2 and "reason" not in pod["status"]

        until(rests, f"after a kill at point {point} one pod runs")
        assert podd.apply(changed).endswith(": Running\n")
        grace = podd.pod("p")["spec"]["terminationGracePeriodSeconds"]
        assert grace == 20 + n
        assert all(map(alive, podd.pids("p").values()))


def test_reload(podd: Podd) -> None:
    config = podd.folder / "podd.toml"
    assert podd.cli("reload") == "no key changed\n"
    config.write_text(config.read_text().replace('log_level = "debug"', 'log_level = "info"'))
    assert podd.cli("reload") == "daemon.log_level changed\n"
    config.write_text("nonsense = 1\n")
    assert "nonsense" in podd.cli("reload", status=1)


def test_a_folder_is_one_manifest(podd: Podd) -> None:
    folder = podd.folder / "shared"
    uses = sleeper("a", envFrom=[{"configMapRef": {"name": "settings"}}])
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"KEY": "value"}}
    (folder / "a.yaml").write_text(manifest("web", uses))
    (folder / "b.json").write_text(json.dumps(settings))
    (folder / "c.yml").write_text(manifest("other", sleeper("a"), restartPolicy="Sometimes"))
    assert f"{folder}/c.yml:1:" in podd.cli("apply", "-f", folder, status=1)
    assert podd.pods() == []
    (folder / "c.yml").write_text(manifest("other", sleeper("a")))
    said = podd.cli("apply", "-f", folder, "--wait").splitlines()
    assert sorted(said) == ["configmap/settings created", "pod/other created: Running", "pod/web created: Running"]
    assert podd.cli("exec", "web", "--", "sh", "-c", "echo $KEY") == "value\n"
    assert podd.cli("diff", "-f", folder) == ""
