"""Reads looks with a CLIP model of transformers from a local folder: pictures are compared with words for the answers.

For every attribute each answer is put into several templates; a picture's probabilities are the softmax over the
answers of its cosines with the means of these, times the model's own scale (Radford et al., arXiv 2103.00020, 3.1.4).
How well this does on real faces is not measured here (docs/METHODS.md 7.2).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..faces.recognizer import Place
from ..prefix.errors import DescriptionError, first_line, shown
from .attributes import PICTURE, VOCABULARY, Attribute, chosen_attributes
from .calibration import Calibrated, load_temperatures
from .crops import resized
from .readers import LooksReader, Probabilities

TEMPLATES = ("a photo of {}", "a close-up photo of {}", "a portrait of {}", "the face of {}", "a blurry photo of {}")
PICTURE_TEMPLATES = ("{}", "this is {}", "{} of a face")

PERSON = "a person with {}"
"""Around a view that is no person itself."""

MARGIN, BATCH = 0.6, 16
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures, by channel; every CLIP of OpenAI's and OpenCLIP's has these."""

WEIGHTS = "model.safetensors"
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
PROJECTIONS = ("text_projection.weight", "visual_projection.weight", "logit_scale")


def load_clip_reader(folder: Path, attributes: str, place: Place, only_photographs: bool = False) -> LooksReader:
    """A reader with the CLIP model of a folder, calibrated if a calibration lies there.

    Args:
        folder: holds what transformers calls a CLIP model: config.json, model.safetensors and the tokenizer.
        attributes: see `attributes.chosen_attributes`.
        place: brings a network to its device.
        only_photographs: it is to tell photographs from other pictures too.

    Raises:
        DescriptionError: a file is missing or damaged, or is of another model; or there is no such attribute.
    """
    chosen = chosen_attributes(attributes, VOCABULARY)
    _require_files(folder)
    network, tokenizer = _load(folder)
    place(_Whole(network))
    reader = ClipReader(network, tokenizer, (*chosen, PICTURE) if only_photographs else chosen, folder.name)
    temperatures = load_temperatures(folder)
    if temperatures:
        return Calibrated(reader, temperatures)
    reader.name += ", not calibrated"
    return reader


class _Whole(torch.nn.Module):
    """A model of transformers as hosts can move it: they note a device on it, which transformers' own allow nobody."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network


class ClipReader:
    """A `LooksReader` made of a `CLIPModel` and its tokenizer."""

    margin: float | None = MARGIN
    batch = BATCH

    def __init__(self, network: Any, tokenizer: Any, attributes: Sequence[Attribute], name: str) -> None:
        self.name = f"CLIP {name}"
        self.attributes = tuple(attributes)
        self._network = network.eval()
        self._side = int(network.config.vision_config.image_size)
        self._words = {one.name: self._encoded(one, tokenizer) for one in self.attributes}

    @torch.no_grad()
    def read(self, pictures: Sequence[np.ndarray]) -> Probabilities:
        """See `LooksReader`."""
        pixels = np.stack([resized(picture, self._side, self._side) for picture in pictures])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SPREAD)[:, None, None]
        weight = next(self._network.parameters())
        seen = _unit(_features(self._network.get_image_features(pixel_values=x.to(weight.device, weight.dtype))))
        scale = self._network.logit_scale.float().exp()
        return {
            name: (scale * seen @ words.to(seen.device).T).softmax(-1).cpu().numpy()
            for name, words in self._words.items()
        }

    @torch.no_grad()
    def _encoded(self, attribute: Attribute, tokenizer: Any) -> Tensor:
        """The mean direction of each answer's sentences, unit vectors [answers, d]."""
        device = next(self._network.parameters()).device
        rows = []
        for sentences in sentences_of(attribute):
            tokens = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt").to(device)
            found = self._network.get_text_features(tokens.input_ids, tokens.attention_mask)
            rows.append(_unit(_features(found)).mean(0))
        return _unit(torch.stack(rows))


def sentences_of(attribute: Attribute) -> list[list[str]]:
    """What a picture is compared with, for each answer."""
    if attribute == PICTURE:
        return [[template.format(answer.view) for template in PICTURE_TEMPLATES] for answer in attribute.answers]
    views = [answer.view if _is_somebody(answer.view) else PERSON.format(answer.view) for answer in attribute.answers]
    return [[template.format(view) for template in TEMPLATES] for view in views]


def _is_somebody(view: str) -> bool:
    return any(word in view.split() for word in ("woman", "man", "child", "teenager", "adult", "person"))


def _features(found: Any) -> Tensor:
    """What the model makes of words or pictures: since version 5 of transformers its features come wrapped."""
    return found if isinstance(found, Tensor) else found.pooler_output


def _unit(vectors: Tensor) -> Tensor:
    vectors = vectors.float()
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def _require_files(folder: Path) -> None:
    where = f"'{shown(folder)}'"
    wanted = f"config.json, {WEIGHTS} and tokenizer.json (or vocab.json and merges.txt)"
    example = "such as openai/clip-vit-large-patch14 from the Hugging Face hub"
    if not folder.is_dir():
        raise DescriptionError(
            f"There is no CLIP model in {where}: make that folder and put {wanted} of a whole CLIP model there,"
            f" {example}."
        )
    missing = [name for name in ("config.json", WEIGHTS) if not (folder / name).is_file()]
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        missing.append("tokenizer.json")
    if missing:
        raise DescriptionError(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing in {where}: put {wanted} of a whole"
            f" CLIP model there, {example}."
        )
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise DescriptionError(f"config.json in {where} is damaged: get it anew.") from error
    if kind != "clip":
        raise DescriptionError(
            f"The model in {where} is of the type '{str(kind)[:40]}', and only whole CLIP models ('clip') are read:"
            " choose another folder."
        )


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Inside, transformers draws no bars of its own, which would stand between those of whoever loads a model."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, CLIPModel
    except Exception as error:  # What a broken package raises at its import can be anything.
        raise DescriptionError(
            f"The package transformers does not run ({first_line(error)}): install the one that ComfyUI asks for."
        ) from error
    where = f"'{shown(folder)}'"
    try:
        with _without_progress_bars():
            network, told = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # So can what it raises for a damaged file.
        raise DescriptionError(
            f"The CLIP model in {where} cannot be read ({first_line(error)}): get its files anew."
        ) from error
    missing = set(told["missing_keys"])
    if lacking := [name for name in PROJECTIONS if name in missing]:
        raise DescriptionError(
            f"{WEIGHTS} in {where} lacks {lacking[0]}, without which words and pictures cannot be compared, as the"
            " text encoder of a checkpoint does: put a whole CLIP model there."
        )
    if missing or told["mismatched_keys"]:
        raise DescriptionError(f"{WEIGHTS} in {where} does not fit its config.json: get both from one place.")
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise DescriptionError(f"{WEIGHTS} in {where} holds values that are no numbers: get it anew.")
    return network.float(), tokenizer
