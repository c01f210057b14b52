"""Static pods: manifests in a folder, applied when podd starts."""

from __future__ import annotations

import os

import structlog

from podd.engine.engine import Engine
from podd.engine.view import ApplyProgress
from podd.errors import Invalid, PoddError

log = structlog.get_logger()

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 10 * 1024 * 1024


async def apply_folder(engine: Engine, folder: str) -> None:
    """Apply every manifest in it, by name. One that is wrong is logged, and costs only itself."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES))
    except FileNotFoundError:
        return
    except OSError as exc:
        log.error("static_pods.unread", folder=folder, error=str(exc), remedy="set daemon.pods_dir to a directory")
        return
    for name in names:
        path = f"{folder}/{name}"
        try:
            results = await engine.apply(
                _read(path), source=path, namespace=None, dry_run=False, wait=False, timeout_s=None, progress=_nobody
            )
        except (PoddError, OSError) as exc:
            log.error("static_pod.refused", file=path, error=str(exc))
            continue
        for result in results:
            write = log.error if result.action == "refused" else log.info
            write("static_pod.applied", file=path, pod=result.name, action=result.action, message=result.message)


def _read(path: str) -> str:
    """Raises Invalid: it is too large, or not UTF-8; to read a part of it would make other pods of it."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Invalid(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise Invalid(f"{path}: is not UTF-8: at byte {exc.start}") from exc


async def _nobody(_: ApplyProgress) -> None:
    pass
