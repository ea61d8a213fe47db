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
    from .nodes.enforcement import start_enforcement
    from .nodes.routes import register_routes

    _register_folders()
    enforcement = start_enforcement()
    register_routes(enforcement)

    class AnonymizeFacesExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return node_classes(enforced=enforcement is not None)

    return AnonymizeFacesExtension()


def _register_folders() -> None:
    """Adds the folders below `models/` that are ours, after those that extra_model_paths.yaml may name for them."""
    import folder_paths

    from .nodes import recognizers
    from .prefix import SUFFIXES, library

    for name, suffixes in ((library.FOLDER, SUFFIXES), (recognizers.FOLDER, (recognizers.SUFFIX,))):
        folder_paths.add_model_folder_path(name, f"{folder_paths.models_dir}/{name}")
        folder_paths.folder_names_and_paths[name][1].update(suffixes)
