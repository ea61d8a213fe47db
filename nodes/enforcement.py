"""Without this module protection could be forgotten: on a server that enforces, no prompt runs that is not guarded.

Where the operator has set nothing, nothing is registered and this costs nothing. Else every prompt, from the browser or
the API, goes through `rewriting` by the host's own hook for prompts, before the host validates it.
"""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any

from ..prefix.enforced_setting import FILE, Enforcement, read_enforcement
from .rewriting import FOREIGN, HOST, OWN, SERVICE, Kind, Refused, rewrite

_EXTENSION = Path(__file__).resolve().parents[1]
_WORKFLOW = frozenset({"PROMPT", "EXTRA_PNGINFO", "DYNPROMPT"})


def start_enforcement() -> Enforcement | None:
    """Reads the setting and, if there is one, registers the handler. Call once, at the entry point."""
    from server import PromptServer

    from .folder import prefix_folders

    server = getattr(PromptServer, "instance", None)
    found = read_enforcement(os.environ, _EXTENSION / FILE, prefix_folders())
    if found is None or server is None:
        return None
    from .guards import Guarding

    Guarding.enforcement = found
    server.add_on_prompt_handler(lambda request: answer_to(request, found))
    if found.fault:
        logging.error("Anonymize Faces: %s", found.fault)
    else:
        logging.info("Anonymize Faces: every prompt is anonymized with '%s'.", found.name)
    return found


def answer_to(request: Any, enforcement: Enforcement) -> dict[str, Any]:
    """What the host gets in place of a request to run a prompt: guarded, or one that it refuses with our reason.

    Never raises: the host would run the prompt as it came.
    """
    try:
        if not isinstance(request, dict):
            raise Refused("0", "This is no request to run a workflow.")
        if "prompt" not in request:
            return request  # The host refuses it.
        prompt = _with_replacements(request["prompt"])
        return {**request, "prompt": rewrite(prompt, kind_of, enforcement.trusted, enforcement.fault)}
    except Refused as refusal:
        logging.warning("Anonymize Faces refused a prompt: node %s: %s", refusal.node_id, refusal)
        return _refusing(request, refusal.node_id, str(refusal))
    except BaseException:
        logging.exception("Anonymize Faces refused a prompt that it could not read.")
        reason = "This server must anonymize every prompt and could not read this one: the reason is in its log."
        return _refusing(request, "0", reason)


def kind_of(class_type: str) -> Kind | None:
    """What is known of a class of nodes that the host has; None if it has none of that name."""
    import nodes

    cls = nodes.NODE_CLASS_MAPPINGS.get(class_type)
    if cls is None:
        return None
    inputs = cls.INPUT_TYPES()
    hidden = inputs.get("hidden") or {}
    choices, sources, texts = {}, [], []
    for name, spec in {**(inputs.get("required") or {}), **(inputs.get("optional") or {})}.items():
        options = spec[0] if isinstance(spec[0], list | tuple) else (spec[1] if len(spec) > 1 else {}).get("options")
        if isinstance(options, list | tuple):
            choices[name] = tuple(options)
        if isinstance(spec[0], str) and {"CLIP", "CONDITIONING"} & set(str(spec[0]).split(",")):
            sources.append(name)
        if spec[0] == "STRING":
            texts.append(name)
    return Kind(
        origin=_origin(cls),
        outputs=tuple("COMBO" if isinstance(kind, list | tuple) else str(kind) for kind in cls.RETURN_TYPES or ()),
        sources=tuple(sources),
        needs_no_source=(inputs.get("required") or {}).keys().isdisjoint(sources),
        texts=tuple(texts),
        choices=choices,
        shows=bool(getattr(cls, "OUTPUT_NODE", False)),
        reads_workflow=any(str(kind) in _WORKFLOW for spec in hidden.values() for kind in _flat(spec)),
    )


def _origin(cls: type) -> str:
    """Whose a class is, by the file it was written in."""
    import nodes

    try:
        file = Path(inspect.getfile(cls)).resolve()
    except (TypeError, OSError):
        return FOREIGN
    if file.is_relative_to(_EXTENSION / "nodes"):
        return OWN
    host = Path(nodes.__file__).resolve().parent
    if not file.is_relative_to(host):
        return FOREIGN
    room = file.relative_to(host).parts[0]
    if room == "comfy_api_nodes" or getattr(cls, "API_NODE", False):
        return SERVICE
    return HOST if room in ("nodes.py", "comfy_extras") else FOREIGN


def _flat(spec: Any) -> tuple[Any, ...]:
    return tuple(spec) if isinstance(spec, list | tuple) else (spec,)


def _with_replacements(prompt: Any) -> Any:
    """Newer hosts put other nodes in the place of old ones after our turn: they do it now, then there is none left."""
    from server import PromptServer

    manager = getattr(PromptServer.instance, "node_replace_manager", None)
    if manager is not None and isinstance(prompt, dict):
        manager.apply_replacements(prompt)
    return prompt


def _refusing(request: Any, node_id: str, reason: str) -> dict[str, Any]:
    from .guards import REFUSAL

    kept = request if isinstance(request, dict) else {}
    # Were only some outputs asked for, the host would not look at ours.
    kept = {key: value for key, value in kept.items() if key != "partial_execution_targets"}
    return {**kept, "prompt": {node_id: {"class_type": REFUSAL, "inputs": {"reason": reason}}}}
