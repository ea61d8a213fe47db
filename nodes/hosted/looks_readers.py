"""Runs readers of looks, and what finds the faces for them, within the host's memory management."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
import folder_paths

from ...prefix.errors import DescriptionError
from .recognizers import DEMO_READER, HostedFinder, Hosting, hosted_networks

if TYPE_CHECKING:
    import numpy as np

    from ...captions.attributes import Attribute
    from ...captions.describing import DescribingSettings
    from ...captions.readers import LooksReader, Probabilities
    from ...faces.recognizer import Finder

FOLDER = "zero_shot_clip"
SUFFIX = ".safetensors"
CLIP, LANGUAGE_MODEL = "CLIP", "vision language model"
CHOICES = [CLIP, LANGUAGE_MODEL, DEMO_READER]
CLIP_MODEL = "clip-vit-large-patch14"

FinderAndReader = tuple["Finder", "LooksReader"]


@contextmanager
def hosted_readers(
    choice: str, settings: DescribingSettings, clip_model: str, language_model: Any
) -> Iterator[FinderAndReader]:
    """What finds faces and what reads them, on the host's device; afterwards their weights leave it.

    Args:
        choice: one of `CHOICES`.
        clip_model: the name of a folder in models/zero_shot_clip.
        language_model: the host's CLIP for the choice `LANGUAGE_MODEL`; None if none is connected.

    Raises:
        DescriptionError: a model is missing, damaged, or does not do what it is asked for.
        MeasurementError: facenet-pytorch is missing.
    """
    if choice == DEMO_READER:
        # Loads weights of the demo model: not at the host's start.
        from ...demo.measuring.looks_reader import DemoLooksReader
        from ...demo.measuring.recognizer import DemoRecognizer

        yield DemoRecognizer(), DemoLooksReader(settings.attributes)
        return
    from ...faces.facenet import load_mtcnn

    with hosted_networks() as hosting:
        if choice == LANGUAGE_MODEL:
            reader = _language_model_reader(settings, language_model)
        else:
            from ...captions.zero_shot_clip import load_clip_reader

            folder = clip_folder(clip_model)
            reader = load_clip_reader(folder, settings.attributes, hosting.place, settings.only_photographs)
        yield HostedFinder(load_mtcnn(hosting.place), hosting), _HostedReader(reader, hosting)


def ask_of(language_model: Any) -> Callable[[str, np.ndarray | None, int], str]:
    """Puts questions to a connected language model.

    Raises:
        DescriptionError: none is connected, or it cannot write.
    """
    from ...engines.comfy.text_generation import asking

    if language_model is None:
        raise DescriptionError(
            "No language model is connected: load one as a text encoder, such as Qwen3-VL, and connect its CLIP to"
            " language_model, or choose another reader and leave sentences as they are."
        )
    return asking(language_model, comfy.model_management.throw_exception_if_processing_interrupted)


def clip_folder(name: str) -> Path:
    """The folder of a CLIP model: the first of that name that is there, else where it belongs.

    Raises:
        DescriptionError: it would lie elsewhere.
    """
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    if not name.strip() or name.strip(". ") == "" or any(mark in name for mark in "/\\:\0"):
        raise DescriptionError(
            f"'{name[:60]}' names no folder in '{roots[0]}': write the name of one that holds a CLIP model."
        )
    return next((root / name for root in roots if (root / name).is_dir()), roots[0] / name)


def _language_model_reader(settings: DescribingSettings, language_model: Any) -> LooksReader:
    from ...captions.attributes import PICTURE, VOCABULARY, chosen_attributes
    from ...captions.multiple_choice import MultipleChoiceReader

    chosen = chosen_attributes(settings.attributes, VOCABULARY)
    asked = (*chosen, PICTURE) if settings.only_photographs else chosen
    return MultipleChoiceReader(ask_of(language_model), asked, "the connected language model")


class _HostedReader:
    """A `LooksReader` whose network is on the device whenever it reads."""

    def __init__(self, reader: LooksReader, hosting: Hosting) -> None:
        self.name, self.margin, self.batch = reader.name, reader.margin, reader.batch
        self.attributes: tuple[Attribute, ...] = reader.attributes
        self._reader, self._hosting = reader, hosting

    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`."""
        self._hosting.bring_back()
        return self._reader.read(pictures)
