"""Which passwords go to which registry. Pure.

Source: the kubelet's rules for keys of a docker config.json: scheme, "/v1/" and "/v2/" are left out, "*" stands for one
label of a host, and of several keys the longest counts.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from podd.driver.contract import Credentials
from podd.model.image import DOCKER_HUB, Named

_HUB = ("index.docker.io", "registry-1.docker.io")


def attempts(named: Named, given: Sequence[Credentials]) -> Iterator[Mapping[str, Any] | None]:
    """What to try, in order, as a config.json for skopeo each; None, the last: what the host has."""
    for one in given:
        known = {_key(key): _entry(value) for key, value in one.get("auths", {}).items() if isinstance(value, Mapping)}
        best = max((key for key in known if _fits(key, named)), key=len, default=None)
        if best is not None:
            plain = {key: value for key, value in known.items() if "*" not in key}
            yield {"auths": {**plain, named.domain: known[best]}}
    yield None


def _key(key: str) -> str:
    place = re.sub(r"^https?://", "", key.strip()).rstrip("/")
    place = re.sub(r"/v[12]$", "", place)
    host, slash, path = place.partition("/")
    return f"{DOCKER_HUB if host in _HUB else host}{slash}{path}"


def _fits(key: str, named: Named) -> bool:
    host, _, path = key.partition("/")
    labels, wanted = host.split("."), named.domain.split(".")
    if len(labels) != len(wanted) or not all(map(fnmatchcase, wanted, labels)):
        return False
    return not path or named.path == path or named.path.startswith(f"{path}/")


def _entry(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """As skopeo reads it: a user and a password that stand by themselves are not known to it."""
    if value.get("auth") or not value.get("username"):
        return value
    pair = f"{value['username']}:{value.get('password', '')}"
    return {"auth": base64.b64encode(pair.encode()).decode()}
