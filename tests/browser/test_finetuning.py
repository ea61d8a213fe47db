"""Fine-tuning on the demo model, watched in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from anonymize_faces.tests.browser.workbench import PATIENCE, Workbench, load
from anonymize_faces.tools.layout import ROOT

EXAMPLE = ROOT / "example_workflows" / "11 Describe faces, then train a LoRA.json"
MEASURING = ROOT / "example_workflows" / "9 Measure how photos are protected.json"
PANEL = ".anonymize-faces-training"


@pytest.fixture(autouse=True)
def nothing_goes_on(workbench: Workbench) -> Iterator[None]:
    """Ends what a test that failed left running: all others would wait for it."""
    yield
    requests.post(f"{workbench.server.url}/queue", json={"clear": True}, timeout=60)
    workbench.server.interrupt()


def tuning(seed: int) -> dict[str, Any]:
    """The example, of two pictures, learned from for long."""
    workflow = load(EXAMPLE)
    for node in workflow["nodes"]:
        if node["type"] == "EmptyLatentImage":
            node["widgets_values"][2] = 2
        if node["type"] == "KSampler":
            node["widgets_values"][2] = 8
        if node["type"] == "FineTuneOnCaptions":
            node["widgets_values"][0], node["widgets_values"][4:6] = 3000, [2, seed]
    return workflow


def wait_for(workbench: Workbench, part: str, text: str) -> str:
    """Waits until that part of the panel shows a text, and returns it."""
    found = workbench.page.locator(f"{PANEL} {part}").filter(has_text=re.compile(text))
    found.wait_for(timeout=2 * PATIENCE)
    return found.inner_text()


@pytest.mark.slow
def test_fine_tuning_is_watched_outlives_a_reload_and_is_stopped_with_what_it_has_learned(workbench: Workbench) -> None:
    page = workbench.page
    workbench.open(tuning(31))
    workbench.look_at("FineTuneOnCaptions")
    # Not what it says of itself: the example may have run in this server before.
    assert page.locator(PANEL).get_by_role("button").all_inner_texts() == ["Stop and keep", "Cancel"]
    assert page.locator(PANEL).get_by_role("button", name="Stop and keep").is_disabled()
    workbench.queue()
    wait_for(workbench, ".state", r"Step \d+ of 3000")
    wait_for(workbench, ".message", r"3,000 steps on [\d,]+ numbers, \d+\.\d GB of memory")
    wait_for(workbench, ".left", r"\d:\d\d left")
    wait_for(workbench, ".verdict", r"Loss: \d\.\d+ at first, \d\.\d+ now")
    line = (
        f"() => document.querySelector('{PANEL}').shadowRoot.querySelector('path.loss').getAttribute('d').includes('L')"
    )
    page.wait_for_function(line)
    wait_for(workbench, ".chart .title", "loss")

    page.reload()
    workbench.ready()
    workbench.look_at("FineTuneOnCaptions")  # What is out of sight is hidden.
    before = int(re.findall(r"\d+", wait_for(workbench, ".state", r"Step \d+ of 3000"))[0])
    wait_for(workbench, ".state", f"Step (?!{before} )")
    workbench.picture("fine-tuning")
    page.locator(PANEL).get_by_role("button", name="Stop and keep").press("Enter")
    wait_for(workbench, ".state", r"Stopped and kept at step \d+ of 3000")
    told = wait_for(workbench, ".message", r"You stopped it at step \d+")
    page.wait_for_function("() => window.app.ui.lastQueueSize === 0")
    report = page.locator(".anonymize-faces-report .report").filter(has_text=told.split(".")[0])
    report.wait_for()
    assert page.locator(PANEL).get_by_role("button", name="Stop and keep").is_disabled()


def test_fine_tuning_is_cancelled_from_the_node(either_workbench: Workbench, request: pytest.FixtureRequest) -> None:
    either_workbench.open(tuning(32 + ("2.0" in request.node.name)))
    either_workbench.look_at("FineTuneOnCaptions")
    either_workbench.queue()
    wait_for(either_workbench, ".state", r"Step \d+ of 3000")
    assert either_workbench.overlaps() == []
    either_workbench.page.locator(PANEL).get_by_role("button", name="Cancel").click()
    wait_for(either_workbench, ".state", "Cancelled")


def test_an_attack_on_photos_is_watched_and_cancelled_from_the_node(workbench: Workbench) -> None:
    workflow = load(MEASURING)
    quick = {
        "EmptyLatentImage": {2: 2},
        "KSampler": {2: 4},
        "ProtectPhotos": {2: 40},
        "MeasurePhotoProtection": {3: 500},
    }
    for node in workflow["nodes"]:
        for place, value in quick.get(node["type"], {}).items():
            node["widgets_values"][place] = value
    workbench.open(workflow)
    workbench.look_at("MeasurePhotoProtection")
    workbench.queue()
    report = workbench.page.locator(".anonymize-faces-report .report")
    # While it protects: its report comes at the end.
    report.filter(has_text=re.compile(r"^40 steps on \d+ photos: ")).wait_for()
    wait_for(workbench, ".state", r"Step \d+ of 1000")
    report.filter(has_text="photos changed").wait_for()
    wait_for(workbench, ".message", r"500 steps on [\d,]+ numbers")
    assert workbench.page.locator(PANEL).get_by_role("button").all_inner_texts() == ["Cancel"]
    assert workbench.overlaps() == []
    workbench.picture("attack")
    workbench.page.locator(PANEL).get_by_role("button", name="Cancel").click()
    wait_for(workbench, ".state", "Cancelled")
