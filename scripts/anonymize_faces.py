"""Without this script Automatic1111 and Forge would not load the extension: they run every file of this folder, alone.

It finds the package that it belongs to by itself, under a name that nothing else has: the extension's folder may be
called anything, and the host puts it on `sys.path`, where `nodes` or `prefix` would be anybody's.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

from modules import script_callbacks, scripts

PACKAGE = "anonymize_faces_extension"


def part(name: str):
    """A module of the package."""
    if PACKAGE not in sys.modules:
        root = Path(__file__).resolve().parents[1]
        spec = importlib.util.spec_from_file_location(
            PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)]
        )
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return importlib.import_module(f"{PACKAGE}.scripts.webui.{name}")


GUARD = part("start").start()


class AnonymizeFaces(scripts.Script):
    """The panel below the prompts of txt2img and img2img."""

    is_anonymize_faces_panel = True

    def title(self):
        """What the API calls it, in lower case."""
        return part("wishes").TITLE

    def show(self, is_img2img):
        """In both tabs, always."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        """The controls whose values come with every request."""
        controls, self.infotext_fields = part("panel").build(self.elem_id, GUARD.enforcement)
        self.paste_field_names = list(part("infotext").NAMES)
        return controls


script_callbacks.on_before_ui(part("panel").add_axes)
script_callbacks.on_app_started(part("doors").open_api_door)
