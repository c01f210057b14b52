"""What dockerd is to be told in its own configuration, so that members of a pod start together and share uts."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Sequence
from typing import Any

from podd.errors import Conflict, Invalid

PATH = "/etc/docker/daemon.json"
RUNTIME = "podd"
SCRIPT = "oci-runtime.sh"
BY_HAND = "put it in by hand: podd-cli docker setup prints it"


def wanted() -> dict[str, Any]:
    """The part of daemon.json. dockerd makes a script of a program and its arguments, so nothing need be executable."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), SCRIPT)
    return {"runtimes": {RUNTIME: {"path": "/bin/sh", "runtimeArgs": [script]}}}


def put_into(path: str) -> bool:
    """Add what is wanted to the file, which keeps all else that it holds; False: it is there already.

    Raises Invalid: what is there cannot be understood; Conflict: there is a runtime of that name, and it is not podd's.
    """
    path = os.path.realpath(path)
    try:
        with open(path, encoding="utf-8") as file:
            before = file.read()
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        before, mode = "", 0o644
    except UnicodeDecodeError as exc:
        raise Invalid(f"{path}: is not UTF-8", remedy=BY_HAND) from exc
    after = merged(before, path)
    if after is None:
        return False
    _replace(path, after, mode)
    return True


def _replace(path: str, text: str, mode: int) -> None:
    """Whoever reads it, now or after a power cut, sees the old text or the new one."""
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def merged(text: str, path: str) -> str | None:
    """The file's new text; None: it need not change. An empty file is one that says nothing. Raises as put_into."""
    config = _parsed(text, path) if text.strip() else {}
    if not isinstance(config, dict):
        raise Invalid(f"{path}: is no JSON object", remedy=BY_HAND)
    runtimes = config.setdefault("runtimes", {})
    if not isinstance(runtimes, dict):
        raise Invalid(f"{path}: runtimes is no JSON object", remedy=BY_HAND)
    ours = wanted()["runtimes"][RUNTIME]
    if runtimes.get(RUNTIME) == ours:
        return None
    if RUNTIME in runtimes and not _is_ours(runtimes[RUNTIME]):
        raise Conflict(f'{path}: has a runtime "{RUNTIME}" already, which is not podd\'s', remedy=BY_HAND)
    runtimes[RUNTIME] = ours
    return json.dumps(config, indent=4, ensure_ascii=False) + "\n"


def _parsed(text: str, path: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except ValueError as exc:
        raise Invalid(f"{path}: is no JSON: {exc}", remedy=BY_HAND) from exc


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _is_ours(runtime: Any) -> bool:
    """Also: of another podd, installed elsewhere."""
    words = runtime.get("runtimeArgs") if isinstance(runtime, dict) else None
    if not isinstance(words, list) or len(words) != 1:
        return False
    return runtime.get("path") == "/bin/sh" and str(words[0]).endswith(f"/podd_docker/{SCRIPT}")
