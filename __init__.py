"""Without this module ComfyUI would not load the extension: its entry point, a table of contents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.v0_0_2 import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI once, at its start.

    Raises:
        RuntimeError: the host is too old.
    """
    try:
        from comfy_api.v0_0_2 import ComfyExtension
    except ImportError as error:
        raise RuntimeError(
            "Anonymize Faces needs ComfyUI 0.3.64 or newer: update ComfyUI and start it again."
        ) from error
    from .nodes import node_classes

    class AnonymizeFacesExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return node_classes()

    _register_prefix_folder()
    return AnonymizeFacesExtension()


def _register_prefix_folder() -> None:
    """Adds `models/anonymization_prefixes`, after the folders that extra_model_paths.yaml may name for it."""
    import folder_paths

    from .nodes.folder import FOLDER, SUFFIXES

    folder_paths.add_model_folder_path(FOLDER, f"{folder_paths.models_dir}/{FOLDER}")
    _, suffixes = folder_paths.folder_names_and_paths[FOLDER]
    suffixes.update(SUFFIXES)
