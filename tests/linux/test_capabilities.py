"""Capabilities: what securityContext asks for, and what the kernel calls them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.linux.capabilities import (
    ALL,
    BITS,
    DEFAULT,
    NAMES,
    bounding_set,
    granted,
    hold,
    limit_bounding_set,
    mask_of,
    names_of,
)
from podd.linux.syscalls import capget

GRANTS: dict[str, tuple[list[str], list[str], int]] = {
    "nothing said": ([], [], DEFAULT),
    "one more": (["NET_RAW"], [], DEFAULT | mask_of(["NET_RAW"])),
    "one less": ([], ["CHOWN"], DEFAULT & ~mask_of(["CHOWN"])),
    "prefix and case": (["cap_net_raw"], ["Cap_Chown"], DEFAULT & ~mask_of(["CHOWN"]) | mask_of(["NET_RAW"])),
    "in both": (["KILL"], ["KILL"], DEFAULT & ~mask_of(["KILL"])),
    "only one": (["NET_BIND_SERVICE"], ["ALL"], mask_of(["NET_BIND_SERVICE"])),
    "none": ([], ["ALL"], 0),
    "all": (["ALL"], [], ALL),
    "all but one": (["ALL"], ["SYS_ADMIN"], ALL & ~mask_of(["SYS_ADMIN"])),
    "all and none": (["ALL", "KILL"], ["ALL"], mask_of(["KILL"])),
}


@pytest.mark.parametrize(("add", "drop", "mask"), GRANTS.values(), ids=GRANTS)
def test_granted(add: list[str], drop: list[str], mask: int) -> None:
    assert names_of(granted(add, drop)) == names_of(mask)


@pytest.mark.parametrize(("name", "remedy"), [("NET_RAWW", "did you mean NET_RAW?"), ("X", "see capabilities(7)")])
def test_unknown_name(name: str, remedy: str) -> None:
    with pytest.raises(Invalid, match=f'capability "{name}"') as caught:
        granted([], [name])
    assert caught.value.remedy.startswith(remedy)


def test_default_has_no_way_to_forge_or_to_make_devices() -> None:
    assert not set(names_of(DEFAULT)) & {"MKNOD", "NET_RAW", "SYS_CHROOT", "SYS_ADMIN", "SYS_PTRACE", "SETFCAP"}


@given(st.integers(0, ALL))
def test_names_and_masks_are_each_others_inverse(mask: int) -> None:
    assert mask_of(names_of(mask)) == mask


def test_names_are_the_kernels() -> None:
    header = Path("/usr/include/linux/capability.h")
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    defined = [line.split() for line in header.read_text().splitlines() if line.startswith("#define CAP_")]
    kernels = {words[1].removeprefix("CAP_"): int(words[2]) for words in defined if words[2].isdigit()}
    assert BITS.items() >= kernels.items()


def test_every_capability_of_this_kernel_has_a_name() -> None:
    assert int(Path("/proc/sys/kernel/cap_last_cap").read_text()) == len(NAMES) - 1


@pytest.mark.root
def test_what_a_process_gives_up_is_gone() -> None:
    mask = mask_of(["KILL", "CHOWN"])
    pid = os.fork()
    if pid == 0:
        limit_bounding_set(mask)
        hold(mask, mask)
        status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
        expected = {"CapBnd": mask, "CapPrm": mask, "CapEff": mask, "CapInh": 0, "CapAmb": 0}
        matches = all(int(status[name], 16) == value for name, value in expected.items())
        os._exit(0 if matches and capget().permitted == mask else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert bounding_set() & ~mask, "the test's own process lost its capabilities"
