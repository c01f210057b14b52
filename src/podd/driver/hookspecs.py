"""The hooks by which a plugin takes part. This module is the plugin interface.

A plugin is a module (or object) that an entry point of the group "podd" names. It says which version of the driver
contract it was written for and implements any of the hooks:

    from podd.driver.hookspecs import hookimpl

    PODD_CONTRACT_VERSION = 1      # as written, not imported: it tells what the plugin knows, not what podd has

    @hookimpl
    def podd_drivers():
        return {"mine": MyDriver}

Hooks register or answer; they are synchronous and do not block. What works lives behind what they return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec
import pluggy

from podd.driver.contract import Driver
from podd.model.pod import Pod
from podd.model.value import Value

GROUP = "podd"
"""The entry point group, and the name under which pluggy keeps the marks."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class ImagePlaces(Value):
    """Where images are that podd itself keeps: [images] of podd.toml, where "" may stand for what is said here.

    Drivers get it with both roots filled in.
    """

    root: str = ""  # of containers/storage, perhaps shared with podman and buildah; "" is <state_dir>/storage
    run_root: str = ""  # its part that a reboot may lose; "" is <run_dir>/storage
    registries: str = ""  # a registries.conf; "" is the host's
    policy: str = ""  # a policy.json; "" is the host's
    auth_file: str = ""  # a docker config.json; "" is the host's
    pull_deadline_s: float = 900.0
    max_parallel_pulls: Annotated[int, msgspec.Meta(ge=1)] = 4  # of all drivers together; the engine sees to it


class NetworkPlaces(Value):
    """How pods that podd itself connects are connected: [network] of podd.toml.

    Drivers get it with cache_dir filled in.
    """

    conf_dir: str = "/etc/cni/net.d"
    bin_dirs: Sequence[str] = ("/usr/lib/cni", "/opt/cni/bin")
    cache_dir: str = ""  # what plugins were told and what they answered; "" is <state_dir>/cni


class DriverPaths(Value):
    """Where a driver may keep things: absolute directories, made by the daemon, closed to others, the driver's to fill.

    All drivers share them, but for a runtime class, which has its own: what is kept for one name is never found by
    another.
    """

    run_dir: str  # lost at reboot, on a tmpfs: sockets, pins
    state_dir: str  # kept: writable layers
    log_dir: str  # kept: logs of containers lie below it, under the paths that each container's config names
    images: ImagePlaces = ImagePlaces()  # of drivers that have no images of their own
    network: NetworkPlaces = NetworkPlaces()  # of drivers that have no network of their own


class DriverFactory(Protocol):
    """Makes a driver. Synchronous, cheap: what takes time or touches the host belongs into `__aenter__` and `probe`."""

    def __call__(self, name: str, section: Mapping[str, Any], paths: DriverPaths) -> Driver:
        """A driver of that name, configured by its section [drivers.NAME].

        Called once for the driver itself and once for each runtime class that is of it, with the name of the class and
        its section over the driver's: several may live side by side. Called again where a section has changed: the
        new one serves new pods, while the one before goes on with the sandboxes that it has made.
        Raises Invalid, naming the key: the section is not understood.
        """
        ...


@hookspec
def podd_drivers() -> Mapping[str, DriverFactory]:  # type: ignore[empty-body]
    """Offer drivers by name. Called once, before the event loop."""


@hookspec
def podd_admit(pod: Pod) -> Pod | None:
    """Look at a pod that is about to be accepted: None to let it pass, another Pod to amend it.

    Raises a podd.errors class to refuse it; the message goes to who asked. Any other exception refuses it too, as
    Internal: a gate that breaks is closed. Name, namespace and uid cannot be amended. Plugins are asked one after the
    other, in the order of their names, each seeing what the one before made of it.
    """


@hookspec
def podd_observe(event: Mapping[str, Any]) -> None:
    """Learn of something that happened, in the form `podd-cli events -o json` gives it.

    Called on the event loop: hand slow work to a thread of your own. A plugin that raises here is not called again.
    """
