"""Learning experts that was broken off goes on where it was, and one that is done is given again at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.experts.learning import ExpertsCallbacks, learned_by
from anonymize_faces.experts.settings import BLOCKS, WIDTHS, ExpertsSettings
from anonymize_faces.experts.value import Experts
from anonymize_faces.prefix.errors import ExpertsError
from anonymize_faces.runs.run_folder import kept_once_done
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.tiny_checkpoints import TinyCheckpoint, tiny_checkpoint

PROMPTS = ("a red circle", "a blue boat", "a portrait of a person with red hair", "a person with glasses")
QUICK = {"experts": 2, "keep": 0.7, "pictures": 4, "steps": 1, "tuning_steps": 3, "batch_size": 4, "rank": 2}
Learn = Callable[..., Experts]


@pytest.fixture
def checkpoint(host_modules: None) -> TinyCheckpoint:
    return tiny_checkpoint()


@pytest.fixture
def sampled() -> list[int]:
    """How many pictures were drawn, each time that some were."""
    return []


@pytest.fixture
def learn(checkpoint: TinyCheckpoint, sampled: list[int]) -> Learn:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Drawing
    from anonymize_faces.engines.comfy.expert_parts import prunable
    from anonymize_faces.engines.comfy.tuning import lora_of

    class Counted(ComfyDenoiser):
        def sample(self, prompts: Any, *how: Any, **more: Any) -> torch.Tensor:
            sampled.append(len(prompts))
            return super().sample(prompts, *how, **more)

    def run(runs: Path | None, callbacks: ExpertsCallbacks | None = None, **settings: Any) -> Experts:
        denoiser = Counted(checkpoint.model, checkpoint.clip, checkpoint.vae, (64, 64), Drawing(3, 2.0))
        chosen = ExpertsSettings(**(QUICK | settings))
        return learned_by(prunable(denoiser, checkpoint.model), PROMPTS, chosen, lora_of, callbacks, runs)

    return run


def same(one: Experts, other: Experts) -> bool:
    return (
        one.record == other.record
        and one.kept.equal(other.kept)
        and all(mask.equal(other.units[name]) for name, mask in one.units.items())
        and all(
            mine.keys() == theirs.keys() and all(weight.equal(theirs[name]) for name, weight in mine.items())
            for mine, theirs in zip(one.deltas, other.deltas, strict=True)
        )
    )


def breaking_off(at: int, seen: list[int]) -> ExpertsCallbacks:
    def report(done: int, of: int) -> None:
        seen.append(done)
        if done == at:
            raise BrokenOffError

    return ExpertsCallbacks(report)


@pytest.mark.parametrize("leave_out", [BLOCKS, WIDTHS])
def test_whoever_goes_on_draws_chooses_and_learns_nothing_again(
    leave_out: str, learn: Learn, sampled: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = 0 if leave_out == WIDTHS else QUICK["steps"]
    of = QUICK["pictures"] + 2 * (gates + QUICK["tuning_steps"])
    whole = learn(None, leave_out=leave_out)
    with pytest.raises(BrokenOffError):
        learn(tmp_path, breaking_off(of - 1, []), leave_out=leave_out)
    sampled.clear()
    monkeypatch.setattr("anonymize_faces.experts.learning.ExpertLearning.chosen", None)
    seen: list[int] = []
    assert same(learn(tmp_path, breaking_off(-1, seen), leave_out=leave_out), whole)
    first = QUICK["pictures"] + gates + QUICK["tuning_steps"]
    assert not sampled and seen[-1] == of and not any(first < done < first + gates for done in seen)
    assert seen == sorted(seen) and not list(tmp_path.iterdir())


def test_broken_off_while_it_draws_it_draws_the_rest(learn: Learn, sampled: list[int], tmp_path: Path) -> None:
    settings = {"pictures": 12, "experts": 1}
    with pytest.raises(BrokenOffError):
        learn(tmp_path, breaking_off(8, []), **settings)
    sampled.clear()
    made = learn(tmp_path, **settings)
    assert sampled == [4] and same(made, learn(None, **settings))


def test_another_run_and_refused_ones_push_none_out(learn: Learn, sampled: list[int], tmp_path: Path) -> None:
    with pytest.raises(BrokenOffError):
        learn(tmp_path, breaking_off(QUICK["pictures"] + 6, []))
    with kept_once_done():
        learn(tmp_path, seed=1, experts=1)
    for number in range(3):
        with pytest.raises(ExpertsError):
            learn(tmp_path, experts=len(PROMPTS) + 1, seed=number)
    sampled.clear()
    seen: list[int] = []
    learn(tmp_path, breaking_off(-1, seen))
    assert not sampled and len(seen) < 8


def test_what_a_host_may_yet_lose_is_made_at_once(learn: Learn, sampled: list[int], tmp_path: Path) -> None:
    with kept_once_done():
        made = learn(tmp_path, experts=1)
        sampled.clear()
        seen: list[int] = []
        assert same(learn(tmp_path, breaking_off(-1, seen), experts=1), made)
    assert not sampled and len(seen) <= 3


def test_what_is_not_whole_is_made_anew(learn: Learn, tmp_path: Path) -> None:
    with kept_once_done():
        made = learn(tmp_path, experts=1)
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
        for data in (b"", b"nothing", None):
            for path in folder.glob("*.safetensors"):
                path.write_bytes(path.read_bytes()[:-20] if data is None else data)
            assert same(learn(tmp_path, experts=1), made)
