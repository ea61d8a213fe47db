"""Files of experts hold what was saved; whatever else is in a file is a sentence."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from anonymize_faces.engines.pruning.parts import COMFYUI, DIFFUSERS
from anonymize_faces.experts.files import expert_bytes, load_experts, save_experts
from anonymize_faces.experts.router import Router
from anonymize_faces.experts.value import Experts, ExpertsRecord
from anonymize_faces.prefix import PrefixFileExistsError
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.tests.support.mutations import damage


def some_experts() -> Experts:
    random = torch.Generator().manual_seed(0)
    record = ExpertsRecord(
        "SD15", "0123456789abcdef", ("one", "two", "three"), (0.1, 0.2, 0.3), {"experts": 2}, "2026-01-01", (3, 4),
        ((0.2, 0.1), (0.3, 0.1)), 0.25,
    )  # fmt: skip
    router = Router(
        *(torch.randn(shape, generator=random) for shape in ((6,), (6, 4))),
        torch.nn.functional.normalize(torch.randn(2, 4, generator=random), dim=1),
    )
    kept = torch.tensor([[True, False, True], [False, True, False]])
    delta = {"diffusion_model.x.lora_up.weight": torch.ones(2, 3).half()}
    return Experts(record, router, kept, (delta, {}))


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    experts = some_experts()
    path = save_experts(experts, tmp_path / "sub" / "one.safetensors")
    read = load_experts(path)
    assert read.record == experts.record and torch.equal(read.kept, experts.kept)
    assert torch.equal(read.router.centroids, experts.router.centroids)
    assert read.deltas[0].keys() == experts.deltas[0].keys() and read.deltas[1] == {}
    assert expert_bytes(read, 0) == 12 and read.removed(1) == ("one", "three")
    assert read.share(0) == pytest.approx(0.25 + 0.75 * 0.8), "all blocks compute in a quarter of the steps"
    with pytest.raises(PrefixFileExistsError):
        save_experts(experts, path)


def narrower(**changed: Any) -> Experts:
    experts = some_experts()
    units = {"one.attn1": torch.tensor([[True, True], [True, False]]), "two.ff": torch.ones(2, 8, dtype=torch.bool)}
    record = replace(experts.record, units={"one.attn1": 0.1, "two.ff": 0.2})
    return replace(experts, kept=torch.ones_like(experts.kept), record=record, units=units | changed)


def test_units_of_narrower_layers_are_read_back(tmp_path: Path) -> None:
    experts = narrower()
    read = load_experts(save_experts(experts, tmp_path / "one.safetensors"))
    assert read.record == experts.record and read.units.keys() == experts.units.keys()
    assert all(torch.equal(mask, experts.units[name]) for name, mask in read.units.items())
    assert read.share(0) == 1 and read.share(1) == pytest.approx(0.25 + 0.75 * 0.95)
    left_out = read.left_out(1)
    assert left_out.blocks == () and left_out.kept["one.attn1"].tolist() == [True, False]


def test_experts_of_files_of_before_narrow_no_layer() -> None:
    record = json.loads(some_experts().record.to_json()) | {"format_version": 2}
    del record["units"]
    assert ExpertsRecord.from_json(json.dumps(record)).units == {}


@pytest.mark.parametrize("share", [-0.1, 1.1, "nan", None])
def test_shares_of_units_that_make_no_sense_are_refused(share: Any) -> None:
    record = json.loads(some_experts().record.to_json()) | {"units": {"one": share}}
    with pytest.raises(ExpertsError, match="makes no sense"):
        ExpertsRecord.from_json(json.dumps(record))


def test_experts_of_files_of_before_leave_blocks_out_at_all_levels_of_noise(tmp_path: Path) -> None:
    record = json.loads(some_experts().record.to_json()) | {"format_version": 1}
    del record["whole_until"], record["units"]
    read = ExpertsRecord.from_json(json.dumps(record))
    assert read.whole_until == 0 and replace(some_experts(), record=read).share(0) == pytest.approx(0.8)
    again = load_experts(save_experts(replace(some_experts(), record=read), tmp_path / "again.safetensors"))
    assert again.record == read


@pytest.mark.parametrize("value", [-0.1, 1.0, "nan", None])
def test_a_time_that_makes_no_sense_is_refused(value: Any) -> None:
    record = json.loads(some_experts().record.to_json()) | {"whole_until": value}
    with pytest.raises(ExpertsError, match="makes no sense"):
        ExpertsRecord.from_json(json.dumps(record))


def test_of_several_prompts_the_largest_expert_is_chosen() -> None:
    experts = some_experts()
    towards = torch.linalg.pinv(experts.router.directions.T) @ experts.router.centroids.T
    embeddings = experts.router.mean + towards.T
    assert experts.router.route(embeddings).tolist() == [0, 1]
    assert experts.chosen(embeddings[1:]) == 1 and experts.chosen(embeddings) == 0
    small = replace(experts, kept=~experts.kept)
    assert small.chosen(embeddings) == 1


def test_another_model_is_refused() -> None:
    some_experts().require_model("0123456789abcdef", COMFYUI)
    with pytest.raises(ExpertsError, match="learned on another model"):
        some_experts().require_model("fedcba9876543210", COMFYUI)


def test_experts_of_another_engine_are_refused_as_such() -> None:
    experts = some_experts()
    with pytest.raises(ExpertsError, match=r"learned with ComfyUI, .* draw in ComfyUI, or learn experts here"):
        experts.require_model("0123456789abcdef", DIFFUSERS)
    parts = ("down_blocks.0.attentions.0", "mid_block.resnets.0", "up_blocks.0.attentions.0")
    others = replace(experts, record=replace(experts.record, parts=parts))
    others.require_model("0123456789abcdef", DIFFUSERS)
    with pytest.raises(ExpertsError, match=r"learned with diffusers, .* draw with a pipeline of diffusers"):
        others.require_model("0123456789abcdef", COMFYUI)


def test_what_is_no_file_of_experts_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ExpertsError, match="There is no file of experts 'x"):
        load_experts(path)
    good = save_experts(some_experts(), tmp_path / "good.safetensors").read_bytes()
    contents = {
        "of another kind": safetensors.torch.save({"a": torch.zeros(1)}),
        "a pickle": pickle.dumps({"a": 1}),
        "cut": good[:-3],
        "empty": b"",
        "of another version": good.replace(b'\\"format_version\\": 3', b'\\"format_version\\": 4'),
        "changed": good.replace(b"2026-01-01", b"2026-01-02"),
        "with other weights": good[:-1] + bytes([good[-1] ^ 1]),
    }
    for words, content in contents.items():
        assert content != good, words
        path.write_bytes(content)
        with pytest.raises(ExpertsError, match="cannot be used as experts"):
            load_experts(path)


def test_damage_never_ends_in_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    good = save_experts(some_experts(), tmp_path / "good.safetensors").read_bytes()
    chance = random.Random(1)
    for _ in range(300):
        path.write_bytes(damage(chance, good))
        try:
            load_experts(path)
        except ExpertsError:
            continue


def test_masks_and_weights_that_do_not_belong_together_are_refused() -> None:
    experts = some_experts()
    for broken in (
        {"kept": experts.kept[:1]},
        {"deltas": experts.deltas[:1]},
        {"router": replace(experts.router, mean=torch.zeros(5))},
        {"router": replace(experts.router, mean=torch.full((6,), torch.nan))},
        {"record": replace(experts.record, shares=(0.1,))},
    ):
        with pytest.raises(ExpertsError, match="do not belong together"):
            replace(experts, **broken)
    for mask in (torch.ones(2, 2), torch.ones(1, 2) > 0, torch.tensor([[True], [False]]), torch.ones(2, 0) > 0):
        with pytest.raises(ExpertsError, match="do not belong together"):
            narrower(**{"one.attn1": mask})
    with pytest.raises(ExpertsError, match="do not belong together"):
        narrower(other=torch.ones(2, 2) > 0)
    with pytest.raises(ExpertsError, match="makes no sense"):
        ExpertsRecord.from_json(json.dumps({"format_version": 1}))
