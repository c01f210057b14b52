"""What skopeo says when it fails, in podd's kinds: whose move it is, and what to do. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from podd.errors import Conflict, Denied, Invalid, NotFound, PoddError, Unavailable

_SAID = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
_SECRET = re.compile(r"(?<=://)[^/\s@]+@")
_NOISE = re.compile(r"^(?:initializing source|copying system image from manifest list|writing blob) [^ ]+: ")


class _Row(NamedTuple):
    pattern: str
    error: type[PoddError]
    why: str  # "": skopeo's own words tell it best
    remedy: str


_TABLE = [
    _Row(
        r"no space left on device|disk quota exceeded",
        Unavailable,
        "the disk is full",
        "make room: podd-cli image prune; or move images.root to a larger disk",
    ),
    _Row(
        r"is blocked in ",
        Denied,
        "its registry is blocked",
        "registries.conf blocks it",
    ),
    _Row(
        r"source image rejected|signature.*(?:not|invalid)|required signature",
        Denied,
        "the signature policy refuses it",
        "sign the image, or change policy.json",
    ),
    _Row(
        r"toomanyrequests|too many requests|\b429\b",
        Unavailable,
        "the registry limits how often one may pull",
        "wait, log in, or use a mirror",
    ),
    _Row(
        r"unauthorized|authentication required|no basic auth credentials|access to the resource is denied|\b403\b"
        r"|denied:|invalid username",
        Denied,
        "the registry wants other credentials, or has no such image",
        "check the name; give credentials: imagePullSecrets, or skopeo login on the host",
    ),
    _Row(
        r"manifest unknown|name unknown|repository name not known|not found|no descriptor found|\b404\b"
        r"|no such file or directory|does not exist|no such image|reference .* does not resolve|no tag ",
        NotFound,
        "there is no such image",
        "check its name and its tag",
    ),
    _Row(
        r"x509|certificate",
        Unavailable,
        "the registry's certificate is not trusted",
        "put the authority's certificate at /etc/containers/certs.d/REGISTRY/ca.crt",
    ),
    _Row(
        r"gave HTTP response to HTTPS client|does not look like a TLS",
        Unavailable,
        "the registry speaks no TLS",
        "call it insecure in registries.conf, if it is",
    ),
    _Row(
        r"digest|did not match|unexpected end of (?:json|file)|invalid (?:character|tar|checksum)|gzip: |archive/tar"
        r"|error processing tar|exceeds",
        Invalid,
        "what came is not what the image should be",
        "pull it again; if it stays so, the registry or a proxy before it gives out wrong data",
    ),
    _Row(
        r"no image found in (?:manifest list|image index)|choosing image",
        Invalid,
        "there is none for this machine",
        "build it for this architecture, or name another",
    ),
    _Row(
        r"connection refused|no such host|unreachable|no route to host|timeout|connection reset|server misbehaving"
        r"|name resolution|\beof\b|broken pipe|cannot connect|proxyconnect|deadline exceeded",
        Unavailable,
        "the registry does not answer",
        "check the network, and whether the registry runs",
    ),
    _Row(
        r"\b50[0-9]\b|internal server error|unexpected http status",
        Unavailable,
        "the registry has a fault",
        "try again later, or use a mirror",
    ),
    _Row(
        r"in use by a container|image is in use",
        Conflict,
        "a container of podman's or buildah's uses it",
        "remove that container first",
    ),
]


def explained(image: str, stderr: str) -> PoddError:
    """What went wrong with the image, from what skopeo wrote."""
    said = words(stderr)
    for row in _TABLE:
        if re.search(row.pattern, said, re.IGNORECASE):
            return row.error(f"image {image}: {row.why}: {said}", remedy=row.remedy, image=image)
    return Unavailable(f"image {image}: {said}", image=image)


def words(stderr: str) -> str:
    """The reason alone, on one line. A password that stands in an address does not show."""
    said = _SAID.findall(stderr)
    text = said[-1].encode("latin-1", "backslashreplace").decode("unicode_escape") if said else stderr
    line = " ".join(_SECRET.sub("", text).split())
    return _NOISE.sub("", line)[-1000:] or "skopeo ended without a word"
