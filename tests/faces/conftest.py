"""Without this module each test of faces would make its own weights and recognizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anonymize_faces.faces.facenet import VGGFACE2, FacenetRecognizer, load_facenet
from anonymize_faces.tests.faces.stand_in import random_weights


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`models/facenet` with random weights in place of the official ones."""
    folder = tmp_path_factory.mktemp("facenet")
    torch.save(random_weights(), folder / VGGFACE2.name)
    return folder


@pytest.fixture(scope="session")
def facenet(weights_folder: Path) -> FacenetRecognizer:
    """The real MTCNN, and InceptionResnetV1 with random weights."""
    return load_facenet([weights_folder], lambda network: None, lambda done, total: None)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A photograph of one woman, uint8 [512, 512, 3]."""
    from skimage import data

    return data.astronaut()
