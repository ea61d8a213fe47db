"""Measures the memory of a backward pass through a text encoder: in two stages, layers twice, against in one go.

A T5 and an LLM of the host's classes, twelve layers each, weights in half precision, and the gradient of a loss of the
conditioning by the prefix's vectors. In one go, as autograd does it, every Linear keeps its float32 copy for the
backward pass and every layer its activations. In two stages the prompt is encoded without gradients, and again with
them once dL/dconditioning is known, one layer at a time. Memory is the peak over the loaded model's own, each way in a
process of its own; the gradients must be equal.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ..demo.host import enter_host
from .support.memory import peak_bytes

LAYERS, WIDTH = 12, 1024
WAYS = ("ours", "in one go")
PROMPT = "A portrait of Ada Lovelace in a garden"
ENCODERS: Mapping[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "t5": (
        "comfy.text_encoders.sd3_clip",
        "T5XXLTokenizer",
        "T5XXLModel",
        "t5xxl",
        {"t5xxl_model_config": {"d_model": WIDTH, "d_ff": 4096, "d_kv": 64, "num_heads": 16, "num_layers": LAYERS}},
    ),
    "llm": (
        "comfy.text_encoders.z_image",
        "ZImageTokenizer",
        "ZImageTEModel",
        "qwen3_4b",
        {
            "qwen3_4b_model_config": {
                "hidden_size": WIDTH,
                "intermediate_size": 4096,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 16,
                "num_key_value_heads": 4,
            }
        },
    ),
}
"""Module of the host, tokenizer, encoder, key of its vectors and sizes."""


def make(name: str) -> tuple[Any, Any, str]:
    """The host's tokenizer and encoder with random weights in half precision, and the key of its vectors."""
    from .support.layouts import fill

    module, tokenizer, encoder, key, options = ENCODERS[name]
    text = importlib.import_module(module)
    stage = getattr(text, encoder)(device="cpu", dtype=torch.float16, model_options=options)
    fill(stage)
    stage.requires_grad_(False)
    return getattr(text, tokenizer)(), stage, key


def gradient(way: str, stage: Any, tokens: Any, vectors: Tensor) -> Tensor:
    """dL/dvectors of the mean square of the conditioning."""
    from ..engines.differentiable import differentiable
    from ..engines.recomputation import checkpointed, recomputed

    def encode(vectors: Tensor) -> Tensor:
        return stage.encode_token_weights(tokens(vectors))[0]

    if way == "ours":
        with checkpointed(stage):
            loss = recomputed(stage, encode, vectors).float().square().mean()
            return torch.autograd.grad(loss, vectors)[0]
    with differentiable(stage):
        loss = encode(vectors).float().square().mean()
    return torch.autograd.grad(loss, vectors)[0]


@contextmanager
def _prefixed(name: str) -> Iterator[tuple[Any, Any, Tensor]]:
    from ..prefix import inject_text

    tokenizer, stage, key = make(name)
    vectors = torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def tokens(rows: Tensor) -> Any:
        def tokenize(text: str) -> Any:
            made = tokenizer.tokenize_with_weights(text, return_word_ids=True)
            return made if isinstance(made, Mapping) else {key: made}

        injected = inject_text(tokenize, PROMPT, {key: rows}, [key])
        return injected if name != "t5" else injected[key]

    yield stage, tokens, vectors


def measure(name: str, way: str, folder: Path) -> None:
    """Prints the peak of one way over the model, in bytes, and saves the gradient."""
    enter_host()
    with _prefixed(name) as (stage, tokens, vectors):
        tokens(vectors)  # Tokenizers load at first use.
        with peak_bytes() as peak:
            found = gradient(way, stage, tokens, vectors)
    torch.save(found, folder / f"{name}-{way}.pt")
    print(peak[0])


def main() -> None:
    """Prints each way's peak, and the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=3, metavar=("ENCODER", "WAY", "FOLDER"), help="only one way of one encoder")
    only = parser.parse_args().measure
    if only:
        measure(only[0], only[1], Path(only[2]))
        return
    ratios = {}
    with TemporaryDirectory() as folder:
        for name in ENCODERS:
            peaks = []
            for way in WAYS:
                command = [sys.executable, "-m", __spec__.name, "--measure", name, way, folder]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                peaks.append(int(done.stdout.split()[-1]))
                print(f"{name}, {way}: {peaks[-1] / 2**20:.0f} MB over the model", flush=True)
            ours, theirs = (torch.load(Path(folder) / f"{name}-{way}.pt", weights_only=True) for way in WAYS)
            difference = float((ours - theirs).norm() / theirs.norm())
            print(f"{name}: gradients differ by {difference:.1e} of their size")
            if not difference < 1e-4:
                raise SystemExit(f"The gradients of the {name} are not equal.")
            ratios[name] = peaks[0] / peaks[1]
    for name, ratio in ratios.items():
        print(f"RATIO text_encoder_memory_{name} {ratio:.3f}")


if __name__ == "__main__":
    main()
