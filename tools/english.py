"""Writes the nodes' own words as the host's translation file and into the tables of the help pages.

`python -m anonymize_faces.tools.english` writes locales/en/nodeDefs.json anew, out of a real ComfyUI, and in web/docs
the rows of numbers and switches: tooltip, default and range. What follows the default there is the page's own. The
other languages are written by people; tests/host/test_locales.py tells what they lack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .comfy_server import ComfyServer
from .layout import EXTENSION, ROOT

LOCALES = ROOT / "locales"
PAGES = ROOT / "web" / "docs"
LARGEST_TOLD = 1e9
"""A range that goes further, such as a seed's, says nothing."""
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?:.*?\*Default:[^*]*\*)?(?P<rest>.*) \|$", re.MULTILINE)

AUTOMATIC = re.compile(r"(?P<value>-?\d+): what (?:the preset says|[\w ]+ is used to)\.$")
"""How a tooltip ends that says which value is chosen for the artist."""


def node_words(object_info: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What our nodes say, in the form of nodeDefs.json, out of what the server knows of all nodes."""
    return {node_id: _words(info) for node_id, info in our_nodes(object_info).items()}


def our_nodes(object_info: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Our nodes among those that the server knows, by id."""
    ours = f"custom_nodes.{EXTENSION}"
    return {node_id: info for node_id, info in sorted(object_info.items()) if info["python_module"] == ours}


def settings_rows(info: Mapping[str, Any]) -> dict[str, str]:
    """What a help page says of each number and switch of a node: its tooltip, default and range."""
    rows = {}
    for inputs in info["input"].values():
        for name, (kind, *options) in inputs.items():
            about = options[0] if options else {}
            if kind in ("INT", "FLOAT", "BOOLEAN") and "default" in about:
                rows[name] = f"{about['tooltip']} *Default: {_default(kind, about)}.*"
    return rows


def page_with_settings(page: str, info: Mapping[str, Any]) -> str:
    """A node's help page, with what its settings say in the rows that are theirs."""
    rows = settings_rows(info)

    def row(found: re.Match[str]) -> str:
        name, rest = found["name"], found["rest"].strip()
        return f"| `{name}` | {' '.join(filter(None, (rows[name], rest)))} |" if name in rows else found[0]

    before, heading, after = page.partition("## Inputs\n")
    inputs, outputs, end = after.partition("## Outputs\n")
    return before + heading + ROW.sub(row, inputs) + outputs + end


def _default(kind: str, about: Mapping[str, Any]) -> str:
    if kind == "BOOLEAN":
        return "on" if about["default"] else "off"
    if about["max"] > LARGEST_TOLD:
        return _decimal(about["default"])
    return f"{_decimal(about['default'])}; {_decimal(about['min'])} to {_decimal(about['max'])}"


def _decimal(number: float) -> str:
    return f"{number:.10f}".rstrip("0").rstrip(".")


def _words(info: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {
        name: _told(name, info["input"][kind][name][1].get("tooltip", ""))
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


def _told(name: str, tooltip: str) -> dict[str, str]:
    """An input's words; its name says which value leaves the choice to us, as a number alone does not."""
    chosen = AUTOMATIC.search(tooltip)
    return {"name": f"{name} ({chosen['value']}: automatic)" if chosen else name, "tooltip": tooltip}


def main() -> None:
    """Writes the files."""
    with ComfyServer() as server:
        object_info = server.object_info()
    text = json.dumps(node_words(object_info), ensure_ascii=False, indent=2) + "\n"
    (LOCALES / "en" / "nodeDefs.json").write_text(text, encoding="utf-8")
    for node_id, info in our_nodes(object_info).items():
        page = PAGES / f"{node_id}.md"
        page.write_text(page_with_settings(page.read_text(encoding="utf-8"), info), encoding="utf-8")


if __name__ == "__main__":
    main()
