"""The configuration file: TOML to checked values.

config/podd.toml explains every key; a test holds it against the types here. Unknown keys are refused. A driver's own
section is handed to the driver as it stands, and is checked there; so is what a runtime class says differently.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from podd.driver.hookspecs import ImagePlaces, NetworkPlaces
from podd.errors import Denied, Invalid, NotFound
from podd.model.ids import is_dns_label
from podd.model.value import Value

DEFAULT_PATH = "/etc/podd/podd.toml"
MAX_SOCKET_PATH = 107  # sun_path of unix(7), less its final NUL


class Daemon(Value):
    """[daemon]. Paths are absolute here; in the file, one that is not is taken from the file's directory."""

    socket: str = "/run/podd/podd.sock"
    socket_group: str = "podd"
    run_dir: str = "/run/podd"
    state_dir: str = "/var/lib/podd"
    log_dir: str = "/var/log/podd"
    pods_dir: str = "/etc/podd/pods.d"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json", "journal"] = "console"


class RuntimeClass(Value):
    """A name of its own for a driver whose section says something else for the pods that ask for this name."""

    driver: str
    section: Mapping[str, Any] = {}  # what differs from the driver's own section, untouched


class Config(Value):
    default_driver: str = "setns"
    daemon: Daemon = Daemon()
    images: ImagePlaces = ImagePlaces()
    network: NetworkPlaces = NetworkPlaces()
    drivers: Mapping[str, Mapping[str, Any]] = {}  # sections of the drivers, by name, untouched
    runtime_classes: Mapping[str, RuntimeClass] = {}  # by the name that spec.runtimeClassName gives
    source: str = ""  # the file; "" where there is none


Places = TypeVar("Places", ImagePlaces, NetworkPlaces)

_PATHS = ("socket", "run_dir", "state_dir", "log_dir", "pods_dir")
_FILES = {  # keys outside [daemon] that are paths, or lists of them
    "images": ("root", "run_root", "registries", "policy", "auth_file"),
    "network": ("conf_dir", "bin_dirs", "cache_dir"),
}
_KEYS = {
    "": ("default_driver", "daemon", "images", "network", "drivers", "runtime_classes"),
    "daemon": Daemon.__struct_fields__,
    "images": ImagePlaces.__struct_fields__,
    "network": NetworkPlaces.__struct_fields__,
}


def load(path: str | None = None) -> Config:
    """Read the file at `path`, or DEFAULT_PATH where there is one; else everything is as by default.

    Raises Invalid; NotFound: `path` is not there; Denied: it may not be read.
    """
    try:
        with open(path or DEFAULT_PATH, "rb") as file:
            text = file.read()
    except FileNotFoundError as exc:
        if path is None:
            return Config()
        raise NotFound(f"{path}: no such file", remedy="give --config the path of a podd.toml") from exc
    except PermissionError as exc:
        raise Denied(f"{path or DEFAULT_PATH}: may not be read") from exc
    except OSError as exc:
        raise Invalid(f"{path or DEFAULT_PATH}: {(exc.strerror or str(exc)).lower()}") from exc
    return parse(text, os.path.abspath(path or DEFAULT_PATH))


def parse(text: bytes, path: str) -> Config:
    """path: absolute; its directory is where relative paths start. Raises Invalid, with the line where it is known."""
    try:
        decoded = text.decode()
        document = tomllib.loads(decoded)
    except UnicodeDecodeError as exc:
        raise Invalid(f"{path}: is not UTF-8: at byte {exc.start}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise Invalid(f"{path}: is not TOML: {str(exc)[:1].lower()}{str(exc)[1:]}") from exc
    return _Check(path, decoded).config(document)


def differences(old: Config, new: Config) -> list[str]:
    """The keys that differ; of a driver's section, or a runtime class, its name alone: "drivers.setns"."""
    pairs: list[tuple[str, object, object]] = [("default_driver", old.default_driver, new.default_driver)]
    for section in ("daemon", "images", "network"):
        before, after = getattr(old, section), getattr(new, section)
        pairs += [(f"{section}.{key}", getattr(before, key), getattr(after, key)) for key in _KEYS[section]]
    for name in sorted({*old.drivers, *new.drivers}):
        pairs.append((f"drivers.{name}", old.drivers.get(name, {}), new.drivers.get(name, {})))
    for name in sorted({*old.runtime_classes, *new.runtime_classes}):
        pairs.append((f"runtime_classes.{name}", old.runtime_classes.get(name), new.runtime_classes.get(name)))
    return [key for key, before, after in pairs if before != after]


class _Check:
    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._text = text

    def config(self, document: dict[str, Any]) -> Config:
        self._known_keys(document, "")
        for name in ("daemon", "images", "network", "drivers", "runtime_classes"):
            self._table(document.get(name, {}), name)
        for name, section in document.get("drivers", {}).items():
            self._table(section, f"drivers.{name}")
        for name in ("daemon", "images", "network"):
            self._known_keys(document.get(name, {}), name)
        classes = {name: self._class(name, given) for name, given in document.get("runtime_classes", {}).items()}
        try:
            config = msgspec.convert({**document, "runtime_classes": classes, "source": self._path}, Config)
        except msgspec.ValidationError as exc:
            what, _, where = str(exc).partition(" - at `$.")
            raise self._invalid(where.rstrip("`"), what[:1].lower() + what[1:]) from exc
        if not config.default_driver:
            raise self._invalid("default_driver", "is empty", "name a driver")
        return msgspec.structs.replace(
            config,
            daemon=self._with_paths(config.daemon),
            images=self._with_files("images", config.images),
            network=self._with_files("network", config.network),
        )

    def _class(self, name: str, given: object) -> RuntimeClass:
        key = f"runtime_classes.{name}"
        if not is_dns_label(name):
            raise self._invalid(key, "is not the name of a class", "use lower-case letters, digits and -, at most 63")
        section = self._table(given, key)
        driver = section.get("driver")
        if not isinstance(driver, str) or not driver:
            raise self._invalid(key if driver is None else f"{key}.driver", "a class is of a driver", "name the driver")
        return RuntimeClass(driver=driver, section={key: value for key, value in section.items() if key != "driver"})

    def _with_paths(self, daemon: Daemon) -> Daemon:
        paths = {name: self._absolute(f"daemon.{name}", getattr(daemon, name)) for name in _PATHS}
        length = len(os.fsencode(paths["socket"]))
        if length > MAX_SOCKET_PATH:
            what = f"is {length} bytes long, and the kernel takes {MAX_SOCKET_PATH} as the path of a socket"
            raise self._invalid("daemon.socket", what, "give a shorter path")
        return msgspec.structs.replace(daemon, **paths)

    def _with_files(self, section: str, given: Places) -> Places:
        paths: dict[str, str | tuple[str, ...]] = {}
        for name in _FILES[section]:
            value, key = getattr(given, name), f"{section}.{name}"
            if not isinstance(value, str):
                paths[name] = tuple(self._absolute(key, one) for one in value)
            elif value:
                paths[name] = self._absolute(key, value)
        return msgspec.structs.replace(given, **paths)

    def _absolute(self, key: str, path: str) -> str:
        if not path or not path.isprintable():
            raise self._invalid(key, "is empty" if not path else "has control characters in it", "give a path")
        return os.path.normpath(os.path.join(os.path.dirname(self._path), path))

    def _table(self, value: object, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._invalid(name, "is a section", f"write [{name}] and its keys below")
        return value

    def _known_keys(self, table: dict[str, Any], section: str) -> None:
        for key in table:
            if key not in _KEYS[section]:
                name = f"{section}.{key}".removeprefix(".")
                raise self._invalid(name, "unknown key", _suggestion(key))

    def _invalid(self, key: str, what: str, remedy: str = "") -> Invalid:
        line = _line(self._text, key)
        place = f"{self._path}:{line}" if line else self._path
        return Invalid(f"{place}: {key}: {what}", remedy=remedy, key=key)


def _suggestion(key: str) -> str:
    names = {name: f"{section}.{name}".removeprefix(".") for section, keys in _KEYS.items() for name in keys}
    close = difflib.get_close_matches(key, names, 1, 0.6)
    return f"did you mean {names[close[0]]}?" if close else f"known are {', '.join(names.values())}"


_HEADER = re.compile(r"\s*\[\s*([^\[\]#]+?)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


def _line(text: str, key: str) -> int | None:
    """On which line `key` (daemon.socket) or its section is written, from 1. The TOML reader does not tell."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = header[1]
            name = section
        elif found := _KEY.match(line):
            name = f"{section}.{found[1]}".removeprefix(".")
        else:
            continue
        if re.sub(r"[\"'\s]", "", name) == key:
            return number
    return None
