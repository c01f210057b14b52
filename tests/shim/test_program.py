"""Whether a command can be run: every file gets an answer, and a damaged one never more than a refusal."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.shim import program
from podd.shim.program import NotRunnable


def write(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_first_executable_of_the_search_path_wins(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/tool").mkdir()
    write(tmp_path / "b/tool", b"", 0o644)
    write(tmp_path / "c/tool", b"")
    search = ":".join(str(tmp_path / name) for name in ("none", "a", "b", "c"))
    assert program.find("tool", search) == f"{tmp_path}/c/tool"


def test_what_is_there_and_not_executable_is_told_apart_from_what_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "tool", b"", 0o644)
    with pytest.raises(NotRunnable, match="not executable for this user"):
        program.find("tool", str(tmp_path))
    with pytest.raises(Invalid, match="not found in PATH") as caught:
        program.find("other", str(tmp_path))
    assert not isinstance(caught.value, NotRunnable)


def test_empty_part_of_the_search_path_is_the_working_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tool", b"")
    monkeypatch.chdir(tmp_path)
    assert program.find("tool", "/none:") == "./tool"


def test_foreign_formats_are_left_to_the_host_that_runs_them(tmp_path: Path) -> None:
    path = write(tmp_path / "program.wasm", b"\0asm\1\0\0\0")
    program.check(path, foreign=True)
    with pytest.raises(NotRunnable, match="neither an ELF program nor a script"):
        program.check(path, foreign=False)


def test_interpreter_may_have_an_argument_and_spaces(tmp_path: Path) -> None:
    program.check(write(tmp_path / "script", b"#! \t/bin/sh -e\nexit\n"), foreign=False)


def test_own_interpreter_is_found_to_be_runnable() -> None:
    program.check("/bin/sh", foreign=False)
    program.check(os.path.realpath("/proc/self/exe"), foreign=False)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda rest: b"#!" + rest),
        st.tuples(st.sampled_from([1, 2]), st.binary(min_size=59, max_size=600)).map(
            lambda parts: b"\x7fELF" + bytes([parts[0]]) + parts[1]
        ),
    )
)
def test_any_file_is_run_or_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "file", content)
    with suppress(Invalid):
        program.check(path, foreign=False)
