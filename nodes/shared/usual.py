"""Tells how a MODEL is usually drawn with, by its family and by the files that the workflow loads it from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any

from comfy_execution.utils import get_executing_context

from ...engines.automatic import UsualDrawing, named_for_few_steps, usual_drawing_of

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


def usual_drawing_here(model: Any, hidden: Any) -> UsualDrawing:
    """How the MODEL of the node that runs is usually drawn with.

    Args:
        hidden: the node's, with the prompt among it.
    """
    context = get_executing_context()
    found = list(_files(hidden.prompt, context.node_id if context else None))
    files, loras = ([name for name, is_lora in found if is_lora == kind] for kind in (False, True))
    return named_for_few_steps(usual_drawing_of(model), files, loras)


def _files(prompt: Any, node_id: Any) -> Iterator[tuple[str, bool]]:
    """The names of files that a node's MODEL comes from, the nearest first, and whether each is a LoRA's."""
    first = str(node_id)
    waiting, seen = [first], {first}
    while waiting:
        place = waiting.pop(0)
        inputs = _inputs(prompt, place)
        for name, value in inputs.items():
            if isinstance(value, list) and len(value) == 2 and "model" in name.lower() and str(value[0]) not in seen:
                seen.add(str(value[0]))
                waiting.append(str(value[0]))
            elif place != first and (file := _file(value, inputs)):
                yield PureWindowsPath(file).name, "lora" in name.lower()


def _inputs(prompt: Any, node_id: str) -> Mapping[str, Any]:
    node = prompt.get(node_id) if isinstance(prompt, Mapping) else None
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return inputs if isinstance(inputs, Mapping) else {}


def _file(value: Any, inputs: Mapping[str, Any]) -> str:
    """The file that an input names, if it counts: LoRAs may be switched off."""
    if isinstance(value, Mapping):  # As rgthree's Power Lora Loader has them.
        value = value.get("lora") if value.get("on") and value.get("strength") != 0 else None
    is_file = isinstance(value, str) and value.lower().endswith(SUFFIXES)
    return value if is_file and inputs.get("strength_model") != 0 else ""
