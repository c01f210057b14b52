"""How far a pull of dockerd's is: what it tells of each layer, added up. Pure.

Source: moby, distribution/pull_v2.go and pkg/progress. dockerd names all layers that are to come at once, and the size
of one when it begins with it, three at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podd.driver.contract import PullProgress

_WANTED = "Pulling fs layer"
_COMING = "Downloading"
_HERE = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")


class Layers:
    """Of one pull. Layers that were here before count for nothing."""

    def __init__(self) -> None:
        self._come: dict[str, tuple[int, int]] = {}  # bytes that have come, and all of them; 0 while that is not known
        self._here: set[str] = set()

    def take(self, news: Mapping[str, Any]) -> PullProgress:
        """How far it is with this, too. news: a line of what dockerd answers to images/create."""
        layer, status = str(news.get("id") or ""), str(news.get("status") or "")
        if status == _WANTED:
            self._come.setdefault(layer, (0, 0))
        elif status == _COMING and layer in self._come:
            detail = news.get("progressDetail") or {}
            self._come[layer] = (int(detail.get("current") or 0), int(detail.get("total") or 0))
        elif status in _HERE and layer in self._come:
            self._come[layer] = (self._come[layer][1],) * 2
            self._here.add(layer)
        return self._progress(status)

    def _progress(self, status: str) -> PullProgress:
        if not self._come:
            return PullProgress(message=status)
        done, total = (sum(pair[part] for pair in self._come.values()) for part in (0, 1))
        return PullProgress(done_bytes=done, total_bytes=max(done, total) or None, message=self._message())

    def _message(self) -> str:
        """A size that is not known yet is not in the sum: then there is more to come than that."""
        if len(self._here) == len(self._come):
            return "unpacking"
        unknown = any(total == 0 for layer, (_, total) in self._come.items() if layer not in self._here)
        return f"{len(self._here)} of {len(self._come)} layers{', not all sizes known' if unknown else ''}"
