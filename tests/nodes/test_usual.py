"""How a MODEL is drawn with follows from the files that the workflow loads it from, where their names say so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from anonymize_faces.engines.automatic import FEW_STEPS, SDXL, UsualDrawing


def loaded(name: str, **others: Any) -> dict[str, Any]:
    """A prompt in which node 9 asks, and has its MODEL from two nodes before it."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
        "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], **others}},
        "3": {"class_type": "VAELoader", "inputs": {"vae_name": "lcm turbo.safetensors"}},
        "9": {"inputs": {"vae": ["3", 0], "model": ["2", 0], "prefix": "turbo people.safetensors"}},
    }


@pytest.fixture
def usual(host_modules: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    from comfy_execution.utils import CurrentNodeContext

    from anonymize_faces.nodes.shared import usual as asked

    monkeypatch.setattr(asked, "usual_drawing_of", lambda model: SDXL)

    def told(prompt: Any, node: str = "9") -> UsualDrawing:
        with CurrentNodeContext("prompt", node, 0):
            return asked.usual_drawing_here(None, SimpleNamespace(prompt=prompt))

    return told


@pytest.mark.parametrize(
    ("prompt", "steps", "by"),
    [
        (loaded("XL/dreamshaperXL_lightningDPMSDE.safetensors"), 4, "dreamshaperXL_lightningDPMSDE.safetensors"),
        (loaded("XL\\sdxl_lightning_8step.ckpt"), 8, "sdxl_lightning_8step.ckpt"),
        (loaded("sdxl.safetensors", lora_name="lcm-lora-sdxl.safetensors", strength_model=1.0), 4, "lcm-lora"),
        (loaded("sdxl.safetensors", lora_name="lcm-lora-sdxl.safetensors", strength_model=0), 0, ""),
        (loaded("sdxl.safetensors", lora_1={"on": True, "lora": "Hyper-SDXL-8steps.sft", "strength": 1}), 8, "Hyper"),
        (loaded("sdxl.safetensors", lora_1={"on": False, "lora": "Hyper-SDXL-8steps-lora.sft"}), 0, ""),
        (loaded("flux1-dev.sft", lora_name="Hyper-FLUX.1-dev-8steps-lora.safetensors"), 8, "Hyper-FLUX"),
        (loaded("sdxl.safetensors", lora_name="lightning_strikes.safetensors"), 0, ""),
        (loaded("sdxl.safetensors", lora_name="lightning_strike_v3_2000steps.safetensors"), 0, ""),
        (loaded("sdxl.safetensors", lora_name="porsche_turbo_911_1500steps.safetensors"), 0, ""),
        (loaded("sd_xl_base_1.0.safetensors"), 0, ""),
        ({"9": {"inputs": {"model": ["9", 0]}}}, 0, ""),
        ({"9": {"inputs": None}}, 0, ""),
        (None, 0, ""),
    ],
)  # fmt: skip
def test_files_are_told_by_their_names(usual: Any, prompt: Any, steps: int, by: str) -> None:
    found = usual(prompt)
    if not steps:
        assert found == SDXL
        return
    assert (found.side, found.steps, found.cfg) == (SDXL.side, steps, FEW_STEPS.cfg)
    assert by in found.reason and "says that it is made for few steps" in found.reason
