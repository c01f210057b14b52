"""With which passwords a pod's images are pulled: its imagePullSecrets. Pure.

Source: core/v1, Secrets of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from podd.core.sources import Sources
from podd.model.objects import DOCKER_CONFIG, DOCKER_CONFIG_JSON, Secret
from podd.model.pod import Pod


class PullSecrets(NamedTuple):
    """found: as docker config.jsons, in the manifest's order. missing: those that are not there, or no such thing."""

    found: Sequence[Mapping[str, Any]]
    missing: Sequence[str]


def of(pod: Pod, sources: Sources) -> PullSecrets:
    read = {one.name: _read(sources.secrets.get(one.name)) for one in pod.spec.image_pull_secrets}
    return PullSecrets(
        [config for config in read.values() if config is not None],
        [name for name, config in read.items() if config is None],
    )


def _read(secret: Secret | None) -> Mapping[str, Any] | None:
    if secret is None:
        return None
    held = secret.contents()
    match secret.type:
        case "kubernetes.io/dockerconfigjson":
            config = _json(held.get(DOCKER_CONFIG_JSON))
        case "kubernetes.io/dockercfg":
            config = {"auths": _json(held.get(DOCKER_CONFIG))}
        case _:
            return None
    return config if isinstance(config, dict) and isinstance(config.get("auths"), dict) else None


def _json(text: bytes | None) -> Any:
    try:
        return json.loads(text or b"null")
    except ValueError:
        return None
