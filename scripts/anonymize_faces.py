"""Registers the extension with Automatic1111 and Forge: they run every file of this folder, alone.

It finds the package that it belongs to by itself, under a name that nothing else has: the extension's folder may be
called anything, and the host puts it on `sys.path`, where `nodes` or `prefix` would be anybody's.

The host prints whatever is raised here and goes on without the extension. So where there is an operator's setting
(docs/enforcement.md), or nobody can tell, it is left refusing to draw, with nothing but the standard library.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from modules import script_callbacks, scripts

PACKAGE = "anonymize_faces_extension"
ROOT = Path(__file__).resolve().parents[1]


def part(name: str):
    """A module of the package."""
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = load_root(PACKAGE)
    return importlib.import_module(f"{PACKAGE}.scripts.webui.{name}")


def load_root(name: str):
    """The package itself, of this copy of the extension, under a name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start():
    """What protects prompts in this process.

    Raises:
        Exception: it cannot start. Where a prefix is enforced, or nobody can tell, nothing is drawn from then on.
        SystemExit: it cannot start, must, and cannot keep the host from drawing.
    """
    may_enforce = True
    try:
        require_one_copy()
        if PACKAGE not in sys.modules:
            sys.modules[PACKAGE] = load_root(PACKAGE)
        may_enforce = sys.modules[PACKAGE].may_enforce()
        return part("start").start()
    except Exception as error:
        if getattr(error, "may_enforce", may_enforce):
            refuse_everything(f"{type(error).__name__}: {error}")
        raise


def require_one_copy():
    """Raises `RuntimeError` if the host has loaded another copy of this extension, which goes on alone."""
    first = sys.modules.get(PACKAGE)
    if first is None or Path(first.__file__).resolve().parent == ROOT:
        return
    error = RuntimeError(
        f"There are two copies of Anonymize Faces in this web UI, '{Path(first.__file__).parent}' and '{ROOT}'. The"
        " second is not used: remove one of them and start again."
    )
    # A variable counts for both; a file lies beside one of them.
    by_variable = "ANONYMIZE_FACES_ENFORCE" in os.environ
    error.may_enforce = not by_variable and load_root(f"{PACKAGE}_second").has_setting_file()
    raise error


def refuse_everything(reason: str):
    """Lets no request draw from now on."""
    told = f"This server must anonymize every prompt and cannot: Anonymize Faces has not started ({reason})."

    def refuse(*args, **kwargs):
        raise RuntimeError(told)

    try:
        from modules import processing

        for name in ("process_images", "process_images_inner"):
            getattr(processing, name)
            setattr(processing, name, refuse)
    except Exception as error:
        raise SystemExit(told) from error  # The host would go on without an extension that failed.


GUARD = start()


class AnonymizeFacesScript(scripts.Script):
    """The panel below the prompts of txt2img and img2img."""

    is_anonymize_faces_panel = True

    def title(self):
        """What the API calls it, in lower case."""
        return part("requested_protection").TITLE

    def show(self, is_img2img):
        """In both tabs, always."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        """The controls whose values come with every request."""
        controls, self.infotext_fields = part("panel").build(self.elem_id, GUARD.enforcement)
        self.paste_field_names = list(part("infotext").NAMES)
        return controls


script_callbacks.on_before_ui(part("panel").add_axes)
script_callbacks.on_app_started(part("hooks").install_api_hook)
