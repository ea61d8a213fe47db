"""Workflows as the browser saves them become prompts of the API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anonymize_faces.tools.layout import ROOT
from anonymize_faces.tools.workflow import load_workflow, workflow_to_prompt

INFO = {
    "Source": {"input": {"required": {}}, "input_order": {"required": []}},
    "Sink": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "mode": [["a", "b"], {}],
            },
            "optional": {"text": ["STRING", {}]},
        },
        "input_order": {"required": ["model", "seed", "mode"], "optional": ["text"]},
    },
}


def workflow(**changes: Any) -> dict[str, Any]:
    sink = {
        "id": 2,
        "type": "Sink",
        "mode": 0,
        "inputs": [{"name": "model", "type": "MODEL", "link": 1}],
        "widgets_values": [7, "randomize", "b", "hello"],
    }
    source = {"id": 1, "type": "Source", "mode": 0, "inputs": [], "widgets_values": []}
    return {"nodes": [source, {**sink, **changes}], "links": [[1, 1, 0, 2, 0, "MODEL"]]}


def test_links_and_widget_values_become_inputs() -> None:
    prompt = workflow_to_prompt(workflow(), INFO)
    assert prompt["2"] == {
        "class_type": "Sink",
        "inputs": {"model": ["1", 0], "seed": 7, "mode": "b", "text": "hello"},
    }


def test_a_widget_that_was_made_a_socket_takes_the_link() -> None:
    changed = workflow(inputs=[{"name": "text", "type": "STRING", "link": 1}])
    assert workflow_to_prompt(changed, INFO)["2"]["inputs"]["text"] == ["1", 0]


def test_muted_nodes_and_notes_are_left_out() -> None:
    assert list(workflow_to_prompt(workflow(mode=2), INFO)) == ["1"]
    assert list(workflow_to_prompt(workflow(type="MarkdownNote"), INFO)) == ["1"]


def test_a_node_that_the_server_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="no node Unknown"):
        workflow_to_prompt(workflow(type="Unknown"), INFO)


def test_too_few_widget_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no value for mode"):
        workflow_to_prompt(workflow(widgets_values=[7, "fixed"]), INFO)


def test_shipped_workflows_are_whole() -> None:
    files = sorted((ROOT / "example_workflows").glob("*.json"))
    assert files
    for file in files:
        content = load_workflow(file)
        ids = {node["id"] for node in content["nodes"]}
        assert all(link[1] in ids and link[3] in ids for link in content["links"])
        assert json.loads(json.dumps(content)) == content
