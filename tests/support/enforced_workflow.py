"""Makes small workflows that sample, for servers that enforce a prefix."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer

TEXT = "a portrait of Ada Lovelace"


CLIP = ["demo", 1]


WIDTH = demo_prefix(0).vectors["l"].shape[1]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def encoding(clip: Any, text: Any = TEXT) -> dict[str, Any]:
    return node("CLIPTextEncode", clip=clip, text=text)


def sampling(positive: Any = ("yes", 0), **nodes: Any) -> dict[str, Any]:
    """A workflow that samples one step; nodes given are added, or replace others."""
    settings = {"seed": 7, "steps": 1, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    wires = {"model": ["demo", 0], "positive": list(positive), "negative": ["no", 0], "latent_image": ["latent", 0]}
    return {
        "demo": node("LoadDemoModel"),
        "yes": encoding(CLIP),
        "no": encoding(CLIP, ""),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sample": node("KSampler", **settings, **wires),
        "save": node("SaveLatent", samples=["sample", 0], filename_prefix="enforced"),
        **nodes,
    }


class Enforcing:
    """A server that enforces, with other people's nodes, and what has reached its samplers."""

    def __init__(self, folder: Path, host: Path, **environment: str) -> None:
        self._records = folder / "records"
        self._records.mkdir(parents=True)
        pack = folder / "custom_nodes" / "foreign_pack"
        pack.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("foreign_pack.py"), pack / "__init__.py")
        paths = folder / "paths.yaml"
        paths.write_text(f"test:\n  custom_nodes: {folder / 'custom_nodes'}\n")
        self.server = ComfyServer(
            folder / "comfy",
            report=print,
            arguments=["--extra-model-paths-config", str(paths)],
            environment={"RECORDS": str(self._records), **environment},
        )
        for seed, name in ((0, "studio"), (1, "other")):
            save_prefix(demo_prefix(seed), self.server.prefix_folder / f"{name}.safetensors")
        (self.server.embedding_folder / "people").mkdir(parents=True)
        (self.server.embedding_folder / "styles").mkdir()
        for name, value in (("ada", 1.0), ("people/ada", 1.0), ("styles/ink", 0.25)):
            self.put_embedding(name, value)

    def put_embedding(self, name: str, value: float) -> None:
        """Puts two vectors of one value where the server looks for embeddings."""
        vectors = torch.full((2, WIDTH), value, dtype=torch.float16)
        save_file({"clip_l": vectors}, self.server.embedding_folder / f"{name}.safetensors")

    def reached(self) -> list[torch.Tensor]:
        """What has reached samplers since last asked."""
        files = sorted(self._records.glob("*.pt"))
        recorded = [torch.load(file) for file in files]
        for file in files:
            file.unlink()
        return [tensor for run in recorded for cond in run for tensor in cond]
