"""Registers the extension with ComfyUI: its entry point, a table of contents.

Where there is an operator's setting (docs/enforcement.md), or nobody can tell, the first thing done is to refuse every
prompt, with nothing but the standard library and the host. Only an extension that has started whole lets prompts in,
anonymized: whatever fails on the way leaves a server that refuses prompts with the reason, and does all the rest.
"""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfy_api.v0_0_2 import ComfyExtension

WEB_DIRECTORY = "./web"

REFUSAL = "ProtectionRefused"
SETTING_VARIABLES = (
    "ANONYMIZE_FACES_ENFORCE",
    "ANONYMIZE_FACES_TRUST",
    "ANONYMIZE_FACES_EMBEDDINGS",
    "ANONYMIZE_FACES_FACE_REGION",
)
SETTING_FILES = ("enforce.ini", "enforce.ini.txt")
"""What the operator's file may be called, in any case: the second is what Windows makes of the first."""

_OURS = "AnonymizeFaces"


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI once, at its start.

    Raises:
        RuntimeError: the host is too old.
        TwoCopiesError: it has loaded another copy of this extension.
    """
    gate = _close() if may_enforce() else None
    try:
        return _start(gate)
    except BaseException as error:
        if gate is not None:
            gate.fault = (
                "This server must anonymize every prompt and cannot: Anonymize Faces has not started"
                f" ({type(error).__name__}: {error}). Its operator finds the reason in the server's log."
            )
            if not isinstance(error, TwoCopiesError):  # The host tells what is raised, without saying where.
                logging.exception("Anonymize Faces has not started, and refuses every prompt.")
        raise


def may_enforce() -> bool:
    """Whether there is an operator's setting, be it sound or not, or nobody can tell."""
    return any(os.environ.get(name) is not None for name in SETTING_VARIABLES) or has_setting_file()


def has_setting_file() -> bool:
    """Whether the operator's file lies beside this one, be it sound or not, or nobody can tell."""
    try:
        return any(file.name.casefold() in SETTING_FILES for file in Path(__file__).absolute().parent.iterdir())
    except OSError:
        return True


class TwoCopiesError(RuntimeError):
    """There are two copies of this extension in the host, of which one would undo the other."""


class PromptGate:
    """The host's handler of prompts where an operator's setting is there: refuses each until there is an answer.

    Attributes:
        fault: why.
        answer: what the host gets in place of a request; None while nothing can be protected.
        setting: what is enforced, once it is known.
    """

    def __init__(self) -> None:
        self.fault = "This server must anonymize every prompt, and Anonymize Faces has not started yet: try again soon."
        self.answer: Callable[[Any], dict[str, Any]] | None = None
        self.setting: Any = None

    def __call__(self, request: Any) -> dict[str, Any]:
        """Never raises: the host would run the prompt as it came."""
        try:
            return refusing(request, "0", self.fault) if self.answer is None else self.answer(request)
        except BaseException:
            logging.exception("Anonymize Faces refused a prompt that it could not read.")
            return refusing(None, "0", "This server must anonymize every prompt and could not read this one.")


def refusing(request: Any, node_id: str, reason: str) -> dict[str, Any]:
    """A request that the host refuses with the reason, in the place of another."""
    kept = request if isinstance(request, dict) else {}
    # Were only some outputs asked for, the host would not look at ours.
    kept = {key: value for key, value in kept.items() if key != "partial_execution_targets"}
    return {**kept, "prompt": {node_id: {"class_type": REFUSAL, "inputs": {"reason": reason}}}}


class ProtectionRefused:
    """A node that stands in for a workflow that is refused, so that the host tells the reason as it tells others."""

    CATEGORY = "anonymize"
    DESCRIPTION = "This server anonymizes every prompt. It refuses workflows that it cannot protect."
    FUNCTION = "refuse"
    OUTPUT_NODE = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802, the host's name
        """The reason."""
        return {"required": {"reason": ("STRING", {"tooltip": "Why the workflow is refused."})}}

    @classmethod
    def VALIDATE_INPUTS(cls, reason: Any = None) -> bool:  # noqa: N802, the host's name
        """Never valid.

        Newer frontends tell of a value that was found invalid without telling why, and of what is raised with it.

        Raises:
            RuntimeError: always, with the reason.
        """
        raise RuntimeError(reason or "The workflow cannot be protected.")

    def refuse(self, reason: Any) -> None:
        """Raises, as `VALIDATE_INPUTS`."""
        raise RuntimeError(reason)


def _close() -> PromptGate:
    """Lets the host refuse every prompt from now on, also where its server is made only later."""
    from server import PromptServer

    import nodes

    gate = PromptGate()
    nodes.NODE_CLASS_MAPPINGS[REFUSAL] = ProtectionRefused
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(gate)
        return gate
    make = PromptServer.__init__

    def make_closed(server: Any, *args: Any, **kwargs: Any) -> None:
        make(server, *args, **kwargs)
        server.add_on_prompt_handler(gate)

    PromptServer.__init__ = make_closed
    return gate


def _start(gate: PromptGate | None) -> ComfyExtension:
    try:
        from comfy_api.v0_0_2 import ComfyExtension
    except ImportError as error:
        raise RuntimeError(
            "Anonymize Faces needs ComfyUI 0.3.64 or newer: update ComfyUI and start it again."
        ) from error
    from .nodes import node_classes

    _register_folders()
    enforcement = None
    if gate is not None:
        from .nodes.enforcement.enforce import start_enforcement

        enforcement = start_enforcement()
        gate.setting = enforcement
    _require_one_copy(gate)
    from .nodes.server.routes import register_routes

    register_routes()
    classes = node_classes(enforced=enforcement is not None)
    if gate is not None and enforcement is not None:
        from .nodes.enforcement.enforce import answering

        gate.answer = answering(enforcement)

    class AnonymizeFacesExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return classes

    return AnonymizeFacesExtension()


def _require_one_copy(gate: PromptGate | None) -> None:
    """Raises `TwoCopiesError` if the host has loaded another copy of this extension, which goes on alone.

    If this one's setting is what that one enforces already, prompts are let in to it; else they stay refused.
    """
    from server import PromptServer

    import nodes

    other = nodes.NODE_CLASS_MAPPINGS.get(_OURS)
    if other is None or other.__module__.partition(".nodes.")[0] == __name__:
        return
    here, there = Path(__file__).absolute().parent, Path(inspect.getfile(other)).absolute().parents[1]
    for name in [name for name, web in nodes.EXTENSION_WEB_DIRS.items() if Path(web).absolute().parent == here]:
        del nodes.EXTENSION_WEB_DIRS[name]  # Its pages would show everything twice.
    if gate is not None:
        handlers = getattr(getattr(PromptServer, "instance", None), "on_prompt_handlers", ())
        twins = [found for found in handlers if type(found).__name__ == type(gate).__name__ and found is not gate]
        if any(_same(found.setting, gate.setting) for found in twins):
            gate.answer = _as_it_came
    raise TwoCopiesError(
        f"There are two copies of Anonymize Faces in this ComfyUI, '{there}' and '{here}'. The second is not used:"
        " remove one of them and start ComfyUI again."
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two copies' settings ask for the same; a faulty one refuses prompts by itself."""

    def wanted(setting: Any) -> tuple[Any, ...]:  # Each copy has classes of its own, which are never equal.
        allowed = setting.embeddings
        return setting.name, setting.fault, setting.trusted, setting.face_region, allowed.all, allowed.rows

    return one is not None and other is not None and wanted(one) == wanted(other)


def _as_it_came(request: Any) -> Any:
    return request


def _register_folders() -> None:
    """Adds the folders below `models/` that are ours, after those that extra_model_paths.yaml may name for them."""
    import folder_paths

    from .experts import files as experts_files
    from .nodes.hosted import looks_readers, recognizers
    from .prefix import SUFFIXES
    from .prefix.files import library

    ours = {
        library.FOLDER: SUFFIXES,
        recognizers.FOLDER: (recognizers.SUFFIX,),
        looks_readers.FOLDER: (looks_readers.SUFFIX,),
        experts_files.FOLDER: (experts_files.SUFFIX,),
    }
    for name, suffixes in ours.items():
        folder_paths.add_model_folder_path(name, f"{folder_paths.models_dir}/{name}")
        folder_paths.folder_names_and_paths[name][1].update(suffixes)
