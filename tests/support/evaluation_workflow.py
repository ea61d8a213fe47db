"""Gives the settings of a small evaluation, for a real server."""

from __future__ import annotations

from typing import Any

SMALL = {
    "prompts": "A close-up portrait of {name}",
    "general_prompts": "a red circle\na road",
    "images_per_name": 2,
    "images_per_prompt": 1,
    "steps": 2,
    "cfg": 2.0,
    "seed": 5,
    "width": 64,
    "height": 64,
    "batch_size": 2,
    "filename_prefix": "evaluations/test",
    "recognizer": "demo reader",
}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}
