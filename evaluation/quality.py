"""Scores the quality of pictures: CLIP score, FID and KID, through torchmetrics.

CLIP score: how well pictures fit their prompts, 100 times the cosine of their embeddings. FID and KID: how far the
pictures' features, as a whole, are from those of others: of real pictures if there are some, else of the plain model's.

torchmetrics is an optional package, imported when a `Quality` is made. Its own loaders unpickle what they download;
here the weights of Inception come through `faces.weights`, those of CLIP as safetensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..faces.recognizer import Place, Report
from ..faces.weights import Weights, read_weights
from ..prefix.errors import MeasurementError, WeightsError, first_line
from ..runs.seeds import cpu_seeded
from .settings import BOTH, CLIP, CLIP_MODEL, INCEPTION

INCEPTION_WEIGHTS = Weights(
    name="weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256=None,
)
"""What torch-fidelity itself downloads. Its name holds the first digits of its SHA-256, which are checked."""

FEW = 2048
"""As many pictures as Inception has features: with fewer the covariance that FID takes has no full rank."""

KID_SUBSET = 1000

Clip = Callable[[], tuple[torch.nn.Module, Any]]
"""Makes a CLIP model and its processor, see torchmetrics' `CLIPScore`."""


@dataclass(frozen=True)
class QualityScores:
    """CLIP score (0 to 100), FID (0 or more), KID (about 0 or more); None where not measured."""

    clip_score: float | None = None
    fid: float | None = None
    kid: float | None = None


NOTHING = QualityScores()


class Quality:
    """Scores for the pictures of one column after the other; `reset` before each.

    Args:
        features: makes features [n, d] of pictures uint8 [n, 3, height, width]; None leaves out FID and KID.
        clip: see `Clip`; None leaves out the CLIP score.
        real: real pictures uint8 [height, width, 3] of any sizes to compare with; none compares with the plain model.
        name: what they measure with, in words.
        ready: called before the networks are asked, for whoever may have taken them off their device.

    Raises:
        MeasurementError: torchmetrics is missing or cannot run.
    """

    def __init__(
        self,
        features: torch.nn.Module | None,
        clip: Clip | None,
        real: Sequence[np.ndarray] = (),
        name: str = "features of your own",
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        against = f"{len(real)} real pictures" if real else "the plain model's pictures"
        self.name = f"{name}; FID and KID against {against}" if features is not None else name
        self._clip = self._fid = self._kid = None
        self._features = None if features is None else _Given(features)
        self._real = bool(real)
        self._ready = ready
        with _metrics() as metrics:
            if clip is not None:
                self._clip = metrics.multimodal.clip_score.CLIPScore(model_name_or_path=clip)
            if self._features is not None:
                options = {"feature": self._features, "reset_real_features": not real}
                self._fid = metrics.image.fid.FrechetInceptionDistance(**options)
                self._kid = metrics.image.kid.KernelInceptionDistance(subset_size=KID_SUBSET, **options)
        for picture in real:
            self._compare(self._features_of(picture[None]), real=True)

    def reset(self) -> None:
        """Forgets all pictures but the real ones."""
        for metric in filter(None, (self._clip, self._fid, self._kid)):
            metric.reset()

    def add(self, pictures: np.ndarray, prompts: Sequence[str], plain: np.ndarray) -> None:
        """Takes in pictures uint8 [n, height, width, 3] with their prompts, and the plain model's of the same.

        All of them, or none where memory runs out: nothing is taken in before every network has been asked.
        """
        self._ready()
        fakes = self._features_of(pictures)
        reals = None if self._real else self._features_of(plain)
        if self._clip is not None:
            self._clip.update(_channels_first(pictures).to(_device(self._clip.model)), list(prompts))
        self._compare(fakes, real=False)
        self._compare(reals, real=True)

    def scores(self, against_itself: bool) -> QualityScores:
        """The figures of what was taken in since `reset`.

        Args:
            against_itself: these are the plain model's pictures; without real ones they have no distance.
        """
        clip = None if self._clip is None else float(self._clip.compute())
        if self._fid is None or self._kid is None or (against_itself and not self._real):
            return QualityScores(clip)
        fakes, reals = (sum(map(len, features)) for features in (self._kid.fake_features, self._kid.real_features))
        if min(fakes, reals) < 2:
            return QualityScores(clip)
        self._kid.subset_size = min(KID_SUBSET, fakes, reals)
        with cpu_seeded(0):  # KID draws its subsets at random.
            kid = float(self._kid.compute()[0])
        return QualityScores(clip, float(self._fid.compute()), kid)

    @torch.no_grad()
    def _features_of(self, pictures: np.ndarray) -> Tensor | None:
        """Features `[n, d]` of pictures uint8 `[n, height, width, 3]`, on the CPU; None if nothing is made of them."""
        if self._features is None:
            return None
        network: torch.nn.Module = self._features.network
        found: Tensor = network(_channels_first(pictures).to(_device(network)))
        return found.cpu()

    @torch.no_grad()
    def _compare(self, features: Tensor | None, real: bool) -> None:
        if features is None or self._features is None:
            return
        with self._features.giving(features):
            for metric in filter(None, (self._fid, self._kid)):
                metric.update(features, real=real)


class _Given(torch.nn.Module):
    """Stands for a network in metrics that ask it themselves, so that it is asked before, and once for all of them."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self._features: Tensor | None = None
        if hasattr(network, "num_features"):
            self.num_features = network.num_features

    @contextlib.contextmanager
    def giving(self, features: Tensor) -> Iterator[None]:
        """Inside, these are the features of whatever it is asked about."""
        self._features = features
        try:
            yield
        finally:
            self._features = None

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.network(pictures) if self._features is None else self._features
        return found


def load_quality(
    choice: str,
    folders: Sequence[Path],
    place: Place,
    report: Report,
    real: Sequence[np.ndarray] = (),
    clip_model: str = CLIP_MODEL,
    ready: Callable[[], None] = lambda: None,
) -> Quality:
    """Scores with the published networks.

    Args:
        choice: one of `settings.QUALITIES`.
        folders: where Inception's weights are looked for; they are fetched into the first.
        place: brings a network to its device.
        report: called with received and all bytes during a download.
        real, ready: see `Quality`.
        clip_model: a folder, or a name on the Hugging Face hub.

    Raises:
        MeasurementError: a package is missing or cannot run.
        WeightsError: weights are not there and cannot be fetched, or are not what they should be.
    """
    features = _inception(folders, report) if choice in (INCEPTION, BOTH) else None
    clip = _clip(clip_model) if choice in (CLIP, BOTH) else None
    for network in filter(None, (features, clip and clip[0])):
        place(network)
    names = ([f"CLIP {clip_model}"] if clip else []) + (["Inception v3 of 2015-12-05"] if features is not None else [])
    return Quality(features, clip and (lambda: clip), real, " and ".join(names), ready)


def _inception(folders: Sequence[Path], report: Report) -> torch.nn.Module:
    with _metrics() as metrics:
        make = metrics.image.fid.NoTrainInceptionV3
        import torch_fidelity  # noqa: F401
    state, _ = read_weights(INCEPTION_WEIGHTS, folders, _parse_inception, report)
    with tempfile.TemporaryDirectory() as folder:
        # torch-fidelity unpickles the file that it is given: give it one that was written here.
        path = Path(folder) / "inception.pth"
        torch.save(state, path)
        return make("inception-v3-compat", ["2048"], str(path))


def _parse_inception(data: bytes) -> dict[str, Tensor]:
    started = INCEPTION_WEIGHTS.name.removesuffix(".pth").rpartition("-")[2]
    if not hashlib.sha256(data).hexdigest().startswith(started):
        raise WeightsError(f"its SHA-256 does not begin with {started}, as its name says it should.")
    try:
        return torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # Whatever a file that is no such file makes torch raise.
        raise WeightsError("it holds no weights.") from error


def _clip(model: str) -> tuple[torch.nn.Module, Any]:
    with _metrics():
        from transformers import CLIPModel, CLIPProcessor
    try:
        network = CLIPModel.from_pretrained(model, use_safetensors=True)
        return clip_features(network), CLIPProcessor.from_pretrained(model)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"The CLIP model '{model}' could not be loaded ({first_line(error)}): connect to the network"
            " once so that it is fetched from the Hugging Face hub, or give the folder that holds its config, tokenizer"
            " and model.safetensors."
        ) from error


class _ClipFeatures(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.eval()
        self.config = network.config

    @torch.no_grad()
    def get_image_features(self, *inputs: Tensor) -> Tensor:
        return _pooled(self.network.get_image_features(*inputs)).cpu()

    @torch.no_grad()
    def get_text_features(self, *inputs: Tensor) -> Tensor:
        return _pooled(self.network.get_text_features(*inputs)).cpu()


def clip_features(network: torch.nn.Module) -> torch.nn.Module:
    """A CLIP model of transformers as torchmetrics wants it: since version 5 its features come wrapped.

    Features come to the CPU, where torchmetrics adds them up.
    """
    return _ClipFeatures(network)


def _pooled(features: Any) -> Tensor:
    return features if isinstance(features, Tensor) else features.pooler_output


@contextlib.contextmanager
def _metrics() -> Iterator[Any]:
    """torchmetrics; what it lacks, or lacks beside it, is told with a remedy."""
    try:
        import torchmetrics.image.fid
        import torchmetrics.image.kid
        import torchmetrics.multimodal.clip_score

        yield torchmetrics
    except ImportError as error:
        raise MeasurementError(
            f"CLIP score, FID and KID need packages that are not installed ({error}): run '{sys.executable} -m pip"
            " install --no-deps torchmetrics torch-fidelity lightning-utilities' and start again, or leave them out."
        ) from error


def _channels_first(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).contiguous()


def _device(network: torch.nn.Module) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
