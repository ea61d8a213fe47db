"""Runs the command line: `python -m trainer`, in the repository's root.

`python -m anonymize_faces.trainer` is the same, from anywhere that the package can be imported. In the root this folder
is a package of its own, in which nothing above it can be found: there, the package around it is loaded first, by path.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGE = "anonymize_faces"


def main() -> int:
    """Runs the command; its exit code."""
    if __package__ == "trainer":
        _load_package(Path(__file__).resolve().parents[1])
    try:
        from anonymize_faces.cli import main as run

        return run()
    except ModuleNotFoundError as error:
        missing = (error.name or PACKAGE).partition(".")[0]
        if missing == PACKAGE:
            raise
        print(
            f"The package '{missing}' is missing: run  pip install \".[headless]\"  in the folder of Anonymize Faces,"
            " which brings all that this command needs.",
            file=sys.stderr,
        )
        return 1


def _load_package(root: Path) -> None:
    """Makes the repository's root the package, whatever its folder is called and whatever else has that name."""
    spec = importlib.util.spec_from_file_location(PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    sys.exit(main())
