"""How images are named: in registries, in files and other stores of the host, by id. Pure.

    busybox                                a short name: which registry is meant is a matter of configuration
    registry.example:5000/team/app:1.2     with a tag; "latest" where there is none
    registry.example/app@sha256:…          this one and no other; a tag beside a digest says nothing
    oci:/srv/app:1.2, docker-archive:/srv/app.tar, docker-daemon:app:1.2, …   not in a registry, but on this host
    sha256:…, or 12 to 64 digits of it     by the id that a store knows it by

Source: the grammar of distribution's `reference` package, with its bounds; the transports are those of skopeo.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal, get_args

from podd.errors import Invalid
from podd.model.value import Value

FileTransport = Literal["docker-archive", "oci", "oci-archive", "dir"]
Transport = FileTransport | Literal["docker-daemon", "containers-storage"]

DOCKER_HUB = "docker.io"
LOCALHOST = "localhost"
MAX_NAME = 255  # of a registry and a path together
SHORTEST_ID = 12

_FILES: tuple[str, ...] = get_args(FileTransport)
_STORES = ("docker-daemon", "containers-storage")
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = re.compile(rf"{_HOST}(?::[0-9]+)?", re.ASCII)
_PATH = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_ID = re.compile(rf"sha256:([0-9a-f]{{{SHORTEST_ID},64}})|([0-9a-f]{{64}})", re.ASCII)


class Named(Value):
    """In a registry. domain "": a short name. tag: never "" where there is no digest, always where there is one."""

    domain: str
    path: str
    tag: str = "latest"
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}" if self.domain else self.path

    def at(self, prefix: str) -> Named:
        """The same below a registry, or a part of one: "docker.io", "registry.example/mirror"."""
        domain, _, rest = prefix.partition("/")
        path = f"{rest}/{self.path}" if rest else self.path
        return _normal(Named(domain=domain, path=path, tag=self.tag, digest=self.digest))


class InFile(Value):
    """In a file or directory of this host. place: as skopeo takes it: an absolute path, and perhaps which one in it."""

    transport: FileTransport
    place: str

    def __str__(self) -> str:
        return f"{self.transport}:{self.place}"

    @property
    def kept_as(self) -> Named:
        """The name that it has in podd's store: told by its own, and no other's."""
        path, _, tag = self.place.partition(":")
        words = re.sub(r"[^a-z0-9]+", "-", path.rpartition("/")[2].lower()).strip("-") or "image"
        mark = hashlib.sha256(str(self).encode()).hexdigest()[:8]
        last = tag.rpartition(":")[2]
        return Named(
            domain=LOCALHOST, path=f"{words[:60].strip('-')}-{mark}", tag=last if _TAG.fullmatch(last) else "latest"
        )


class InStore(Value):
    """In dockerd, or in the containers/storage that podd keeps images in."""

    transport: Literal["docker-daemon", "containers-storage"]
    inner: Named | ById

    def __str__(self) -> str:
        return f"{self.transport}:{self.inner}"


class ById(Value):
    """digits: of its config's sha256, all 64 or the first of them."""

    digits: str

    def __str__(self) -> str:
        return f"sha256:{self.digits}"


Reference = Named | InFile | InStore | ById


def parse(text: str) -> Reference:
    """Raises Invalid: it names no image."""
    if text.startswith("docker://"):
        return _named(text.removeprefix("docker://"), text)
    transport, _, place = text.partition(":")
    if transport in _FILES and place.startswith("/"):
        return _in_file(transport, place, text)
    if transport in _STORES and place:
        inner = _by_id(place) or _named(place, text)
        return InStore(transport=transport, inner=inner)  # type: ignore[arg-type]
    return _by_id(text) or _named(text, text)


def parse_bare(text: str) -> Reference:
    """As `parse`; a dozen or more hexadecimal digits alone are an id, too, where ids are what people copy."""
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},64}}", text):
        return ById(digits=text)
    return parse(text)


def _by_id(text: str) -> ById | None:
    found = _ID.fullmatch(text)
    return ById(digits=found[1] or found[2]) if found else None


def _in_file(transport: str, place: str, text: str) -> InFile:
    if "\0" in place or "\n" in place:
        raise _wrong(text, "has control characters in it")
    return InFile(transport=transport, place=place)  # type: ignore[arg-type]


def _named(text: str, whole: str) -> Named:
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _wrong(whole, f'"{digest}" is no digest: sha256: and 64 hexadecimal digits')
    untagged, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        untagged, colon, tag = name, "", ""
    if colon and not _TAG.fullmatch(tag):
        raise _wrong(whole, f'"{tag}" is no tag: at most 128 letters, digits, ".", "_" and "-"')
    domain, path = _split(untagged)
    _check(domain, path, whole)
    return _normal(Named(domain=domain, path=path, tag="" if digest else tag or "latest", digest=digest))


def _split(name: str) -> tuple[str, str]:
    """The first part is a registry if it looks like a host: a dot, a port, capitals, or "localhost"."""
    first, slash, rest = name.partition("/")
    if slash and (first == LOCALHOST or re.search(r"[.:A-Z\[]", first)):
        return first, rest
    return "", name


def _check(domain: str, path: str, whole: str) -> None:
    if domain and not _DOMAIN.fullmatch(domain):
        raise _wrong(whole, f'"{domain}" is no registry: a host, and perhaps a port')
    if path != path.lower():
        raise _wrong(whole, "names of images have no capitals")
    if not _PATH.fullmatch(path):
        raise _wrong(whole, f'"{path}" is no name: letters, digits, and single separators between them')
    if len(domain) + len(path) + 1 > MAX_NAME:
        raise _wrong(whole, f"longer than {MAX_NAME} characters")


def _normal(named: Named) -> Named:
    """Docker's own registry has other names, and images without a project of theirs are in "library"."""
    domain = DOCKER_HUB if named.domain in ("index.docker.io", "registry-1.docker.io") else named.domain
    library = domain == DOCKER_HUB and "/" not in named.path
    path = f"library/{named.path}" if library else named.path
    return Named(domain=domain, path=path, tag=named.tag, digest=named.digest)


def _wrong(text: str, why: str) -> Invalid:
    return Invalid(f"image {text!r}: {why}", remedy="as in registry.example/team/app:1.2", reason="InvalidImageName")
