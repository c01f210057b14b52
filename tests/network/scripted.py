"""Networks of plugins that do what a test says: they keep a file for each pod, and fail as scripted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from real import until

from podd.driver.hookspecs import NetworkPlaces
from podd.network.call import Wanted
from podd.network.network import Networks

PLUGIN = """\
#!/bin/sh
# Called with CNI_*. $top/fault/<plugin>.<command> names what goes wrong, one word a call, "-" for nothing.
me=${0##*/}; top=${0%/*/*}
cat >"$top/stdin/$me.$CNI_COMMAND"
echo "$CNI_COMMAND $me ${CNI_NETNS:--}" >>"$top/calls"
fault=-
if read -r fault rest <"$top/fault/$me.$CNI_COMMAND"; then echo "$rest" >"$top/fault/$me.$CNI_COMMAND"; fi 2>/dev/null
case ${fault:=-} in
    fail) echo '{"code": 999, "msg": "as scripted"}'; exit 1 ;;
    hang) exec sleep 600 ;;
    word) echo oops >&2; exit 3 ;;
    wait) until [ -e "$top/go" ]; do sleep 0.01; done ;;
esac
case $CNI_COMMAND in
    ADD) echo "$me" >"$top/kept/$me.$CNI_CONTAINERID"
        result='{"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.9/8"}], "by": "'$me'"}' ;;
    DEL) rm -f "$top/kept/$me.$CNI_CONTAINERID" ;;
esac
case $fault in
    late) echo '{"code": 999, "msg": "done, and failed"}'; exit 1 ;;
    dies) kill -9 $$ ;;
    garbage) result='{"ips": [' ;;
    flood) head -c 2000000 /dev/zero ;;
esac
[ $CNI_COMMAND != ADD ] || echo "$result"
"""


class Scripted:
    """A folder with a network of the plugins "first" and "second"; the second maps ports."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in ("bin", "stdin", "fault", "kept", "conf", "cache"):
            (top / name).mkdir()
        for name in ("first", "second"):
            (top / "bin" / name).write_text(PLUGIN)
            (top / "bin" / name).chmod(0o755)
        self.configure()
        self.places = NetworkPlaces(
            conf_dir=str(top / "conf"),
            bin_dirs=[str(top / "none"), str(top / "bin"), "/usr/lib/cni"],
            cache_dir=str(top / "cache"),
        )

    def configure(self, **keys: Any) -> None:
        plugins = [{"type": "first", "colour": "red"}, {"type": "second", "capabilities": {"portMappings": True}}]
        text = json.dumps({"name": "net", "cniVersion": "1.0.0", "plugins": plugins, **keys})
        (self.top / "conf" / "10.conflist").write_text(text)

    def networks(self, driver: str = "setns") -> Networks:
        """As a podd that was just started has them."""
        return Networks(driver, self.places)

    def fault(self, plugin: str, command: str, *words: str) -> None:
        """What its next calls do."""
        (self.top / "fault" / f"{plugin}.{command}").write_text(" ".join(words) + "\n")

    def calls(self) -> list[str]:
        """Since it was last asked."""
        path = self.top / "calls"
        found = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return found

    def until_called(self) -> None:
        """Return when a plugin runs. Blocks."""
        calls = self.top / "calls"
        until(lambda: calls.exists() and calls.read_text() != "", "a plugin is called")

    def stdin(self, plugin: str, command: str) -> dict[str, Any]:
        return json.loads((self.top / "stdin" / f"{plugin}.{command}").read_bytes())  # type: ignore[no-any-return]

    def kept(self) -> list[str]:
        """What plugins have done and not undone."""
        return sorted(path.name for path in (self.top / "kept").iterdir())

    def records(self) -> list[str]:
        folder = self.top / "cache" / "results"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def wanted(sandbox: str, **more: Any) -> Wanted:
    names = {"pod_uid": "u-1", "pod_name": "web", "pod_namespace": "default"}
    return Wanted(sandbox=sandbox, netns="/nowhere", **names, **more)
