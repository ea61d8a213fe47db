"""Without this module recognizers would run beside the host's memory management: makes them, hosted by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch

if TYPE_CHECKING:
    from ..faces.recognizer import Recognizer, Report

FOLDER = "facenet"
SUFFIX = ".pt"
FACENET, DEMO_READER = "facenet", "demo reader"
CHOICES = [FACENET, DEMO_READER]

MEMORY = 2**30
"""Bytes that finding and embedding faces takes beside the weights, at most."""


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
        from ..demo.recognizer import DemoRecognizer  # Loads weights of the demo model: not at the host's start.

        yield DemoRecognizer()
        return
    from ..faces.facenet import load_facenet

    patchers: list[comfy.model_patcher.ModelPatcher] = []

    def place(network: torch.nn.Module) -> None:
        device = comfy.model_management.get_torch_device()
        patchers.append(comfy.model_patcher.ModelPatcher(network, device, torch.device("cpu")))
        comfy.model_management.load_models_gpu(patchers, memory_required=MEMORY)

    try:
        yield load_facenet([Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)], place, report)
    finally:
        for patcher in patchers:
            patcher.detach()
        patchers.clear()
        comfy.model_management.cleanup_models()
        comfy.model_management.soft_empty_cache()
