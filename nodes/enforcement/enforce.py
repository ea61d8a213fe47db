"""Answers prompts on a server that enforces: none runs that is not guarded.

Where the operator has set nothing, nothing is registered and this costs nothing. Else every prompt, from the browser or
the API, goes through `rewriting` by the host's own hook for prompts, before the host validates it.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ... import refusing
from ...prefix.enforced_setting import FILE, Enforcement, read_enforcement
from .rewriting import FACE_REGION, FOREIGN, HOST, OWN, PROTECTING, SERVICE, Kind, PromptRefusedError, rewrite

_EXTENSION = Path(__file__).resolve().parents[2]
_WORKFLOW = frozenset({"PROMPT", "EXTRA_PNGINFO", "DYNPROMPT"})


def start_enforcement() -> Enforcement | None:
    """Reads the setting, for the guards to follow, and tells the log. Call once, at the entry point."""
    from ..shared.folder import embedding_folders, prefix_folders
    from .guards import Guarding

    found = read_enforcement(os.environ, FILE, prefix_folders(), embedding_folders())
    Guarding.enforcement = found
    if found is None:
        return None
    if found.fault:
        logging.error("Anonymize Faces: %s", found.fault)
    else:
        logging.info("Anonymize Faces: every prompt is anonymized with '%s'.", found.name)
    if _takes_models():
        logging.warning(
            "Anonymize Faces: --enable-assets lets whoever uses this server put files into the folders of its models,"
            " the enforced prefix's and the embeddings' among them. Start it without."
        )
    return found


def answering(enforcement: Enforcement) -> Callable[[Any], dict[str, Any]]:
    """`answer_to` for this setting."""
    return partial(answer_to, enforcement=enforcement)


def answer_to(request: Any, enforcement: Enforcement) -> dict[str, Any]:
    """What the host gets in place of a request to run a prompt: guarded, or one that it refuses with our reason.

    Never raises: the host would run the prompt as it came.
    """
    try:
        if not isinstance(request, dict):
            raise PromptRefusedError("0", "This is no request to run a workflow.")
        if "prompt" not in request:
            return request  # The host refuses it.
        _require_guards()
        prompt = _with_replacements(request["prompt"])
        return {**request, "prompt": _guarded(prompt, enforcement)}
    except PromptRefusedError as refusal:
        logging.warning("Anonymize Faces refused a prompt: node %s: %s", refusal.node_id, refusal)
        return refusing(request, refusal.node_id, str(refusal))
    except BaseException:
        logging.exception("Anonymize Faces refused a prompt that it could not read.")
        reason = "This server must anonymize every prompt and could not read this one: the reason is in its log."
        return refusing(request, "0", reason)


def _guarded(prompt: Any, enforcement: Enforcement) -> dict[str, Any]:
    allowed = (FACE_REGION,) if enforcement.face_region else ()
    return rewrite(prompt, kind_of, enforcement.trusted, enforcement.fault, allowed)


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
    folder = file.relative_to(host).parts[0]
    if folder == "comfy_api_nodes" or getattr(cls, "API_NODE", False):
        return SERVICE
    return HOST if folder in ("nodes.py", "comfy_extras") else FOREIGN


def _flat(spec: Any) -> tuple[Any, ...]:
    return tuple(spec) if isinstance(spec, list | tuple) else (spec,)


def _with_replacements(prompt: Any) -> Any:
    """Newer hosts put other nodes in the place of old ones after our turn: they do it now, then there is none left."""
    from server import PromptServer

    manager = getattr(PromptServer.instance, "node_replace_manager", None)
    if manager is not None and isinstance(prompt, dict):
        manager.apply_replacements(prompt)
    return prompt


def _require_guards() -> None:
    """Makes sure that the host's nodes of our names are ours: another extension may have replaced them.

    Raises:
        PromptRefusedError: one is not.
    """
    import nodes

    from ..anonymize import AnonymizeFaces
    from .guards import NODES

    for node in (*NODES, AnonymizeFaces):
        name = PROTECTING if node is AnonymizeFaces else node.__name__
        found = nodes.NODE_CLASS_MAPPINGS.get(name)
        if found is not node:
            told = "is missing" if found is None else f"comes from '{_folder_of(found)}'"
            raise PromptRefusedError(
                "0",
                f"This server must anonymize every prompt and cannot: the node '{name}' {told}. Its operator has to"
                " remove what replaced it, another copy of Anonymize Faces for one, and start the server again.",
            )


def _folder_of(cls: type) -> str:
    try:
        return str(Path(inspect.getfile(cls)).parent)
    except (TypeError, OSError):
        return cls.__module__


def _takes_models() -> bool:
    from comfy.cli_args import args

    return bool(getattr(args, "enable_assets", False))
