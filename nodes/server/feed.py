"""Sends pages what changes in the run that they watch, at most a few times a second.

Whoever watches says so again and again: a lease that is not renewed runs out, so a page that was closed, hidden or lost
its connection costs nothing. What happens between two sendings is sent as one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ...trainer.reporting.telemetry import Telemetry

LEASE_SECONDS = 12.0
"""How long somebody watches who does not say so again."""

SEND_SECONDS = 0.25
"""Between two sendings, at least."""

MOST_WATCHERS = 64
"""More pages than anybody looks at; the oldest gives way."""


class Feed:
    """Sends what there is to know of a run to those who watch, when it changed; at rest while nobody does.

    Belongs to the thread of the event loop.

    Args:
        telemetry: what is looked at.
        send: takes what is sent and the watcher's id.
        clock, sleep: seconds that only go forward, and waiting for some.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        send: Callable[[dict[str, Any], str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._telemetry = telemetry
        self._send = send
        self._clock = clock
        self._sleep = sleep
        self._leases: dict[str, float] = {}
        self._sent_at = -SEND_SECONDS
        self._sent_version = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> tuple[str, ...]:
        """Who watches now."""
        now = self._clock()
        self._leases = {watcher: until for watcher, until in self._leases.items() if until > now}
        return tuple(self._leases)

    def watch(self, watcher: str) -> dict[str, Any]:
        """Somebody watches for some time from now on. Returns how things stand."""
        self._leases.pop(watcher, None)
        while len(self._leases) >= MOST_WATCHERS:
            del self._leases[next(iter(self._leases))]
        self._leases[watcher] = self._clock() + LEASE_SECONDS
        if self._task is None or self._task.done():
            self._sent_version = self._telemetry.version
            self._task = asyncio.get_running_loop().create_task(self._feed())
        return self._telemetry.snapshot()

    def leave(self, watcher: str) -> None:
        """Somebody no longer watches."""
        self._leases.pop(watcher, None)

    async def _feed(self) -> None:
        while self.watchers:
            wait = self._sent_at + SEND_SECONDS - self._clock()
            if wait > 0:
                await self._sleep(wait)
                continue
            if self._telemetry.version == self._sent_version:
                await self._sleep(SEND_SECONDS)
                continue
            snapshot = self._telemetry.snapshot()
            self._sent_at, self._sent_version = self._clock(), snapshot["version"]
            for watcher in self.watchers:
                self._send(snapshot, watcher)
