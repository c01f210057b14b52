"""The part of the driver contract that is about what of the host a container sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from podd.driver.contract import Mount
from podd.errors import Invalid
from podd.testing.lab import SHARED, Act, Lab, needs, needs_processes


class Mounts:
    async def test_a_read_only_mount_cannot_be_written(self: Any, lab: Lab, tmp_path: Path) -> None:
        needs_processes(self)
        needs(lab, "isolation")
        place = _folder(tmp_path)
        seen = await _told(lab, "echo x > /vol/new; cat /vol/file", _mount(place, read_only=True))
        assert seen == "content\n"
        assert not (place / "new").exists()

    async def test_a_part_of_a_volume_is_all_that_is_seen_of_it(self: Any, lab: Lab, tmp_path: Path) -> None:
        needs_processes(self)
        needs(lab, "isolation")
        place = _folder(tmp_path)
        assert await _told(lab, "cat /vol", _mount(place, sub_path="file")) == "content\n"
        seen = await _told(lab, "touch /vol/made; ls /vol; ls /vol/..", _mount(place, sub_path="new/deep"))
        assert seen.splitlines()[0] == "made"
        assert "file" not in seen.splitlines()
        assert (place / "new" / "deep" / "made").exists()

    @pytest.mark.parametrize("target", ["{outside}", "../outside", "/"])
    async def test_a_part_never_leads_out_of_its_volume(self: Any, lab: Lab, tmp_path: Path, target: str) -> None:
        """CVE-2017-1002101: a container that writes the volume plants a link, another one mounts what it leads to."""
        needs_processes(self)
        needs(lab, "isolation")
        place, outside = _folder(tmp_path), tmp_path / "outside"
        outside.mkdir()
        (place / "link").symlink_to(target.format(outside=outside))
        made = await lab.sandbox()
        for below in ("", "/new"):
            with pytest.raises(Invalid):
                await lab.created(made.handle, mounts=(_mount(place, sub_path=f"link{below}"),))
        assert list(outside.iterdir()) == []


def _folder(tmp_path: Path) -> Path:
    place = tmp_path / "volume"
    place.mkdir()
    (place / "file").write_text("content\n")
    return place


def _mount(place: Path, **how: Any) -> Mount:
    return Mount(host_path=str(place), container_path="/vol", **how)


async def _told(lab: Lab, script: str, mount: Mount) -> str:
    """What a container with that mount prints."""
    made = await lab.sandbox()
    act = Act(f"{{ {script}; }} > {SHARED}/told 2>/dev/null")
    shared = Mount(host_path=str(lab.shared), container_path=SHARED)
    handle = await lab.started(made.handle, act, mounts=(shared, mount))
    await lab.driver.wait_container(handle)
    return (lab.shared / "told").read_text()
