"""The folder of static pods: what is wrong in it costs itself alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import POD, engine
from structlog.testing import capture_logs

from podd.engine import static
from podd.engine.static import apply_folder
from podd.testing.fake import FakeHost

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


async def test_what_is_wrong_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "MAX_BYTES", len(POD) + 10)
    folder = tmp_path / "pods.d"
    folder.mkdir()
    (folder / "a-directory.yaml").mkdir()
    (folder / "b-latin1.yaml").write_bytes(POD.replace("web", "w\u00e9b").encode("latin-1"))
    (folder / "c-large.yaml").write_text(POD.replace("web", "large") + "---" + POD)
    (folder / "d-good.yaml").write_text(POD)
    (folder / "ignored.txt").write_text("no manifest")
    async with engine(tmp_path, FakeHost()) as one:
        with capture_logs() as logs:
            await apply_folder(one, str(folder))
        assert [v.pod.metadata.name for v in await one.list_pods(None, "")] == ["web"]
    refused = [Path(e["file"]).name for e in logs if e["event"] == "static_pod.refused"]
    assert refused == ["a-directory.yaml", "b-latin1.yaml", "c-large.yaml"]


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with engine(tmp_path, FakeHost()) as one:
        await apply_folder(one, str(tmp_path / "missing"))
        with capture_logs() as logs:
            await apply_folder(one, str(tmp_path / "file"))
    assert [e["event"] for e in logs if e["event"].startswith("static")] == ["static_pods.unread"]
