"""Where a handler acts, and how it says that it did not succeed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from podd.driver.contract import CanConnect, CanExec, Driver, Handle
from podd.errors import Unsupported
from podd.model.pod import Container, IntOrString


class Failed(Exception):
    """What was asked did not succeed: the container's doing, not podd's. The text is for people, as the kubelet's."""


@dataclass(frozen=True)
class Place:
    """A container that runs, and the network of its pod. The powers of its driver raise Unsupported where it has not.

    They are asked for once: to hold an object against a Protocol takes as long as a tenth of a probe.
    """

    driver: Driver
    sandbox: Handle
    container: Handle
    spec: Container

    @cached_property
    def commands(self) -> CanExec:
        if not isinstance(self.driver, CanExec):
            raise Unsupported(f"driver {self.driver.name}: cannot exec")
        return self.driver

    @cached_property
    def network(self) -> CanConnect:
        if not isinstance(self.driver, CanConnect):
            raise Unsupported(f"driver {self.driver.name}: cannot connect")
        return self.driver

    def port(self, port: IntOrString) -> int:
        """The number of one that is given by its name, perhaps."""
        if isinstance(port, int):
            return port
        return next(known.container_port for known in self.spec.ports if known.name == port)
