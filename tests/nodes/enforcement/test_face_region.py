"""On a server that enforces, faces are changed alone only where the operator allows it, by the operator's prefix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from anonymize_faces.prefix import save_prefix
from anonymize_faces.prefix.bypass import NO_EMBEDDINGS
from anonymize_faces.prefix.enforced_setting import read_enforcement
from anonymize_faces.tests.support.enforced_workflow import CLIP, TEXT, Enforcing, encoding, node, sampling
from anonymize_faces.tests.support.prefixes import demo_prefix, with_random_region
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

ENFORCE = {"ANONYMIZE_FACES_ENFORCE": "region.safetensors"}


def graph(**inputs: Any) -> dict[str, Any]:
    chosen = {"text": TEXT, "prefix": "other.safetensors", "certainty": 0.5, "margin": 0.0, "softness": 0.0, **inputs}
    region = node("AnonymizeFaceRegion", model=["demo", 0], clip=CLIP, **chosen)
    made = sampling(("region", 1), region=region, no=encoding(["region", 2], ""))
    made["sample"]["inputs"]["model"] = ["region", 0]
    return made


@pytest.fixture(scope="module")
def allowing(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    allowed = {**ENFORCE, "ANONYMIZE_FACES_FACE_REGION": "allow"}
    folder = tmp_path_factory.mktemp("allowing")
    made = ComfyServer(folder, report=print, environment=allowed)
    # Nothing counts as face but to whoever is as certain as is usual.
    region = with_random_region(demo_prefix(), threshold=0.0, steepness=1e6)
    save_prefix(region, made.prefix_folder / "region.safetensors")
    save_prefix(with_random_region(demo_prefix(1)), made.prefix_folder / "other.safetensors")
    with made as running:
        yield running


def latents(server: ComfyServer, asked: dict[str, Any]) -> torch.Tensor:
    (saved,) = server.run(asked)["outputs"]["save"]["latents"]
    return load(server.image(saved))["latent_tensor"]


def test_it_is_refused_unless_the_operator_allows_it(enforcing: Enforcing) -> None:
    with pytest.raises(WorkflowError, match=r"leaves all but faces unprotected, .* ask the server's operator"):
        enforcing.server.run(graph())


def test_allowed_it_takes_the_operators_prefix_and_no_settings_below_the_usual_ones(allowing: ComfyServer) -> None:
    whole = latents(allowing, sampling(("yes", 0)))
    # Three prompts at once are computed as two are, up to rounding.
    torch.testing.assert_close(latents(allowing, graph()), whole, atol=1e-4, rtol=1e-4)
    assert torch.equal(latents(allowing, graph(certainty=1.0, prefix="region.safetensors")), whole)


def test_the_setting_is_refuse_or_allow(tmp_path: Path) -> None:
    save_prefix(demo_prefix(), tmp_path / "region.safetensors")
    file = tmp_path / "enforce.ini"
    assert not read_enforcement(ENFORCE, file, [tmp_path]).face_region
    for said, allowed in (("allow", True), (" Refuse", False), ("", False)):
        found = read_enforcement({**ENFORCE, "ANONYMIZE_FACES_FACE_REGION": said}, file, [tmp_path])
        assert found.fault is None and found.face_region is allowed and found.embeddings == NO_EMBEDDINGS
    wrong = read_enforcement({**ENFORCE, "ANONYMIZE_FACES_FACE_REGION": "yes"}, file, [tmp_path])
    assert wrong.prefix is None and "'face_region' is 'yes', neither refuse nor allow" in wrong.fault
    assert "go with" in read_enforcement({"ANONYMIZE_FACES_FACE_REGION": "allow"}, file, [tmp_path]).fault
    file.write_text("[enforcement]\nprefix = region.safetensors\nface_region = allow\n")
    assert read_enforcement({}, file, [tmp_path]).face_region
