"""The evaluation in a real ComfyUI: the shipped workflow, and a job that is cancelled and goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anonymize_faces.demo.world.people import cast
from anonymize_faces.prefix import load_prefix, save_prefix, scores_hold
from anonymize_faces.tests.support.evaluation_workflow import SMALL, node
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, ServerProgress, WorkflowError, WorkflowInterruptedError
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

PEOPLE = cast()[:2]
NAMES = "\n".join(f"{person.name}: {person.looks.describe()}" for person in PEOPLE)
ALL_OF_IT = 2 * 2 * (4 + 2) + 2
"""Two columns of four portraits and two other pictures, drawn and read or compared; the other noises."""


def evaluating(**inputs: Any) -> dict[str, Any]:
    """Evaluates on the demo model, and shows report, JSON and folder."""
    sockets = {"model": ["load", 0], "clip": ["load", 1], "vae": ["load", 2], "identities": ["people", 0]}
    return {
        "load": node("LoadDemoModel"),
        "people": node("IdentityList", text=NAMES),
        "evaluate": node("EvaluateAnonymization", **(sockets | SMALL | inputs)),
        "table": node("PreviewImage", images=["evaluate", 1]),
        "json": node("PreviewAny", source=["evaluate", 2]),
        "folder": node("PreviewAny", source=["evaluate", 3]),
    }


@pytest.fixture(scope="module", autouse=True)
def prefixes(server: ComfyServer) -> None:
    for seed in (1, 2, 3):
        save_prefix(demo_prefix(seed), server.prefix_folder / "evaluate" / f"{seed}.safetensors")


def told(outputs: dict[str, Any], name: str) -> str:
    return outputs[name]["text"][0]


def test_a_job_that_is_cancelled_goes_on_and_ends_with_the_figures_of_one_that_was_not(server):
    def cancel(progress: ServerProgress) -> None:
        if progress.node_id == "evaluate" and progress.value >= 6:
            server.interrupt()

    graph = evaluating(prefix_1="evaluate/1.safetensors", steps=8)
    with pytest.raises(WorkflowInterruptedError) as stopped:
        server.wait(server.queue(graph), on_progress=cancel)
    assert stopped.value.node_id == "evaluate"
    picture_sets = server.workspace / "user" / "__anonymize_faces" / "evaluations"
    before = {path: path.stat().st_mtime_ns for path in picture_sets.rglob("drawn.safetensors")}
    assert before
    seen: list[ServerProgress] = []
    broken = server.wait(server.queue(graph), on_progress=seen.append)["outputs"]
    mine = [progress for progress in seen if progress.node_id == "evaluate" and progress.maximum > 1]
    assert {progress.maximum for progress in mine} == {ALL_OF_IT} and mine[-1].value == ALL_OF_IT
    kept = [path for path, written in before.items() if path.stat().st_mtime_ns == written]
    assert kept, "everything was drawn again"

    for path in sorted(picture_sets.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    whole = server.run(evaluating(prefix_1="evaluate/1.safetensors", steps=8, filename_prefix="evaluations/whole"))[
        "outputs"
    ]
    assert json.loads(told(broken, "json"))["columns"] == json.loads(told(whole, "json"))["columns"]


def test_files_of_prefixes_and_learned_ones_stand_side_by_side(server):
    graph = evaluating(prefix_1="evaluate/2.safetensors", learned_prefix_2=["learned", 0])
    graph["learned"] = node("LoadAnonymizationPrefix", file="evaluate/3.safetensors")
    graph["save"] = node(
        "SaveAnonymizationPrefix", prefix=["evaluate", 4], name="evaluate/scored", format="safetensors"
    )
    outputs = server.run(graph)["outputs"]
    columns = json.loads(told(outputs, "json"))["columns"]
    assert [column["name"] for column in columns] == ["none", "learned 2", "2"]
    assert all(column["scores"]["preservation"] > 0 for column in columns[1:])
    assert columns[0]["scores"]["attribute_retention"] > 0
    report = told(outputs, "evaluate")
    assert "With 'learned 2' the people named are found in" in report and "identification rate" in report
    table = Image.open(io.BytesIO(server.image(outputs["table"]["images"][0])))
    shown = Image.open(io.BytesIO(server.image(outputs["evaluate"]["images"][0])))
    assert np.array_equal(np.asarray(table), np.asarray(shown)) and table.width > 600
    folder = Path(told(outputs, "folder"))
    assert folder.is_relative_to(server.workspace / "output" / "evaluations")
    assert json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["columns"] == columns
    assert "data:image/png" in (folder / "evaluation.html").read_text(encoding="utf-8")
    saved = load_prefix(server.prefix_folder / "evaluate" / "scored.safetensors")
    assert scores_hold(saved) and saved.record.scores["preservation"] == columns[1]["scores"]["preservation"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"prefix_2": "no such file.safetensors"}, "no prefix file|Value not in list"),
        ({"prompts": "a portrait"}, "names nobody: write {name}"),
        ({"recognizer": "facenet", "identities": None}, "connect an Identity List"),
        ({"prefix_1": "evaluate/1.safetensors", "prefix_2": "evaluate/1.safetensors"}, "are the same prefix"),
        ({"references": ["blank", 0]}, "3 reference photos of 2 people"),
    ],
)
def test_what_cannot_be_measured_is_the_nodes_error(server, inputs, words):
    graph = evaluating(**inputs) | {"blank": node("EmptyImage", width=64, height=64, batch_size=3, color=0)}
    graph["evaluate"]["inputs"] = {
        key: value for key, value in graph["evaluate"]["inputs"].items() if value is not None
    }
    with pytest.raises(WorkflowError, match=words) as failed:
        server.run(graph)
    assert failed.value.node_id == "evaluate"


def test_nothing_is_saved_where_no_prefix_was_evaluated(server):
    graph = evaluating(general_prompts="", images_per_prompt=0)
    saving = {"name": "evaluate/nothing", "format": "safetensors"}
    graph["save"] = node("SaveAnonymizationPrefix", prefix=["evaluate", 4], **saving)
    outputs = server.run(graph)["outputs"]
    assert "save" not in outputs and not (server.prefix_folder / "evaluate" / "nothing.safetensors").exists()
    assert told(outputs, "evaluate").startswith("Without a prefix the people named are found in")


def test_the_shipped_workflow_evaluates_a_prefix_that_is_there_and_saves(server, tidy):
    save_prefix(demo_prefix(), server.prefix_folder / "demo people.safetensors", overwrite=True)
    workflow = load_workflow(ROOT / "example_workflows" / "5 Evaluate on the demo model.json")
    graph = workflow_to_prompt(workflow, server.object_info())
    kinds = {item["class_type"]: name for name, item in graph.items()}
    assert "TrainAnonymizationPrefix" not in kinds
    evaluate = graph[kinds["EvaluateAnonymization"]]["inputs"]
    assert evaluate["cfg"] == evaluate["width"] == 0
    assert evaluate["images_per_name"] == 4 and evaluate["scheduler"] == "normal"
    evaluate |= {"steps": 2, "images_per_name": 1, "images_per_prompt": 1, "general_prompts": "a road"}
    people = graph[kinds["IdentityList"]]["inputs"]
    people["text"] = "\n".join(people["text"].splitlines()[:3])
    outputs = server.run(graph)["outputs"]
    assert "3 people, pictures of each: 1, of A close-up portrait of {name}" in told(
        outputs, kinds["EvaluateAnonymization"]
    )
    assert "renders of the demo's 64 people" in told(outputs, kinds["PreviewAny"])
    assert scores_hold(load_prefix(server.prefix_folder / "evaluated demo people.safetensors"))
