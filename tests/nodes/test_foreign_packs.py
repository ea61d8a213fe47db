"""Real packs of other people that encode prompts, on a real server: what draws with the plain CLIP draws protected.

They are not in the repository: the tests are skipped unless the packs lie in the folder that FOREIGN_PACKS names
(build/foreign_packs), such as https://github.com/shiimizu/ComfyUI_smZNodes in ComfyUI_smZNodes. A stand-in of smZNodes'
behaviour is tested always, in tests/engines/comfy/test_foreign_tokenizers.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.drawing import PLAIN, PROTECTED, Draw, anonymize
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError
from anonymize_faces.tools.layout import BUILD

PACKS = Path(os.environ.get("FOREIGN_PACKS", BUILD / "foreign_packs"))
NAME = "a portrait of Ada Lovelace"
PARSERS = ("comfy", "comfy++", "A1111", "full", "compel", "fixed attention")
TEXTS = (
    "",
    NAME,
    f"({NAME}:1.3)",
    f"a garden BREAK {NAME}",
    f"a dog AND {NAME}",
    "a [dog:portrait of Ada Lovelace:0.5]",
)
UNUSED = {"ascore": 6.0, "width": 64, "height": 64, "crop_w": 0, "crop_h": 0, "target_width": 64, "target_height": 64}
UNUSED |= {"text_g": "", "text_l": "", "with_SDXL": False, "use_old_emphasis_implementation": False, "smZ_steps": 2}

needs_smz = pytest.mark.skipif(
    not (PACKS / "ComfyUI_smZNodes").is_dir(), reason=f"ComfyUI_smZNodes is not in {PACKS}: see the module"
)
needs_advanced = pytest.mark.skipif(
    not (PACKS / "ComfyUI_ADV_CLIP_emb").is_dir(), reason=f"ComfyUI_ADV_CLIP_emb is not in {PACKS}: see the module"
)


@pytest.fixture(scope="module")
def draw(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Draw]:
    folder = tmp_path_factory.mktemp("packs")
    (folder / "paths.yaml").write_text(f"test:\n  custom_nodes: {PACKS.resolve()}\n", encoding="utf-8")
    server = ComfyServer(
        folder / "comfy", report=print, arguments=["--extra-model-paths-config", str(folder / "paths.yaml")]
    )
    with server:
        save_prefix(demo_prefix(), server.prefix_folder / "one.safetensors")
        yield Draw(server)


def smz(clip: list, text: str, parser: str) -> dict:
    own = {"clip": clip, "text": text, "parser": parser, "mean_normalization": True, "multi_conditioning": True}
    return {"class_type": "smZ CLIPTextEncode", "inputs": own | UNUSED}


@needs_smz
@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_parser_of_smznodes_draws_protected(draw: Draw, parser: str, text: str) -> None:
    def picture(clip: list) -> np.ndarray:
        return draw(clip, text, anonymize=anonymize("one.safetensors"), yes=smz(clip, text, parser))

    protected = picture(PROTECTED)
    assert not np.array_equal(protected, picture(PLAIN))
    if text in ("", NAME):
        assert np.array_equal(protected, draw(PROTECTED, text, anonymize=anonymize("one.safetensors")))


@needs_advanced
@pytest.mark.parametrize("weights", ["comfy", "A1111", "compel", "comfy++", "down_weight"])
@pytest.mark.parametrize("mean", ["none", "mean", "length", "length+mean"])
def test_the_advanced_encoder_draws_protected_or_says_why_not(draw: Draw, weights: str, mean: str) -> None:
    def picture(clip: list, text: str) -> np.ndarray:
        own = {"clip": clip, "text": text, "token_normalization": mean, "weight_interpretation": weights}
        node = {"class_type": "BNK_CLIPTextEncodeAdvanced", "inputs": own | {"affect_pooled": "disable"}}
        return draw(clip, text, anonymize=anonymize("one.safetensors"), yes=node)

    assert not np.array_equal(picture(PROTECTED, NAME), picture(PLAIN, NAME))
    try:
        weighted = picture(PROTECTED, f"({NAME}:1.3)")
    except WorkflowError as refused:
        told = str(refused)
    else:
        assert not np.array_equal(weighted, picture(PLAIN, f"({NAME}:1.3)"))
        return
    assert "CLIP of Anonymize Faces" in told or "CLIP Text Encode" in told
