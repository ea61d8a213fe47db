"""Who is sent what of a run, with a clock and a sleep of the tests' own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from anonymize_faces.nodes.server.feed import LEASE_SECONDS, MOST_WATCHERS, SEND_SECONDS, Feed
from anonymize_faces.trainer.reporting.telemetry import Run, Telemetry

Result = TypeVar("Result")


class TimedFeed:
    """A feed in a world where time passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0
        self.telemetry = Telemetry(lambda: self.now)
        self.sent: list[tuple[float, int, str]] = []
        self.sleeps = 0
        self.meanwhile: Callable[[], None] = lambda: None
        self.feed = Feed(self.telemetry, self._send, lambda: self.now, self._sleep)

    def _send(self, snapshot: dict, watcher: str) -> None:
        self.sent.append((self.now, snapshot["version"], watcher))

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1
        self.meanwhile()
        await asyncio.sleep(0)

    def until(self, seconds: float) -> Awaitable[None]:
        async def pass_time() -> None:
            for _ in range(100_000):
                if self.now >= seconds:
                    return
                await asyncio.sleep(0)

        return pass_time()


def played(play: Coroutine[Any, Any, Result]) -> Result:
    """What comes of a play. It has a thread of its own, as the tests' browser has an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, play).result()


def test_whoever_watches_is_sent_what_changed_at_most_four_times_a_second():
    async def play() -> TimedFeed:
        stage = TimedFeed()
        stage.meanwhile = lambda: [stage.telemetry.begin(Run()) for _ in range(50)]
        stage.feed.watch("a")
        await stage.until(10)
        return stage

    stage = played(play())
    times = [when for when, _, _ in stage.sent]
    assert len(times) >= 30
    assert all(later - earlier >= SEND_SECONDS for earlier, later in itertools.pairwise(times))
    versions = [version for _, version, _ in stage.sent]
    assert versions == sorted(set(versions))


def test_nothing_is_sent_that_did_not_change():
    async def play() -> TimedFeed:
        stage = TimedFeed()
        stage.telemetry.begin(Run())
        assert stage.feed.watch("a")["version"] == 1
        await stage.until(5)
        return stage

    assert played(play()).sent == []


def test_a_lease_that_is_not_renewed_runs_out_and_then_nothing_happens_at_all():
    async def play() -> tuple[TimedFeed, int]:
        stage = TimedFeed()
        stage.meanwhile = lambda: stage.telemetry.begin(Run())
        stage.feed.watch("a")
        await stage.until(LEASE_SECONDS)
        for _ in range(5):
            await asyncio.sleep(0)
        slept = stage.sleeps
        for _ in range(100):
            await asyncio.sleep(0)
        assert stage.feed.watchers == ()
        return stage, slept

    stage, slept = played(play())
    assert stage.sleeps == slept
    assert max(when for when, _, _ in stage.sent) <= LEASE_SECONDS


def test_each_watcher_is_sent_its_own_and_one_that_leaves_no_more():
    async def play() -> TimedFeed:
        stage = TimedFeed()
        stage.meanwhile = lambda: stage.telemetry.begin(Run())
        stage.feed.watch("a")
        stage.feed.watch("b")
        await stage.until(2)
        stage.feed.leave("a")
        await stage.until(4)
        return stage

    sent = played(play()).sent
    assert {watcher for when, _, watcher in sent if when < 2} == {"a", "b"}
    assert {watcher for when, _, watcher in sent if when > 2.5} == {"b"}


def test_coming_back_does_not_send_sooner():
    async def play() -> TimedFeed:
        stage = TimedFeed()
        stage.meanwhile = lambda: stage.telemetry.begin(Run())
        for _ in range(20):
            stage.feed.watch("a")
            await asyncio.sleep(0)
            stage.feed.leave("a")
            for _ in range(5):
                await asyncio.sleep(0)
            stage.telemetry.begin(Run())
        stage.feed.watch("a")
        await stage.until(stage.now + 3)
        return stage

    times = [when for when, _, _ in played(play()).sent]
    assert times and all(later - earlier >= SEND_SECONDS for earlier, later in itertools.pairwise(times))


def test_of_too_many_watchers_the_oldest_gives_way():
    async def play() -> tuple[str, ...]:
        stage = TimedFeed()
        for number in range(MOST_WATCHERS + 3):
            stage.feed.watch(str(number))
        return stage.feed.watchers

    watchers = played(play())
    assert len(watchers) == MOST_WATCHERS and watchers[0] == "3"
