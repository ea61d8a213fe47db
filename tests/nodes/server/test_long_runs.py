"""Runs that are killed or ended early, in a real ComfyUI process, which is started again after it was killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from anonymize_faces.prefix import Prefix, load_prefix
from anonymize_faces.runs.run_folder import DONE
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.tests.support.training_workflow import PEOPLE, Graph, node, training
from anonymize_faces.tools.comfy_server import ComfyServer, ServerError, ServerProgress, WorkflowInterruptedError

MANY = 2_000
"""Steps that no test waits for; newer hosts tell of a run at each half percent of it."""

STOP = "/anonymize_faces/stop"


@pytest.fixture(autouse=True)
def tidy_runs(server: ComfyServer, tidy: None) -> Iterator[None]:
    """Takes away the unfinished runs that other tests have left on the shared server, and those of each test here."""
    _remove_runs(server)
    yield
    _remove_runs(server)


def _remove_runs(server: ComfyServer) -> None:
    for folder in runs(server):
        shutil.rmtree(folder)


def learning(name: str, steps: int, people: str = PEOPLE, seed: int = 1) -> Graph:
    """Learns a prefix on the demo model and saves it, and shows the report."""
    settings = {"steps": steps, "batch_size": 2, "seed": seed, "noisings_per_picture": 4, "patience": 0}
    return training(people, name, **settings) | {"report": node("PreviewAny", source=["train", 2])}


def step_of(progress: ServerProgress, steps: int) -> float:
    """The step that a run of so many is at; below 1 while it draws, warms up and reads."""
    return progress.value - (progress.maximum - steps)


def saved(server: ComfyServer, name: str) -> Prefix:
    return load_prefix(server.prefix_folder / f"{name}.safetensors")


def runs(server: ComfyServer) -> list[Path]:
    """Folders of unfinished runs."""
    folders = (server.workspace / "user" / "__anonymize_faces" / "runs").glob("*")
    return sorted(folder for folder in folders if not (folder / DONE).exists())


def test_after_a_kill_the_same_node_goes_on_and_ends_with_the_same_prefix_to_the_last_bit(server: ComfyServer) -> None:
    def kill(progress: ServerProgress) -> None:
        if step_of(progress, 28) >= 24:
            os.kill(server.pid, signal.SIGKILL)

    with pytest.raises(ServerError, match="was ended by signal 9") as dead:
        server.wait(server.queue(learning("killed", 28)), on_progress=kill)
    assert "\n" not in dead.value.sentence
    server.stop()
    assert not (server.prefix_folder / "killed.safetensors").exists() and len(runs(server)) == 1
    server.start()
    seen: list[float] = []
    entry = server.wait(
        server.queue(learning("killed", 28)), on_progress=lambda progress: seen.append(step_of(progress, 28))
    )
    steps = [step for step in seen if step > 0]
    assert steps[0] >= 21 and steps[-1] == 28
    assert "went on from step" in entry["outputs"]["report"]["text"][0]
    assert runs(server) == []
    # The note makes another text of the same people, so that the host does not reuse the first result.
    server.run(learning("whole", 28, PEOPLE + "\n# again"))
    assert torch.equal(numbers(saved(server, "killed")), numbers(saved(server, "whole")))


def test_a_prefix_that_a_host_lost_before_it_was_saved_is_given_again_at_once(server: ComfyServer) -> None:
    server.run(learning("lost", 12, seed=4))
    (server.prefix_folder / "lost.safetensors").rename(server.prefix_folder / "kept.safetensors")
    server.stop()
    server.start()
    seen: list[float] = []
    entry = server.wait(
        server.queue(learning("lost", 12, seed=4)), on_progress=lambda progress: seen.append(step_of(progress, 12))
    )
    assert not {step for step in seen if 0 < step < 12}
    assert "went on from step" not in entry["outputs"]["report"]["text"][0]
    assert torch.equal(numbers(saved(server, "lost")), numbers(saved(server, "kept")))


def test_cancel_stops_the_run_and_it_can_be_gone_on_with(server: ComfyServer) -> None:
    def run(last: int) -> list[float]:
        """Runs and cancels once a step is reached; the steps that were told."""
        seen: list[float] = []

        def cancel(progress: ServerProgress) -> None:
            seen.append(step_of(progress, MANY))
            if seen[-1] >= last:
                server.interrupt()

        with pytest.raises(WorkflowInterruptedError):
            server.wait(server.queue(learning("cancelled", MANY, seed=2)), on_progress=cancel)
        assert len(runs(server)) == 1
        return [step for step in seen if step > 0]

    before = run(25)
    assert run(26)[0] == before[-1] + 1


def test_stop_and_keep_ends_early_with_the_best_prefix_so_far(server: ComfyServer) -> None:
    answers: list[requests.Response] = []

    def stop(progress: ServerProgress) -> None:
        if progress.value == 1:
            answers.append(requests.post(server.url + STOP, json={}))
        if step_of(progress, MANY) >= 5 and len(answers) < 3:
            answers.append(requests.post(server.url + STOP, json={"prompt_id": "another"}))
            answers.append(requests.post(server.url + STOP, json={"prompt_id": prompt_id}))

    prompt_id = server.queue(learning("stopped", MANY, seed=3))
    entry = server.wait(prompt_id, on_progress=stop)
    assert [answer.status_code for answer in answers[-2:]] == [409, 200]
    assert answers[-1].json() == {"stopping": True} and "Cancel" in answers[-2].json()["error"]
    record = saved(server, "stopped").record
    assert (
        5 <= record.steps < 1000 and f"You stopped it at step {record.steps}" in (entry["outputs"]["report"]["text"][0])
    )
    assert 0 <= record.scores["identity_signal_left"] and runs(server) == []


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (415, "{}", "text/plain"),
        (400, "{", "application/json"),
        (400, "[]", "application/json"),
        (400, '{"prompt_id": 3}', "application/json"),
        (409, "{}", "application/json"),
    ],
)
def test_a_request_to_stop_that_is_not_sound_or_comes_at_no_run_is_refused_with_the_reason(
    status: int, body: str, content_type: str, server: ComfyServer
) -> None:
    answer = requests.post(server.url + STOP, data=body, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.json()["stopping"] is False and answer.json()["error"].endswith(".")


def picture(server: ComfyServer, denoise: float = 1.0) -> np.ndarray:
    """Draws somebody with the demo model. Above 0.9999 each denoise is 1, but to the host's cache it is another."""
    graph = {
        "load": node("LoadDemoModel"),
        "prompt": node("CLIPTextEncode", clip=["load", 1], text="A portrait of Ada Example"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["load", 2]),
        "picture": node("PreviewImage", images=["decode", 0]),
    }
    sampling = {"seed": 5, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    conditions = {"positive": ["prompt", 0], "negative": ["prompt", 0], "latent_image": ["latent", 0]}
    graph["sample"] = node("KSampler", model=["load", 0], **conditions, **sampling)
    shown = server.image(server.wait(server.queue(graph))["outputs"]["picture"]["images"][0])
    return np.asarray(Image.open(BytesIO(shown)))  # The file also holds the workflow.


def own_memory(server: ComfyServer) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def test_a_prompt_that_waits_draws_the_same_picture_and_memory_is_as_before(server: ComfyServer) -> None:
    before = picture(server)
    server.run(learning("first of two", 10, seed=11))
    held = own_memory(server)
    server.queue(learning("second of two", 10, seed=12))
    assert np.array_equal(picture(server, denoise=0.99995), before)
    assert (server.prefix_folder / "second of two.safetensors").is_file()
    assert own_memory(server) - held < 50 * 2**20
