"""Rules that many fields share: names, paths, amounts, metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from podd.model import quantity
from podd.model.ids import is_dns_label, is_dns_subdomain
from podd.model.pod import ObjectMeta
from podd.model.problem import Path, Rules

MAX_ANNOTATIONS_BYTES = 256 * 1024
PATH_MAX, NAME_MAX = 4095, 255  # bytes of a path and of a part of one, on Linux

LABEL_TEXT = 'lower-case letters, digits and "-", a letter or digit at both ends, at most 63 characters'
SUBDOMAIN_TEXT = 'lower-case letters, digits, "-" and ".", a letter or digit at both ends, at most 253 characters'
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
ENV_NAME = re.compile(r"[ -<>-~]+", re.ASCII)  # printable ASCII without "="
ENV_NAME_TEXT = 'printable ASCII characters without "="'
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}", re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


# ---- names -----------------------------------------------------------------------------------------------------------


def metadata(rules: Rules, meta: ObjectMeta) -> None:
    at: Path = ("metadata",)
    subdomain(rules, (*at, "name"), meta.name)
    label(rules, (*at, "namespace"), meta.namespace)
    for key, value in meta.labels.items():
        qualified_name(rules, (*at, "labels", key), key)
        if value and not _QUALIFIED.fullmatch(value):
            message = f'"{value}" is not a label value'
            rules.error((*at, "labels", key), message, 'at most 63 letters, digits, "-", "_" and "."')
    for key in meta.annotations:
        qualified_name(rules, (*at, "annotations", key), key.lower())
    size = sum(len(key.encode()) + len(value.encode()) for key, value in meta.annotations.items())
    if size > MAX_ANNOTATIONS_BYTES:
        rules.error((*at, "annotations"), f"has {size} bytes, at most {MAX_ANNOTATIONS_BYTES} are allowed")


def label(rules: Rules, at: Path, name: str) -> None:
    if not is_dns_label(name):
        rules.error(at, f'"{name}" is not an RFC 1123 label', LABEL_TEXT)


def subdomain(rules: Rules, at: Path, name: str) -> None:
    if not is_dns_subdomain(name):
        rules.error(at, f'"{name}" is not an RFC 1123 subdomain', SUBDOMAIN_TEXT)


def qualified_name(rules: Rules, at: Path, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if not _QUALIFIED.fullmatch(name) or (slash and not is_dns_subdomain(prefix)):
        text = 'a name of at most 63 letters, digits, "-", "_" and ".", after a DNS subdomain and "/" if there is one'
        rules.error(at, f'"{key}" is not a qualified name', text)


def is_key(name: str) -> bool:
    """Of a ConfigMap or Secret: also the name of a file."""
    return _KEY.fullmatch(name) is not None and name != "." and not name.startswith("..")


def unique(rules: Rules, names: Iterable[tuple[Path, str]], what: str) -> None:
    first: dict[str, Path] = {}
    for at, name in names:
        if name and first.setdefault(name, at) is not at:
            rules.error(at, f'"{name}" is given twice: {what}')


# ---- paths -----------------------------------------------------------------------------------------------------------


def absolute(rules: Rules, at: Path, path: str) -> bool:
    """True: it is an absolute path that stays where it says."""
    if not path.startswith("/"):
        rules.error(at, f'"{path}" is not an absolute path')
        return False
    return _stays(rules, at, path)


def relative(rules: Rules, at: Path, path: str) -> bool:
    """True: it leads to something below where it begins."""
    if path.startswith("/"):
        rules.error(at, f'"{path}" is an absolute path: it goes below the volume', "remove the leading /")
    elif not any(part not in ("", ".") for part in path.split("/")):
        rules.error(at, f'"{path}" names nothing' if path else "required")
    else:
        return _stays(rules, at, path)
    return False


def _stays(rules: Rules, at: Path, path: str) -> bool:
    if ".." in path.split("/"):
        rules.error(at, 'must not contain ".."')
    elif CONTROL.search(path):
        rules.error(at, "has control characters in it")
    elif len(path.encode()) > PATH_MAX or any(len(part.encode()) > NAME_MAX for part in path.split("/")):
        rules.error(at, f"is longer than a path of Linux may be: {NAME_MAX} bytes a part, {PATH_MAX} in all")
    else:
        return True
    return False


# ---- numbers ---------------------------------------------------------------------------------------------------------


def between(rules: Rules, at: Path, number: int, least: int, most: int) -> bool:
    """True: it is."""
    if not least <= number <= most:
        rules.error(at, f"{number} is not between {least} and {most}")
        return False
    return True


def amount(rules: Rules, at: Path, text: str) -> Fraction | None:
    """None: it is no quantity, or a negative one, which is told."""
    try:
        found = quantity.parse(text)
    except ValueError as exc:
        rules.error(at, str(exc))
        return None
    if found < 0:
        rules.error(at, f"{text} is negative")
        return None
    return found
