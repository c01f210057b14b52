"""How far skopeo is, from the bars that it draws on a terminal. Pure.

skopeo learns from the manifest how large each layer is, and tells it nowhere else. Nobody else can without asking the
registry for the manifest a second time, which counts as a second pull where a registry limits them. It has a bar for
each layer that it has begun, six at most at a time; so as long as six are under way there may be more to come.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from podd.driver.contract import PullProgress

AT_ONCE = 6
"""Layers. Source: containers/image, copy/copy.go, maxParallelDownloads."""
KEPT_CHARACTERS = 4096  # of a line that is not whole yet

_BAR = re.compile(r"Copying blob ([0-9a-f]{6,64})\b(.*)")
_SIZES = re.compile(r"([0-9.]+) ?([KMGT]?)i?[bB] / ([0-9.]+) ?([KMGT]?)i?[bB]")
_UNITS: dict[str, int] = {unit: 1024**power for power, unit in enumerate(("", "K", "M", "G", "T"))}


class Bars:
    """Feed it what comes from the terminal, in pieces of any size."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}  # bytes that have come, and all of them
        self._begun: dict[str, bool] = {}  # whether it has all come
        self._rest = ""

    def feed(self, text: str) -> None:
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[-KEPT_CHARACTERS:]
        for line in lines:
            if found := _BAR.search(line):
                self._take(found[1], found[2])

    def _take(self, layer: str, bar: str) -> None:
        """A bar without sizes says that it is done, or that the layer was here before."""
        if sizes := _SIZES.search(bar):
            self._layers[layer] = (_bytes(sizes[1], sizes[2]), _bytes(sizes[3], sizes[4]))
        elif layer in self._layers:
            self._layers[layer] = (self._layers[layer][1],) * 2
        done, total = self._layers.get(layer, (0, 0))
        self._begun[layer] = sizes is None or done >= total > 0

    def progress(self) -> PullProgress | None:
        """None: there is no word of a size."""
        if not self._layers:
            return None
        done, total = (sum(pair[part] for pair in self._layers.values()) for part in (0, 1))
        return PullProgress(done_bytes=done, total_bytes=total, message=self._message(list(self._begun.values())))

    def _message(self, done: Sequence[bool]) -> str:
        if all(done):
            return "unpacking"
        more = " and more" if done.count(False) >= AT_ONCE else ""
        return f"{sum(done)} of {len(done)}{more} layers"


def _bytes(number: str, unit: str) -> int:
    try:
        return int(float(number) * _UNITS[unit])
    except ValueError:
        return 0
