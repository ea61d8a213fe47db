"""Reads and writes textual inversions, as A1111, Forge, diffusers, ComfyUI, OneTrainer and the APL authors use them.

A textual inversion is a bare table of vectors. Written, it is safetensors: one tensor `emb_params` for SD1 (A1111 wants
exactly one, its key does not matter), `clip_l` and `clip_g` for SDXL. Read, it may also be what A1111 and the original
APL and textual inversion code save, `{"string_to_param": {placeholder: vectors}, ...}`, or diffusers'
`{placeholder: vectors}`, or have `clip_l` beside `t5xxl` (ComfyUI) or `t5` (OneTrainer), or `text_encoders_0` and
`text_encoders_1` (diffusers' advanced training scripts). Which text encoder vectors are for is told by their width.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import PrefixFileError, PrefixMismatchError, PrefixValueError
from ..layers import layers_by_training, told
from ..value import MOST_VECTORS, Prefix, PrefixRecord
from .foreign import kind_of_names
from .pickles import Parameters
from .safetensors_file import read_safetensors
from .storage import read_whole, write_whole

ENCODER_OF_WIDTH = {768: "l", 1280: "g", 1024: "h", 4096: "t5xxl"}
_WIDTH_OF_NAME = {"clip_l": 768, "clip_g": 1280, "clip_h": 1024, "t5xxl": 4096, "t5": 4096}
_NUMBERED = re.compile(r"text_encoders_[0-9]")
_OUTPUT = re.compile(r"(clip_[lgh]|t5(xxl)?|emb_params|text_encoders_[0-9])_out")
"""Names that OneTrainer gives to what it puts behind a text encoder."""
_FAMILY_OF_ENCODERS = {
    ("l",): "sd1",
    ("h",): "sd2",
    ("g", "l"): "sdxl",
    ("g", "l", "t5xxl"): "sd3",
    ("l", "t5xxl"): "flux",
}
_NAMES = {(("l", 768),): {"l": "emb_params"}, (("g", 1280), ("l", 768)): {"g": "clip_g", "l": "clip_l"}}
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def to_textual_inversion(prefix: Prefix) -> bytes:
    """The content of a textual inversion file with the prefix's vectors, bit for bit.

    Raises:
        PrefixMismatchError: the prefix makes its vectors for each prompt, is neither for SD1's nor for SDXL's text
            encoders, or was not learned at the layers that they are usually read at: whoever reads the file would take
            it for one that was.
    """
    if prefix.is_conditional:
        raise PrefixMismatchError(
            "This prefix makes its vectors anew for every prompt, which a textual inversion cannot: save it as"
            " safetensors, or learn one with 'conditional' off."
        )
    names = _NAMES.get(tuple(sorted(prefix.widths.items())))
    if names is None:
        encoders = ", ".join(f"'{key}' (vectors of {width} numbers)" for key, width in prefix.widths.items())
        raise PrefixMismatchError(
            f"Only prefixes for SD1 and SDXL can be saved as a textual inversion, this one is for {encoders}:"
            " save it as safetensors."
        )
    for key, usual in layers_by_training(prefix.widths.keys()).items():
        learned = prefix.record.layers.get(key, (usual,))
        if usual not in learned:
            raise PrefixMismatchError(
                f"This prefix was learned at {told(learned)} and not at {told((usual,))}, which a textual inversion"
                " cannot say: save it as safetensors."
            )
    data = safetensors.torch.save({names[key]: vectors for key, vectors in prefix.vectors.items()})
    back = from_textual_inversion(read_safetensors(data)[0], "").vectors
    if back.keys() != prefix.vectors.keys() or any(not back[key].equal(prefix.vectors[key]) for key in back):
        raise PrefixMismatchError("The prefix would read otherwise as a textual inversion: save it as safetensors.")
    return data


def save_textual_inversion(prefix: Prefix, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Writes a textual inversion file and returns its path; see `storage.write_whole` for how.

    Raises:
        PrefixMismatchError: as `to_textual_inversion`.
        PrefixFileExistsError, PrefixFileError: as `storage.write_whole`.
    """
    return write_whole(to_textual_inversion(prefix), Path(path), overwrite)


def holds_textual_inversion(path: str | os.PathLike[str], prefix: Prefix) -> bool:
    """Whether the file is what `save_textual_inversion` makes of the prefix; one that cannot be read is not."""
    try:
        return read_whole(Path(path)) == to_textual_inversion(prefix)
    except PrefixFileError:
        return False


def from_textual_inversion(content: Any, file_name: str) -> Prefix:
    """The prefix in a textual inversion file; half precision becomes float32.

    Args:
        content: what the file holds: tensors by name, or `{"string_to_param": …}` with anything beside.
        file_name: for the record, which says that the prefix was imported and what is not known of it.

    Raises:
        PrefixValueError: it is no textual inversion, or one that no text encoder known here takes.
    """
    vectors: dict[str, Tensor] = {}
    for name, tensor in _tables(content).items():
        key, table = _table(name, tensor)
        if key in vectors:
            raise PrefixValueError(f"It holds two sets of vectors for text encoder '{key}'.")
        vectors[key] = table
    record = PrefixRecord(
        family=_FAMILY_OF_ENCODERS.get(tuple(sorted(vectors)), ""),
        fingerprint="",
        name=Path(file_name).stem,
        notes=f"Imported from the textual inversion '{file_name}'. The family is told by the width of its vectors. Not"
        " known: the checkpoint it was learned on, from how many identities, with which settings, and what it scores.",
    )
    return Prefix(vectors, record)


def vectors_in(content: Any) -> list[Tensor]:
    """The vectors `[m, d]`, float32, of a textual inversion for whatever text encoders.

    Args:
        content: see `from_textual_inversion`.

    Raises:
        PrefixValueError: it is no textual inversion.
    """
    return [_rows(tensor) for tensor in _tables(content).values()]


def _tables(content: Any) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        raise PrefixValueError("It holds no vectors by name, so it is no textual inversion.")
    if "string_to_param" in content:
        content = content["string_to_param"]
        if isinstance(content, Parameters):
            content = content.table
        if not isinstance(content, Mapping):
            raise PrefixValueError("It holds no vectors by name, so it is no textual inversion.")
        if len(content) > 1:
            raise PrefixValueError("It holds vectors for several words, a prefix is one set.")
    if not content:
        raise PrefixValueError("It holds no vectors.")
    names = [name if isinstance(name, str) else str(name) for name in content]
    if not content.keys().isdisjoint(("l", "g", "h")):
        raise PrefixValueError("It carries no record of how it was learned.")
    if any(_OUTPUT.fullmatch(name) for name in names):
        raise PrefixValueError(
            "It holds output embeddings of OneTrainer, which stand behind the text encoder and not in the prompt: train"
            " with output embeddings off."
        )
    if len(content) > 1 and not all(name in _WIDTH_OF_NAME or _NUMBERED.fullmatch(name) for name in names):
        kind = kind_of_names(names)
        if kind is not None:
            raise PrefixValueError(f"It is {kind}, not a prefix.")
        raise PrefixValueError(
            f"It holds {len(content)} entries, and no textual inversion's are named so"
            f" ({', '.join(_WIDTH_OF_NAME)}, text_encoders_0, …, or a single one)."
        )
    return content


def _rows(tensor: Any) -> Tensor:
    """`[m, d]` in float32."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise PrefixValueError("It holds something else than vectors.")
    if tensor.dtype not in _DTYPES:
        raise PrefixValueError(
            f"Its vectors are {str(tensor.dtype).removeprefix('torch.')}, and must be float32, float16 or bfloat16."
        )
    if tensor.ndim not in (1, 2) or not tensor.numel():
        raise PrefixValueError(f"Its vectors must be the rows of a table [m, d], and it holds {list(tensor.shape)}.")
    table = tensor.detach().reshape(1, -1) if tensor.ndim == 1 else tensor.detach()
    return table.to(torch.float32)


def _table(name: Any, tensor: Any) -> tuple[str, Tensor]:
    """The text encoder's key and `[m, d]` in float32."""
    table = _rows(tensor)
    count, width = table.shape
    key = _encoder(name, width)
    if key is None and _encoder(name, count) is not None:
        raise PrefixValueError(
            f"Its table of {count} rows and {width} columns lies on its side, a vector in each column: save it"
            " transposed."
        )
    if key is None:
        raise PrefixValueError(
            f"It is for a kind of model that prefixes do not serve (its vectors have {width} numbers; those of SD1 have"
            " 768, of SD2 1024, of SDXL 768 and 1280, of T5 4096 under the name t5xxl)."
        )
    if count > MOST_VECTORS:
        raise PrefixValueError(f"It holds {count} vectors, and no prompt has room for more than {MOST_VECTORS}.")
    return key, table


def _encoder(name: Any, width: int) -> str | None:
    """The key of the text encoder that vectors of that name and width are for."""
    named = _WIDTH_OF_NAME.get(name) if isinstance(name, str) else None
    if named is None and width == _WIDTH_OF_NAME["t5xxl"] and not _NUMBERED.fullmatch(str(name)):
        return None  # Other text encoders are as wide.
    return ENCODER_OF_WIDTH.get(width) if named in (None, width) else None
