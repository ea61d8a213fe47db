"""Turns a workflow that a browser saved into a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}
MUTED, BYPASSED = 2, 4


def load_workflow(path: Path) -> dict[str, Any]:
    """Reads a workflow file."""
    return json.loads(path.read_text(encoding="utf-8"))


def workflow_to_prompt(workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt `{node id: {class_type, inputs}}` of a workflow.

    `object_info` is the server's answer to `/object_info`. Raises ValueError if the workflow uses a node that this
    server does not have, or if its widget values do not fit the node's widgets.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES or node.get("mode") in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ValueError(f"This server has no node {node['type']}: install the extension that brings it.")
        info = object_info[node["type"]]
        linked = {i["name"]: links[i["link"]] for i in node.get("inputs", ()) if i.get("link") is not None}
        inputs = dict(_widget_values(node, info)) | linked
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _widget_values(node: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    values = iter(node.get("widgets_values") or ())
    for section in ("required", "optional"):
        for name in info["input_order"].get(section, ()):
            kind, *options = info["input"][section][name]
            if not (isinstance(kind, list) or kind in WIDGET_TYPES):
                continue
            settings = options[0] if options else {}
            if settings.get("forceInput"):
                continue
            try:
                yield name, next(values)
            except StopIteration:
                raise ValueError(
                    f"Node {node['id']} ({node['type']}) has no value for {name}: save the workflow again."
                ) from None
            if settings.get("control_after_generate"):
                next(values, None)
