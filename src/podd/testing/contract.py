"""DriverContract: what every driver must do, as tests that a driver's author runs by a few lines.

    from podd.testing.contract import DriverContract

    class TestMyDriver(DriverContract):
        image = "rootfs:/"

        @pytest.fixture
        def make_driver(self, tmp_path: Path) -> Callable[[], Driver]:
            paths = DriverPaths(run_dir=..., state_dir=..., log_dir=...)
            return lambda: MyDriver("mine", {}, paths)

make_driver is called several times in a test: each driver is a later life of podd on the same host, so what the one
made, the next must find. Each capability that the driver declares is proved; each that it does not is left alone.
Needs pytest and the pytest plugin of anyio, which comes with anyio.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import anyio
import msgspec
import pytest

pytest.register_assert_rewrite(
    *(
        f"podd.testing.contract_{part}"
        for part in ("sandboxes", "containers", "mounts", "powers", "changes", "network", "images")
    )
)

from podd.driver.contract import ContainerConfig, Driver, Handle  # noqa: E402
from podd.linux.process import pidfd_of  # noqa: E402
from podd.testing.contract_changes import Changes  # noqa: E402
from podd.testing.contract_containers import Containers  # noqa: E402
from podd.testing.contract_images import Images  # noqa: E402
from podd.testing.contract_mounts import Mounts  # noqa: E402
from podd.testing.contract_network import Network  # noqa: E402
from podd.testing.contract_powers import Powers  # noqa: E402
from podd.testing.contract_sandboxes import Sandboxes  # noqa: E402
from podd.testing.lab import Act, Lab, open_descriptors  # noqa: E402


@pytest.mark.anyio
class DriverContract(Sandboxes, Containers, Mounts, Powers, Changes, Network, Images):
    """Subclass it, name the image, and give `make_driver`. The rest has defaults for real drivers.

    image: what containers run; it must have /bin/sh, sleep, cat and kill.
    remote: a fixture; see podd.testing.contract_images. Where it is not given, images are left alone.
    real_processes: False for a driver whose containers do not run scripts; then give `arrange` and `let_end`, too.
    """

    image: ClassVar[str] = "rootfs:/"
    real_processes: ClassVar[bool] = True

    @pytest.fixture
    def make_driver(self) -> Callable[[], Driver]:
        raise NotImplementedError("a driver's tests say how to make one")

    @pytest.fixture
    def anyio_backend(self) -> str:
        """What podd runs on."""
        return "asyncio"

    def arrange(self, config: ContainerConfig, act: Act) -> ContainerConfig:
        """Have the container do the act."""
        return msgspec.structs.replace(config, image=self.image, command=("/bin/sh", "-c", act.script))

    async def let_end(self, pid: int) -> None:
        """Return when the process has ended, with nobody's help."""
        await until_gone(pid)

    async def lose(self, sandbox: Handle) -> None:  # noqa: ARG002 for those who override it
        """Kill the sandbox's supervisor or holder, as a crash would."""
        pytest.skip("this driver's tests do not say how a sandbox is lost")

    @pytest.fixture
    async def lab(self, make_driver: Callable[[], Driver], tmp_path: Path) -> AsyncIterator[Lab]:
        shared = tmp_path / "shared"
        shared.mkdir()
        before = open_descriptors()
        lab = Lab(make_driver, self.arrange, shared)
        await lab.enter()
        yield lab
        await lab.close()
        more = {fd: what for fd, what in open_descriptors().items() if before.get(fd) != what}
        assert not more, f"descriptors that the driver has left open: {more}"


async def until_gone(pid: int) -> None:
    """Return when no process of this number runs any more; it may not have been reaped."""
    try:
        pidfd = pidfd_of(pid)
    except ProcessLookupError:
        return
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)
