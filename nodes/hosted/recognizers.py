"""Runs networks that measure within the host's memory management."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch

from ...evaluation.settings import QUALITIES

if TYPE_CHECKING:
    import numpy as np

    from ...evaluation.quality import Quality
    from ...faces.recognizer import Face, Finder, FoundFace, Recognizer, Report

FOLDER = "facenet"
SUFFIX = ".pt"
FACENET, DEMO_READER = "facenet", "demo reader"
CHOICES = [FACENET, DEMO_READER]

MEMORY = 2**30
"""Bytes that these networks take beside their weights, at most."""


class Hosting:
    """Networks on the host's device; the host may take them off it, for a model that is to draw."""

    def __init__(self) -> None:
        self._patchers: list[comfy.model_patcher.ModelPatcher] = []

    def place(self, network: torch.nn.Module) -> None:
        """Brings a network to the device; see `faces.recognizer.Place`."""
        device = comfy.model_management.get_torch_device()
        self._patchers.append(comfy.model_patcher.ModelPatcher(network, device, torch.device("cpu")))
        self.bring_back()

    def bring_back(self) -> None:
        """Brings them back if they were taken off."""
        comfy.model_management.load_models_gpu(self._patchers, memory_required=MEMORY)

    def end(self) -> None:
        """Their weights leave the device, and the host forgets them."""
        for patcher in self._patchers:
            patcher.detach()
        self._patchers.clear()
        comfy.model_management.cleanup_models()
        comfy.model_management.soft_empty_cache()


class HostedFinder:
    """A `Finder` whose network is on the device whenever it looks."""

    def __init__(self, finder: Finder, hosting: Hosting) -> None:
        self._finder, self._hosting = finder, hosting

    def find(self, pictures: np.ndarray) -> Sequence[Sequence[FoundFace]]:
        """See `Finder`."""
        self._hosting.bring_back()
        return self._finder.find(pictures)


class HostedRecognizer:
    """A `Recognizer` whose networks are on the device whenever it looks."""

    def __init__(self, recognizer: Recognizer, hosting: Hosting) -> None:
        self.name, self.threshold = recognizer.name, recognizer.threshold
        self._recognizer, self._hosting = recognizer, hosting

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        """See `Recognizer`."""
        self._hosting.bring_back()
        return self._recognizer.find(pictures)

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Recognizer`."""
        return self._recognizer.similarities(some, others)


@contextmanager
def hosted_recognizer(choice: str, report: Report) -> Iterator[Recognizer]:
    """The recognizer of that name, on the host's device; afterwards its weights leave the device.

    Args:
        choice: one of `CHOICES`.
        report: called with received and all bytes while weights are downloaded.

    Raises:
        MeasurementError: see `faces.facenet.load_facenet`.
    """
    if choice == DEMO_READER:
        from ...demo.measuring.recognizer import (
            DemoRecognizer,  # Loads weights of the demo model: not at the host's start.
        )

        yield DemoRecognizer()
        return
    from ...faces.facenet import load_facenet

    with hosted_networks() as hosting:
        yield HostedRecognizer(load_facenet(_folders(), hosting.place, report), hosting)


@contextmanager
def hosted_finder(family: str) -> Iterator[Finder]:
    """What finds faces in pictures of a model, on the host's device; afterwards its weights leave the device.

    Args:
        family: of the model, as `Denoiser.family`; the demo models' invented people have a finder of their own.

    Raises:
        MeasurementError: facenet-pytorch is missing.
    """
    from ...demo.loader import FAMILIES

    if family in FAMILIES:
        from ...demo.measuring.face_finder import DemoFaceFinder

        yield DemoFaceFinder()
        return
    from ...faces.facenet import load_mtcnn

    with hosted_networks() as hosting:
        yield HostedFinder(load_mtcnn(hosting.place), hosting)


@contextmanager
def hosted_quality(choice: str, clip_model: str, report: Report) -> Iterator[Quality | None]:
    """Scores of quality on the host's device, as `hosted_recognizer`; None for a choice that is none of theirs.

    Raises:
        MeasurementError: see `evaluation.quality.load_quality`.
    """
    if choice not in QUALITIES:
        yield None
        return
    from ...evaluation.quality import load_quality

    with hosted_networks() as hosting:
        yield load_quality(choice, _folders(), hosting.place, report, clip_model=clip_model, ready=hosting.bring_back)


@contextmanager
def hosted_networks() -> Iterator[Hosting]:
    """Networks on the host's device for as long as they are needed."""
    hosting = Hosting()
    try:
        yield hosting
    finally:
        hosting.end()


def _folders() -> Sequence[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]
