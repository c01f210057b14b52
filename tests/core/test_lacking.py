"""A pod that lacks a ConfigMap or Secret looks for it steadily, and at once when told of a change."""

from __future__ import annotations

import pytest

from podd.core import container, pod
from podd.core import events as ev
from podd.errors import Kind
from world import SECOND, World

LACK = ev.Failure(kind=Kind.NOT_FOUND, message='secret "s" not found')


def lacking(world: World) -> None:
    """Its next container cannot be made."""
    (asked,) = world.waits_for(ev.CreateContainer)
    world.pending.remove(asked)
    world.feed(ev.ContainerFailed(id=asked.id, failure=LACK, reason=container.CONFIG_ERROR))
    while world.pending:
        world.do(world.pending[0])


def begun(world: World) -> None:
    """Up to where its container is asked for."""
    while world.pending and not world.waits_for(ev.CreateContainer):
        world.do(world.pending[0])


def wait_s(world: World) -> float:
    wake = pod.next_wake(world.state)
    assert wake is not None
    return (wake - world.now_ns) / SECOND


def woken(world: World) -> None:
    wake = pod.next_wake(world.state)
    assert wake is not None
    world.now_ns = wake
    world.feed(ev.Woke())


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_start_is_tried_again_steadily(policy: str) -> None:
    world = World.of("a", restart_policy=policy)
    for _ in range(8):
        begun(world)
        lacking(world)
        assert wait_s(world) == 10
        woken(world)


def test_a_member_is_tried_again_steadily() -> None:
    world = World.of("a")
    world.settle()
    world.exit("a")
    begun(world)
    for _ in range(8):
        lacking(world)
        assert wait_s(world) == 10
        woken(world)
        begun(world)
    world.settle()
    assert world.running == ["a"]
    assert world.state.members["a"].backoff.delay_s == 10, "only the crash counts"


def test_volumes_that_lack_an_object_are_tried_again_when_it_comes() -> None:
    world = World.of("a")
    world.pending.clear()
    world.feed(ev.VolumesPrepared(failure=LACK))
    assert wait_s(world) == 10
    world.feed(ev.ObjectChanged())
    assert world.waits_for(ev.PullImages) or world.waits_for(ev.PrepareVolumes)


def test_a_change_begins_no_member_that_is_to_end() -> None:
    world = World.of("a", "b")
    world.settle()
    world.exit("a")
    begun(world)
    lacking(world)
    world.feed(ev.StopAsked(grace_s=30))
    world.feed(ev.ObjectChanged())
    assert not world.waits_for(ev.CreateContainer)
