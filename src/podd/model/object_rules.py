"""What ConfigMaps and Secrets must be. No message here shows what a Secret holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from podd.model import env_rules, shapes
from podd.model.objects import ConfigMap, Object, Secret, decode
from podd.model.problem import Path, Rules

MAX_BYTES = 1024 * 1024

_NEEDED = {
    "kubernetes.io/basic-auth": ("username", "password"),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""Of a Secret's type: the keys that it must have; of basic-auth one is enough."""

_JSON = (".dockercfg", ".dockerconfigjson")


def check(rules: Rules, one: Object) -> None:
    shapes.metadata(rules, one.metadata)
    if isinstance(one, ConfigMap):
        _config_map(rules, one)
    else:
        _secret(rules, one)


def _config_map(rules: Rules, one: ConfigMap) -> None:
    _keys(rules, "data", one.data)
    _keys(rules, "binaryData", one.binary_data)
    for key in sorted(one.data.keys() & one.binary_data.keys()):
        rules.error(("binaryData", key), "is given in data too", "keep one")
    _size(rules, (*(text.encode() for text in one.data.values()), *_decoded(rules, "binaryData", one.binary_data)))


def _secret(rules: Rules, one: Secret) -> None:
    _keys(rules, "data", one.data)
    _keys(rules, "stringData", one.string_data)
    covered = {key: text for key, text in one.data.items() if key not in one.string_data}
    _size(rules, (*(text.encode() for text in one.string_data.values()), *_decoded(rules, "data", covered)))
    given = one.data.keys() | one.string_data.keys()
    needed = _NEEDED.get(one.type, ())
    missing = [key for key in needed if key not in given]
    if missing and (one.type != "kubernetes.io/basic-auth" or missing == list(needed)):
        rules.error(("data",), f"a Secret of type {one.type} has {', '.join(needed)}; missing: {', '.join(missing)}")
    elif needed and needed[0] in _JSON:
        _json(rules, one, needed[0])


def _json(rules: Rules, one: Secret, key: str) -> None:
    field = "stringData" if key in one.string_data else "data"
    try:
        msgspec.json.decode(one.contents()[key])
    except msgspec.DecodeError:
        rules.error((field, key), "is not JSON")
    except ValueError:
        return  # not even base64, which is told where it is decoded


def _keys(rules: Rules, field: str, data: Mapping[str, str]) -> None:
    for key in data:
        env_rules.key(rules, (field, key), key)


def _decoded(rules: Rules, field: str, data: Mapping[str, str]) -> list[bytes]:
    found = []
    for key, text in data.items():
        at: Path = (field, key)
        try:
            found.append(decode(text))
        except ValueError:
            plain = "data" if field == "binaryData" else "stringData"
            rules.error(at, "is not base64", f"encode it with base64(1), or put plain text into {plain}")
    return found


def _size(rules: Rules, contents: Iterable[bytes]) -> None:
    size = sum(len(content) for content in contents)
    if size > MAX_BYTES:
        rules.error((), f"holds {size} bytes, at most {MAX_BYTES} are allowed")
