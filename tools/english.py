"""Writes the nodes' own words as the host's translation file.

`python -m anonymize_faces.tools.english` writes locales/en/nodeDefs.json anew, out of a real ComfyUI. The other
languages are written by people; tests/host/test_locales.py tells what they lack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .comfy_server import ComfyServer
from .layout import EXTENSION, ROOT

LOCALES = ROOT / "locales"


def node_words(object_info: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What our nodes say, in the form of nodeDefs.json, out of what the server knows of all nodes."""
    return {
        node_id: _words(info)
        for node_id, info in sorted(object_info.items())
        if info["python_module"] == f"custom_nodes.{EXTENSION}"
    }


def _words(info: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {
        name: {"name": name, "tooltip": info["input"][kind][name][1].get("tooltip", "")}
        for kind in ("required", "optional")
        for name in info["input_order"].get(kind, [])
    }
    tooltips = info["output_tooltips"] or [""] * len(info["output_name"])
    outputs = {
        str(slot): {"name": name, "tooltip": tooltip or ""}
        for slot, (name, tooltip) in enumerate(zip(info["output_name"], tooltips, strict=True))
    }
    words = {"display_name": info["display_name"], "description": info["description"]}
    return words | ({"inputs": inputs} if inputs else {}) | ({"outputs": outputs} if outputs else {})


def main() -> None:
    """Writes the file."""
    with ComfyServer() as server:
        words = node_words(server.object_info())
    text = json.dumps(words, ensure_ascii=False, indent=2) + "\n"
    (LOCALES / "en" / "nodeDefs.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
