"""Keeps a tiny checkpoint's weights as bytes, as ComfyUI-GGUF does: by that extension itself, or by a stand-in of it.

The extension is not ours to keep: the variable `COMFYUI_GGUF` names a folder with it, if there is one (and the package
`gguf`). The stand-in does the same with the host: tensors of a class of their own that return themselves as copies, and
a `state_dict` without values.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

BLOCK = 32
"""Numbers that share a scale; only rows that are made of whole blocks are quantized."""


def is_quantizable(name: str, weight: Tensor) -> bool:
    """Whether files of this kind quantize it: the host adds positions by itself, as they are."""
    return "position" not in name and weight.ndim == 2 and weight.shape[1] % BLOCK == 0


class Bytes(Tensor):
    """Quantized numbers: `[n, d]` as bytes `[n, d + 2 d / BLOCK]`."""

    numbers: torch.Size

    def clone(self, *args: Any, **kwargs: Any) -> Bytes:
        return self

    def detach(self, *args: Any, **kwargs: Any) -> Bytes:
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        moved = super().to(*args, **kwargs)
        moved.numbers = self.numbers
        return moved


def quantized(weight: Tensor) -> Bytes:
    blocks = weight.reshape(len(weight), -1, BLOCK)
    scales = (blocks.abs().amax(dim=-1, keepdim=True) / 127).half()
    steps = (blocks / scales.float().clamp(min=1e-8)).round().to(torch.int8)
    made = torch.cat([scales.view(torch.uint8), steps.view(torch.uint8)], dim=-1).flatten(1).as_subclass(Bytes)
    made.numbers = weight.shape
    return made


def dequantized(weight: Any, dtype: torch.dtype) -> Tensor:
    if not isinstance(weight, Bytes):
        return weight.to(dtype)
    blocks = weight.as_subclass(Tensor).reshape(weight.numbers[0], -1, BLOCK + 2)
    scales = blocks[..., :2].contiguous().view(torch.float16)
    return (blocks[..., 2:].contiguous().view(torch.int8) * scales.to(dtype)).reshape(weight.numbers)


def stand_in() -> tuple[Any, Any]:
    """Layers that keep their weights as bytes; and what loads weights into a module made of them."""
    import comfy.ops

    class Layer(torch.nn.Module):
        def _load_from_state_dict(self, weights: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in weights:
                    setattr(self, name, torch.nn.Parameter(weights[f"{prefix}{name}"], requires_grad=False))

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            if not isinstance(self.weight, Bytes):
                super()._save_to_state_dict(destination, prefix, keep_vars)
                return
            for name in ("weight", "bias"):
                if getattr(self, name, None) is not None:
                    destination[prefix + name] = torch.zeros_like(getattr(self, name), device="meta").data
            destination[f"{prefix}temp.weight"] = torch.empty(self.weight.numbers, device="meta")

        def forward_comfy_cast_weights(self, given: Tensor, *args: Any, out_dtype: Any = None) -> Tensor:
            dtype = out_dtype or given.dtype
            if not isinstance(self.weight, Bytes):
                more = {} if out_dtype is None else {"out_dtype": out_dtype}
                return super().forward_comfy_cast_weights(given, *args, **more)
            weight = dequantized(self.weight.to(given.device), dtype)
            if isinstance(self, torch.nn.Embedding):
                return torch.nn.functional.embedding(given, weight)
            return torch.nn.functional.linear(given, weight, None if self.bias is None else self.bias.to(dtype))

    class Operations(comfy.ops.manual_cast):
        class Linear(Layer, comfy.ops.manual_cast.Linear):
            pass

        class Embedding(Layer, comfy.ops.manual_cast.Embedding):
            pass

    def load(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
        found = {
            name: quantized(weight) if is_quantizable(name, weight) else weight for name, weight in weights.items()
        }
        module.load_state_dict(found)

    return Operations, load


def comfyui_gguf(folder: Path) -> tuple[Any, Any]:
    """The same of the real extension, by way of a file as its loaders read it."""
    gguf = pytest.importorskip("gguf")
    package = ModuleType("comfyui_gguf")  # Its nodes are left out: they would look for the server's folders.
    package.__path__ = [str(folder)]
    sys.modules["comfyui_gguf"] = package
    ops, loader = (importlib.import_module(f"comfyui_gguf.{name}") for name in ("ops", "loader"))
    path = Path(os.environ.get("PYTEST_TMP", "/tmp")) / f"anonymize-faces-{os.getpid()}.gguf"

    def load(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
        writer = gguf.GGUFWriter(path, "sd1")
        for name, weight in weights.items():
            if not weight.is_floating_point():
                continue
            kind = gguf.GGMLQuantizationType.Q8_0 if is_quantizable(name, weight) else gguf.GGMLQuantizationType.F32
            data = gguf.quants.quantize(weight.float().numpy(), kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        try:
            module.load_state_dict(loader.gguf_sd_loader(str(path), handle_prefix=None), strict=False)
        finally:
            path.unlink()

    return ops.GGMLOps, load
