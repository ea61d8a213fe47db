"""Recognizes real faces: facenet-pytorch behind `Recognizer`.

MTCNN (Zhang et al., arXiv 1604.02878) finds faces, InceptionResnetV1 learned on VGGFace2 embeds them (Schroff et al.,
arXiv 1503.03832, as David Sandberg's facenet trained it). The package is imported when a recognizer is made, never
before.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from ..prefix import MeasurementError, WeightsError
from ..prefix.errors import first_line
from .recognizer import Face, FoundFace, Place, Report, Threshold, cosine_similarities
from .weights import Weights, read_weights

VGGFACE2 = Weights(
    name="20180402-114759-vggface2.pt",
    url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    sha256=None,
)
"""What facenet-pytorch itself downloads. Its authors publish no digest: see `weights` for what holds."""

THRESHOLD = Threshold(
    value=1 - 1.242 / 2,
    source="squared distance 1.242 between unit embeddings, chosen on LFW in the FaceNet paper, arXiv 1503.03832, 5.6",
)
"""Of the paper's own network; facenet-pytorch publishes none for these weights. ‖a − b‖² = 2 − 2 cos(a, b)."""

MIN_CONFIDENCE = 0.9
"""What facenet-pytorch itself takes for a sure face where it chooses among several."""

SMALLEST_FACE = 20
LARGEST_PICTURE = 1280 * 1280
"""Pixels. Larger pictures are shrunk to this for finding faces, not for embedding them."""

PIXELS_AT_ONCE = 4 * 2**20
CROP = 160
CROPS_AT_ONCE = 32


def load_facenet(folders: Sequence[Path], place: Place, report: Report) -> FacenetRecognizer:
    """Makes a recognizer; its weights come from the first of the folders that has them, or are fetched into the first.

    Args:
        place: brings a network to its device.
        report: called with received and all bytes during a download.

    Raises:
        MeasurementError: facenet-pytorch is missing or does not run with this torch, or the device is not there.
        WeightsError: see `weights.read_weights`.
    """
    package = _package()
    network, digest = read_weights(VGGFACE2, folders, lambda data: _network(package, data), report)
    return FacenetRecognizer(package, network, digest, place)


def load_mtcnn(place: Place) -> MtcnnFinder:
    """Makes a finder, whose weights come with facenet-pytorch.

    Args:
        place: brings a network to its device.

    Raises:
        MeasurementError: facenet-pytorch is missing or does not run with this torch, or the device is not there.
    """
    return MtcnnFinder(_package(), place)


class MtcnnFinder:
    """A `Finder`: faces of 20 pixels or more, tilted by some 30 degrees at most."""

    def __init__(self, package: ModuleType, place: Place) -> None:
        self._finder = package.MTCNN(keep_all=True, min_face_size=SMALLEST_FACE, post_process=False).eval()
        _bring(self._finder, place)

    def find(self, pictures: np.ndarray) -> list[tuple[FoundFace, ...]]:
        """See `Finder`."""
        return [
            tuple(FoundFace(tuple(box.tolist()), confidence) for box, confidence in boxes)
            for boxes in self.boxes(pictures)
        ]

    def boxes(self, pictures: np.ndarray) -> list[list[tuple[np.ndarray, float]]]:
        """Boxes [4] of each picture with how sure they are, the largest first."""
        height, width = pictures.shape[1:3]
        shrink = min(1.0, (LARGEST_PICTURE / (height * width)) ** 0.5)
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        if min(size) < SMALLEST_FACE:
            return [[] for _ in pictures]
        self._finder.device = _device(self._finder)  # Whoever hosts it may have moved it.
        step = max(1, PIXELS_AT_ONCE // (size[0] * size[1]))
        found = []
        for start in range(0, len(pictures), step):
            some = pictures[start : start + step]
            if shrink < 1:
                some = np.stack([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in some])
            boxes, confidences = self._finder.detect(some)
            scale = np.array([width / size[0], height / size[1]] * 2)
            for some_boxes, some_confidences in zip(boxes, confidences, strict=True):
                found.append(_sure(some_boxes, some_confidences, scale, (width, height)))
        return found


class FacenetRecognizer:
    """A `Recognizer` made of MTCNN and InceptionResnetV1.

    Pictures are cut at the box as facenet-pytorch does it: upright, without margin, 160 × 160. A face that is tilted
    more than some 30 degrees, or that is smaller than 20 pixels after a large picture was shrunk, is not found.
    """

    threshold = THRESHOLD

    def __init__(self, package: ModuleType, network: torch.nn.Module, digest: str, place: Place) -> None:
        self.name = f"facenet (VGGFace2, weights {digest[:12]})"
        self._package = package
        self._finder = MtcnnFinder(package, place)
        self._embedder = network.eval()
        _bring(self._embedder, place)

    def find(self, pictures: np.ndarray) -> list[tuple[Face, ...]]:
        """See `Recognizer`."""
        found = self._finder.boxes(pictures)
        crops = [
            self._package.extract_face(image, box, CROP)
            for image, boxes in zip(map(Image.fromarray, pictures), found, strict=True)
            for box, _ in boxes
        ]
        embeddings = iter(self._embed(crops))
        return [
            tuple(Face(tuple(box.tolist()), confidence, next(embeddings)) for box, confidence in boxes)
            for boxes in found
        ]

    def similarities(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        """See `Recognizer`: cosine similarities."""
        return cosine_similarities(some, others)

    @torch.no_grad()
    def _embed(self, crops: Sequence[torch.Tensor]) -> np.ndarray:
        """Unit embeddings [n, 512] of crops [3, 160, 160] in 0 to 255."""
        device = _device(self._embedder)
        embedded = []
        for start in range(0, len(crops), CROPS_AT_ONCE):
            some = torch.stack(list(crops[start : start + CROPS_AT_ONCE])).to(device)
            embedded.append(self._embedder(self._package.fixed_image_standardization(some)).float().cpu().numpy())
        return np.concatenate(embedded) if embedded else np.empty((0, 512), np.float32)


def _sure(
    boxes: np.ndarray | None, confidences: np.ndarray, scale: np.ndarray, size: tuple[int, int]
) -> list[tuple[np.ndarray, float]]:
    """Boxes in pixels of the picture, cut off at its edges; `boxes` and `confidences` are of dtype object, or None."""
    if boxes is None:
        return []
    sure = []
    for box, confidence in zip(np.asarray(boxes, np.float64), np.asarray(confidences, np.float64), strict=True):
        left, top, right, bottom = np.clip(box * scale, 0, [*size, *size])
        if confidence >= MIN_CONFIDENCE and right - left >= 1 and bottom - top >= 1:
            sure.append((np.array([left, top, right, bottom]), float(confidence)))
    return sure


def _package() -> ModuleType:
    try:
        import facenet_pytorch
    except ModuleNotFoundError as error:
        if error.name != "facenet_pytorch":
            raise _broken(error) from error
        script = Path(__file__).resolve().parents[1] / "install.py"
        raise MeasurementError(
            "To recognize real faces, facenet-pytorch is needed, and it is not installed: run"
            f' "{sys.executable}" "{script}" and start ComfyUI again.'
        ) from error
    except Exception as error:  # What a torchvision that does not fit torch raises can be anything.
        raise _broken(error) from error
    return facenet_pytorch


def _broken(error: Exception) -> MeasurementError:
    return MeasurementError(
        f"facenet-pytorch is installed and does not run ({type(error).__name__}: {error}): install the torchvision that"
        " fits your torch, as ComfyUI's own instructions say, and start ComfyUI again."
    )


def _network(package: ModuleType, data: bytes) -> torch.nn.Module:
    """The embedder of a state dict's bytes.

    Raises:
        WeightsError: no state dict of this network, or with values that are not finite.
    """
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # What torch raises for a file that makes no sense can be anything.
        raise WeightsError(f"It is no sound file of weights ({type(error).__name__}).") from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError("It holds something else than weights.")
    network = package.InceptionResnetV1()
    # The release holds the classifier that the network was trained with; it says whose of 8631 faces one is.
    wanted = {name: tensor for name, tensor in state.items() if not str(name).startswith("logits.")}
    try:
        missing, unknown = network.load_state_dict(wanted, strict=False)
    except RuntimeError as error:
        raise WeightsError("It holds the weights of another network.") from error
    if unknown or any(not name.endswith("num_batches_tracked") for name in missing):
        raise WeightsError("It holds the weights of another network.")
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise WeightsError("It holds values that are no numbers.")
    return network


def _bring(network: torch.nn.Module, place: Place) -> None:
    try:
        place(network)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:  # What torch raises for a device that it has not.
        raise MeasurementError(
            f"The face recognizer cannot run on the device that was chosen ({first_line(error)}): start ComfyUI with"
            " --cpu, give a command --device cpu, or see to the graphics driver."
        ) from error


def _device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device
