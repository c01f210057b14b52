"""Which registry a short name means, as registries.conf says.

Mirrors, blocked and insecure registries are skopeo's matter, which reads the same files. Here is only what it does not
do: "busybox" may mean docker.io/library/busybox. Source: containers-registries.conf(5), version 2.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from podd.errors import Invalid, Unavailable
from podd.model.image import DOCKER_HUB, LOCALHOST, Named, parse
from podd.model.value import Value

HOST_FILES = ("/etc/containers/registries.conf", "/usr/share/containers/registries.conf")
HOST_DROP_INS = "/etc/containers/registries.conf.d"


class Registries(Value):
    """search: registries in which an image without one is looked for. aliases: short names that mean one image."""

    search: Sequence[str] = ()
    aliases: Mapping[str, str] = {}
    is_enforcing: bool = False
    """Nobody can be asked which registry is meant, so where several might be, none is tried."""

    def candidates(self, named: Named) -> Sequence[Named]:
        """What to pull, the first that there is. Raises Invalid: it cannot be told which registry is meant."""
        if named.domain:
            return [named]
        alias = self.aliases.get(named.path)
        if alias:
            return [_aliased(alias, named)]
        if self.is_enforcing and len(self.search) > 1:
            raise Invalid(
                f"image {named}: it can be in {' or '.join(self.search)}, and short-name-mode is enforcing",
                remedy="write the registry before its name, or give it an alias in registries.conf",
            )
        return [named.at(registry) for registry in self.search or (DOCKER_HUB,)]

    def names(self, named: Named) -> Sequence[Named]:
        """Under what it may be kept here: what was built on this host first, where podman and buildah keep it."""
        if named.domain:
            return [named]
        alias = self.aliases.get(named.path)
        elsewhere = [_aliased(alias, named)] if alias else [named.at(one) for one in self.search or (DOCKER_HUB,)]
        return [named.at(LOCALHOST), *elsewhere]


def load(path: str) -> Registries:
    """path: the one file that counts; "": the host's, with what is in its folder registries.conf.d.

    Raises Invalid: a file makes no sense; Unavailable: it cannot be read.
    """
    search: Sequence[str] = ()
    aliases: dict[str, str] = {}
    mode = "permissive"
    for file in [path] if path else _host_files():
        read = _read(file)
        search = read.get("unqualified-search-registries", search)
        mode = read.get("short-name-mode", mode)
        aliases |= read.get("aliases", {})
    return Registries(search=tuple(search), aliases=aliases, is_enforcing=mode == "enforcing")


def _host_files() -> Iterator[str]:
    """In the order in which the later ones count more."""
    yield from [file for file in HOST_FILES if os.path.exists(file)][:1]
    if os.path.isdir(HOST_DROP_INS):
        yield from (f"{HOST_DROP_INS}/{name}" for name in sorted(os.listdir(HOST_DROP_INS)) if name.endswith(".conf"))


def _read(file: str) -> Mapping[str, Any]:
    try:
        with open(file, "rb") as stream:
            read = tomllib.load(stream)
    except OSError as exc:
        raise Unavailable(f"images: {file}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise Invalid(f"images: {file}: {exc}") from exc
    _check(file, read)
    return read


def _check(file: str, read: Mapping[str, Any]) -> None:
    search, aliases = read.get("unqualified-search-registries", []), read.get("aliases", {})
    if "registries" in read and not isinstance(read["registries"], list):
        raise Invalid(f"images: {file}: it is of version 1", remedy="write it as containers-registries.conf(5) says")
    if not isinstance(search, list) or not all(isinstance(one, str) and one and "/" not in one for one in search):
        raise Invalid(f"images: {file}: unqualified-search-registries: not a list of registries: hosts, without a path")
    if not isinstance(aliases, dict) or not all(isinstance(one, str) for one in aliases.values()):
        raise Invalid(f"images: {file}: aliases: not a table of names")
    if read.get("short-name-mode", "permissive") not in ("enforcing", "permissive", "disabled"):
        raise Invalid(f"images: {file}: short-name-mode: neither enforcing, permissive nor disabled")


def _aliased(alias: str, named: Named) -> Named:
    """Raises Invalid: it means no image."""
    meant = parse(alias)
    if not isinstance(meant, Named) or not meant.domain:
        raise Invalid(f"image {named}: its alias {alias!r} names no registry", remedy="mend it in registries.conf")
    return Named(domain=meant.domain, path=meant.path, tag=named.tag, digest=named.digest)
