"""Requests that are drawn side by side come in their order, each on a server that has nothing else to do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonymize_faces.demo.measuring import drawing
from anonymize_faces.demo.measuring.drawing import (
    TOGETHER,
    draw_pictures,
    draw_side_by_side,
    servers_side_by_side,
)
from anonymize_faces.demo.measuring.prompts import Request
from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ServerError, WorkflowError

REQUESTS = [Request(f"prompt {number}", number) for number in range(3 * TOGETHER + 2)]


def test_all_are_drawn_in_order_and_no_server_draws_two_at_once() -> None:
    busy: set[str] = set()
    drew: dict[str, int] = {"a": 0, "b": 0}
    lock = threading.Lock()

    def draw(server: Any, some: Sequence[Request]) -> np.ndarray:
        with lock:
            assert server not in busy
            busy.add(server)
        time.sleep(0.05 if some[0].seed else 0.2)
        with lock:
            busy.remove(server)
            drew[server] += 1
        return np.repeat([request.seed for request in some], 2)

    drawn = draw_side_by_side(["a", "b"], REQUESTS, draw)  # type: ignore[list-item]
    assert drawn.tolist() == np.repeat(range(len(REQUESTS)), 2).tolist()
    assert sorted(drew.values()) == [1, 3]


def test_what_fails_on_a_server_is_raised_and_the_rest_is_not_drawn() -> None:
    asked: list[int] = []

    def draw(server: Any, some: Sequence[Request]) -> np.ndarray:
        asked.append(some[0].seed)
        raise WorkflowError("1", "KSampler", "no", {})

    with pytest.raises(WorkflowError):
        draw_side_by_side(["a"], REQUESTS, draw)  # type: ignore[list-item]
    assert len(asked) < 4


def test_a_server_that_draws_has_the_prefix_and_its_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = save_prefix(demo_prefix(1), tmp_path / "learned.safetensors")
    monkeypatch.setattr(drawing, "MOST_SERVERS", 1)
    with servers_side_by_side(tmp_path, prefix) as (server,):
        environment = Path(f"/proc/{server.pid}/environ").read_text(encoding="utf-8").split("\0")
        some = REQUESTS[:1]
        drawn = draw_side_by_side([server], some, lambda one, few: draw_pictures(one, few, prefix.name, pictures=2))
    assert f"OMP_NUM_THREADS={len(os.sched_getaffinity(0))}" in environment
    assert drawn.shape == (2, 96, 96, 3)
    with pytest.raises(ServerError):
        server.object_info()
