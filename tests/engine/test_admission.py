"""What a plugin makes of a pod is held to the rules of manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import apply, engine
from msgspec.structs import replace

from podd.model.pod import Pod
from podd.testing.fake import FakeHost

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


def annotated(pod: Pod, key: str, value: str) -> Pod:
    meta = replace(pod.metadata, annotations={**pod.metadata.annotations, key: value})
    return replace(pod, metadata=meta)


async def test_what_is_right_is_made(tmp_path: Path) -> None:
    async with engine(tmp_path, FakeHost(), admit=lambda pod: annotated(pod, "site/owner", "me")) as one:
        assert (await apply(one)).action == "created"
        assert (await one.get("web", None)).pod.metadata.annotations == {"site/owner": "me"}
        assert (await apply(one)).action == "unchanged"


async def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    """Before it is in a record, where the policy would stumble over it for ever."""
    wrong = {"podd.io/depends-on": "a=nobody:ready", "podd.io/keystone": "a", "a b": "x"}
    for key, value in wrong.items():
        host = FakeHost()
        async with engine(tmp_path, host, admit=lambda p, k=key, v=value: annotated(p, k, v)) as one:  # type: ignore[misc]
            refused = await apply(one)
            assert refused.action == "refused"
            assert "pod web, as a plugin amended it:1:" in refused.message
            assert await one.list_pods(None, "") == []
