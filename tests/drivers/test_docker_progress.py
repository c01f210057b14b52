"""What dockerd tells of a pull, added up."""

from __future__ import annotations

from typing import Any

import pytest

from podd_docker.progress import Layers

News = dict[str, Any]


def news(layer: str, status: str, current: int = 0, total: int = 0) -> News:
    return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total} if total else {}}


BEGUN = [news("1.36", "Pulling from library/busybox"), *(news(layer, "Pulling fs layer") for layer in "ab")]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([news("1.36", "Pulling from library/busybox")], (0, None, "Pulling from library/busybox")),
        (BEGUN, (0, None, "0 of 2 layers, not all sizes known")),
        ([*BEGUN, news("a", "Downloading", 3, 10)], (3, 10, "0 of 2 layers, not all sizes known")),
        ([*BEGUN, news("a", "Downloading", 3, 10), news("b", "Downloading", 1, 5)], (4, 15, "0 of 2 layers")),
        ([*BEGUN, news("a", "Downloading", 3, 10), news("a", "Download complete")], (10, 10, "1 of 2 layers, not all")),
        ([*BEGUN, news("b", "Downloading", 1, 5), news("a", "Download complete")], (1, 5, "1 of 2 layers")),
        ([*BEGUN, *(news(one, "Extracting", 1, 9) for one in "ab")], (0, None, "unpacking")),
        ([*BEGUN, news("c", "Already exists")], (0, None, "0 of 2 layers, not all sizes known")),
    ],
)
def test_it_is_added_up(told: list[News], expected: tuple[int, int | None, str]) -> None:
    layers = Layers()
    *_, last = [layers.take(one) for one in told]
    done, total, message = expected
    assert (last.done_bytes, last.total_bytes) == (done, total)
    assert last.message.startswith(message)
