"""The loop: readiness, timers and coroutines, and that a bug in one is not the end of the others."""

from __future__ import annotations

import os
import time

import pytest

from podd.shim.loop import READABLE, Later, Loop


class Bench:
    """A loop, what went wrong in it, and a way to end it."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.loop = Loop(self.errors.append).open()
        self.done: Later[None] = Later()

    def run(self) -> None:
        self.loop.after(5.0, lambda: self.done.set(None))
        self.loop.run(self.done)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_later_is_set_once_for_all_who_wait(bench: Bench) -> None:
    later: Later[int] = Later()
    got: list[int] = []

    async def wait() -> None:
        got.append(await later)

    for _ in range(3):
        bench.loop.spawn(wait())
    assert got == []
    later.set(1)
    later.set(2)
    bench.loop.spawn(wait())
    assert got == [1, 1, 1, 1]


def test_timers_fire_in_order(bench: Bench) -> None:
    fired: list[int] = []
    for n in (3, 1, 2):
        bench.loop.after(n / 1000, lambda n=n: fired.append(n))  # type: ignore[misc]
    bench.loop.after(0.004, lambda: bench.done.set(None))
    bench.run()
    assert fired == [1, 2, 3]


def test_coroutines_wait_for_descriptors_and_sleep(bench: Bench) -> None:
    read, write = os.pipe()
    seen: list[str] = []

    async def reader() -> None:
        await bench.loop.ready(read)
        seen.append(os.read(read, 10).decode())
        bench.done.set(None)

    async def writer() -> None:
        await bench.loop.sleep(0.001)
        seen.append("writes")
        os.write(write, b"data")

    bench.loop.spawn(reader())
    bench.loop.spawn(writer())
    bench.run()
    assert seen == ["writes", "data"]
    os.close(read)
    os.close(write)


def test_error_in_one_task_leaves_the_others(bench: Bench) -> None:
    async def bad() -> None:
        await bench.loop.sleep(0.001)
        raise ValueError("a bug")

    def worse() -> None:
        raise KeyError("another")

    bench.loop.spawn(bad())
    bench.loop.after(0.002, worse)
    bench.loop.after(0.003, lambda: bench.done.set(None))
    bench.run()
    assert [type(error) for error in bench.errors] == [ValueError, KeyError]


def test_callback_of_a_number_used_again_is_not_called_for_the_old_event(bench: Bench) -> None:
    """Two descriptors are ready at once; the first callback closes the second, whose number a third one gets."""
    pipes = [os.pipe() for _ in range(2)]
    called: list[str] = []
    for _, write in pipes:
        os.write(write, b"x")
    later_ends: list[tuple[int, int]] = []

    def close_the_other(mine: int, other: int) -> None:
        called.append("first")
        bench.loop.forget(mine)
        bench.loop.forget(other)
        os.close(other)
        fresh = os.pipe()
        later_ends.append(fresh)
        assert fresh[0] == other
        bench.loop.watch(fresh[0], READABLE, lambda _: called.append("fresh"))
        bench.loop.after(0.01, lambda: bench.done.set(None))

    a, b = pipes[0][0], pipes[1][0]
    bench.loop.watch(a, READABLE, lambda _: close_the_other(a, b))
    bench.loop.watch(b, READABLE, lambda _: close_the_other(b, a))
    bench.run()
    assert called == ["first"]
    assert bench.errors == []
    for fd in (*(write for _, write in pipes), *later_ends[0]):
        os.close(fd)


def test_sleeps_without_waking(bench: Bench) -> None:
    """Nothing to do is no work at all: a long wait costs no CPU time."""
    before = time.process_time()
    bench.loop.after(0.3, lambda: bench.done.set(None))
    bench.run()
    assert time.process_time() - before < 0.05
