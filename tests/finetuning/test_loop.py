"""Fine-tuning on models of both engines: it learns, goes on where it was broken off, and leaves the model alone."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.engines.denoiser import FULL, LORA
from anonymize_faces.engines.diffusers.denoiser import DiffusersDenoiser
from anonymize_faces.engines.options import Computing, Drawing
from anonymize_faces.finetuning.loop import Finetuned, finetuned
from anonymize_faces.finetuning.progress import FinetuningCallbacks, FinetuningPlan, words_of_losses
from anonymize_faces.finetuning.settings import (
    EMBEDDING,
    KINDS,
    NEW_WORDS_STEPS,
    STEPS,
    FinetuningSettings,
)
from anonymize_faces.finetuning.training_set import TrainingSet, training_set_of
from anonymize_faces.prefix import TrainingError
from anonymize_faces.runs.run_folder import kept_once_done
from anonymize_faces.runs.seeds import cpu_seeded
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.pipelines import tiny_pipeline

Make = Callable[..., Any]
CAPTIONS = ("a photo of sks person", "sks person in a garden")
QUICK = {"steps": 6, "batch_size": 2, "learning_rate": 1e-3, "rank": 4}


def training_set(denoiser: Any, seed: int = 0) -> TrainingSet:
    latents = torch.randn(2, *denoiser.latent_shape, generator=torch.Generator().manual_seed(seed))
    return TrainingSet(latents, CAPTIONS)


def digest(*modules: torch.nn.Module) -> str:
    """SHA-256 of every weight of modules."""
    said = hashlib.sha256()
    for module in modules:
        for name, weight in module.state_dict().items():
            said.update(f"{name}\0{weight.dtype}\0".encode() + weight.detach().numpy().tobytes())
    return said.hexdigest()


def flags_of(parts: Sequence[torch.nn.Module]) -> list[tuple[bool, bool]]:
    return [(weight.requires_grad, weight.grad is None) for part in parts for weight in part.parameters()]


def weights_of(tuned: Finetuned) -> dict[str, torch.Tensor]:
    found = tuned.vectors or dict(enumerate(tuned.denoiser._weights))
    return {str(name): weight.detach().clone() for name, weight in found.items()}


def tune(denoiser: Any, runs: Path | None = None, callbacks: FinetuningCallbacks | None = None, **settings: Any) -> Any:
    """The learned weights, a picture drawn with them, and the losses."""
    chosen = FinetuningSettings(**(QUICK | settings))
    with (
        torch.inference_mode(),
        finetuned(denoiser, training_set(denoiser), chosen, callbacks or FinetuningCallbacks(), runs) as tuned,
    ):
        drawn = tuned.denoiser.sample([CAPTIONS[0]], [3], tuned.vectors)
        return weights_of(tuned), drawn, tuned


@pytest.mark.parametrize(
    ("parameterization", "kind", "text_encoder"),
    [
        ("EPS", FULL, True),
        ("V_PREDICTION", FULL, False),
        ("FLOW", LORA, True),
        ("EPS", LORA, False),
        ("EPS", EMBEDDING, False),
    ],
)
def test_the_hosts_model_is_the_same_to_the_last_bit_whatever_was_learned(
    parameterization: str, kind: str, text_encoder: bool, make_checkpoint: Make, make_denoiser: Make
) -> None:
    with torch.inference_mode():
        checkpoint = make_checkpoint(parameterization)
    parts = (checkpoint.model.model, checkpoint.clip.cond_stage_model)
    denoiser = make_denoiser(checkpoint)
    with torch.inference_mode():
        plain = denoiser.sample([CAPTIONS[0]], [3])
    before, flags = digest(*parts), flags_of(parts)
    weights, drawn, _ = tune(denoiser, kind=kind, text_encoder=text_encoder)
    assert digest(*parts) == before and flags_of(parts) == flags
    assert not any(getattr(module, "weight_function", None) for part in parts for module in part.modules())
    assert not torch.equal(drawn, plain) and torch.isfinite(drawn).all() and weights
    with torch.inference_mode():
        assert torch.equal(denoiser.sample([CAPTIONS[0]], [3]), plain)


@pytest.mark.parametrize("kind", [FULL, LORA])
def test_the_loss_on_what_is_learned_falls(kind: str, make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint("V_PREDICTION"))
    rate = {FULL: 0.003, LORA: 0.02}[kind]
    *_, tuned = tune(denoiser, kind=kind, steps=30, learning_rate=rate)
    assert sum(tuned.history[-8:]) < 0.97 * sum(tuned.history[:8])


def test_steps_that_were_skipped_are_told_and_count_in_no_mean_loss() -> None:
    nan = float("nan")
    assert words_of_losses([2.0] * 10 + [1.0] * 10) == "Loss: 2.0000 at first, 1.0000 at last."
    told = words_of_losses([nan, nan, *[2.0] * 10, nan, *[1.0] * 10, float("inf")])
    assert told.startswith("Loss: 2.0000 at first, 1.0000 at last. 4 of 24 steps were skipped")
    assert "nothing was learned" in words_of_losses([nan, nan])


def test_lora_starts_from_the_same_values_on_every_device(host_modules: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the host makes them on the CPU: generators of other devices follow no seed of ours, and are left alone."""
    from anonymize_faces.engines.comfy import tuning

    adapter = tuning.comfy.weight_adapter.lora.LoRAAdapter
    made_on, of_the_host = [], adapter.create_train

    def noting(weight: torch.Tensor, **options: Any) -> Any:
        made_on.append(weight.device.type)
        return of_the_host(weight, **options)

    with cpu_seeded(1):
        whole = of_the_host(torch.zeros(8, 6), rank=2, alpha=2.0)
    monkeypatch.setattr(adapter, "create_train", noting)
    with cpu_seeded(1):
        found = tuning._low_rank(torch.zeros(8, 6), 2)
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), found.parameters(), strict=True))
    elsewhere = tuning._low_rank(torch.zeros(8, 6, device="meta"), 2)
    assert made_on == ["cpu", "cpu"] and {one.device.type for one in elsewhere.parameters()} == {"meta"}


def gradients_of(denoiser: Any, kind: str, text_encoder: bool, new_words: str = "") -> dict[str, torch.Tensor | None]:
    """The gradient of each weight that is learned, of one picture's loss."""
    tuned = denoiser.tuned(kind, 4, text_encoder, 0, new_words)
    noised = torch.randn(1, *denoiser.latent_shape, generator=torch.Generator().manual_seed(5))
    with tuned.denoiser.gradients(1):
        predicted = tuned.denoiser.predict(noised, torch.tensor([0.5]), tuned.denoiser.encode([CAPTIONS[0]]))
        found = torch.autograd.grad(predicted.square().mean(), list(tuned.weights.values()), allow_unused=True)
    tuned.close()
    return dict(zip(tuned.weights, found, strict=True))


def test_a_text_encoder_learns_where_it_is_asked_to(make_checkpoint: Make, make_denoiser: Make) -> None:
    found = gradients_of(make_denoiser(make_checkpoint()), LORA, True, "sks")
    assert {name.partition(".")[0] for name in found} == {"model", "clip", "words"}
    learned = {name.partition(".")[0] for name, gradient in found.items() if gradient is not None}
    assert learned == {"model", "clip", "words"}


@pytest.mark.parametrize("text_encoder", [False, True], ids=["model", "text encoder too"])
def test_blocks_that_are_computed_twice_give_the_same_gradients(
    text_encoder: bool, make_checkpoint: Make, make_denoiser: Make
) -> None:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    checkpoint, found = make_checkpoint(), []
    for how in ("off", "on"):
        denoiser = ComfyDenoiser(
            checkpoint.model, checkpoint.clip, checkpoint.vae, (64, 64), Drawing(3, 2.0), Computing(checkpointing=how)
        )
        denoiser._encodes_twice = how == "on"  # As for encoders that weigh much.
        found.append(gradients_of(denoiser, FULL, text_encoder, "sks, garden" if text_encoder else ""))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert (gradient is None) == (found[1][name] is None), name
        if gradient is not None:
            torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_broken_off_goes_on_where_it_was(
    kind: str, make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    denoiser = make_denoiser(make_checkpoint())
    whole, *_ = tune(denoiser, kind=kind)

    def break_off(done: int, of: int, loss: float) -> None:
        if done == 4:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        tune(denoiser, tmp_path, FinetuningCallbacks(report=break_off), kind=kind)
    made: list[int] = []
    resumed, _, tuned = tune(
        denoiser, tmp_path, FinetuningCallbacks(report=lambda done, of, loss: made.append(done)), kind=kind
    )
    assert made == [5, 6] and "went on from step 4" in tuned.notes[0]
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    assert not list(tmp_path.iterdir()), "it is done"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_kept_until_what_was_wanted_of_it_is_done(
    kind: str, make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    """Pictures are drawn with it: whoever is broken off then need not learn anew."""
    denoiser = make_denoiser(make_checkpoint())
    settings = FinetuningSettings(**QUICK, kind=kind)
    learned: dict[str, torch.Tensor] = {}

    def break_off_inside() -> None:
        with torch.inference_mode(), finetuned(denoiser, training_set(denoiser), settings, runs=tmp_path) as tuned:
            learned.update(weights_of(tuned))
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        break_off_inside()
    made: list[int] = []
    callbacks = FinetuningCallbacks(report=lambda done, of, loss: made.append(done))
    again, *_ = tune(denoiser, tmp_path, callbacks, kind=kind)
    assert not made and all(torch.equal(again[name], weight) for name, weight in learned.items())
    assert not list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    other: list[int] = []
    tune(denoiser, tmp_path, FinetuningCallbacks(report=lambda done, of, loss: other.append(done)), kind=kind, seed=1)
    assert other == [1, 2, 3, 4, 5, 6]


def test_what_a_host_may_yet_lose_is_given_again_at_once(
    make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    denoiser = make_denoiser(make_checkpoint())
    settings = FinetuningSettings(**QUICK, kind=LORA)
    asked: list[int] = []
    callbacks = FinetuningCallbacks(report=lambda done, of, loss: asked.append(done))
    found = []
    for is_result in (True, True, False):
        with torch.inference_mode(), kept_once_done():
            learned = training_set(denoiser)
            with finetuned(denoiser, learned, settings, callbacks, tmp_path, is_result=is_result) as tuned:
                found.append((weights_of(tuned), tuned.notes))
        assert bool(list(tmp_path.iterdir())) == is_result
    assert asked == [1, 2, 3, 4, 5, 6] and found[0][1] == ()
    assert found[1][1] == ("It had been learned before, and was not learned again.",)
    assert all(weight.equal(found[1][0][name]) for name, weight in found[0][0].items())


@pytest.mark.parametrize(("parameterization", "new_words"), [("EPS", ""), ("FLOW", ""), ("EPS", "sks, garden")])
def test_a_lora_draws_the_same_when_the_host_loads_it(
    parameterization: str, new_words: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    import comfy.sd

    from anonymize_faces.engines.comfy.tuning import lora_of

    with torch.inference_mode():
        checkpoint = make_checkpoint(parameterization)
    denoiser = make_denoiser(checkpoint)
    _, drawn, tuned = tune(denoiser, kind=LORA, text_encoder=True, learning_rate=0.02, new_words=new_words)
    lora = lora_of(tuned.weights, checkpoint.clip)
    changed = [value for name, value in lora.items() if "embedding" in name and "down" in name]
    assert all(value.abs().amax(1).min() > 0.01 for value in changed) and bool(changed) == bool(new_words)
    assert {name.partition(".")[0] for name in lora} == {"diffusion_model", "text_encoders"}
    model, clip = comfy.sd.load_lora_for_models(checkpoint.model, checkpoint.clip, lora, 1.0, 1.0)
    patched = {name for patcher in (model, clip.patcher) for name in patcher.patches}
    assert len(patched) == len(lora) / 2, "the host knows every layer"
    with torch.inference_mode():
        loaded = type(denoiser)(model, clip, checkpoint.vae, (64, 64), denoiser._drawing).sample([CAPTIONS[0]], [3])
        plain = denoiser.sample([CAPTIONS[0]], [3])
    torch.testing.assert_close(loaded, drawn, rtol=1e-3, atol=1e-3)
    assert (drawn - plain).abs().max() > 0.01


def test_what_is_no_lora_has_no_lora_file(make_checkpoint: Make, make_denoiser: Make) -> None:
    from anonymize_faces.engines.comfy.tuning import lora_of

    *_, tuned = tune(make_denoiser(make_checkpoint()), kind=FULL, steps=1)
    with pytest.raises(TrainingError, match="is no part of a LoRA"):
        lora_of(tuned.weights)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": LORA, "new_words": "sks"}, "switch text_encoder on"),
        ({"kind": EMBEDDING, "text_encoder": True, "new_words": "sks"}, "together with the text encoder"),
        ({"kind": LORA, "text_encoder": True, "new_words": " , "}, "no word in new_words"),
    ],
)
def test_new_words_that_cannot_be_learned_are_an_error(
    settings: dict[str, Any], words: str, make_checkpoint: Make, make_denoiser: Make
) -> None:
    with pytest.raises(TrainingError, match=words):
        tune(make_denoiser(make_checkpoint()), **settings)


def test_new_words_take_as_many_steps_on_a_small_model_as_on_any(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    settings = FinetuningSettings(kind=LORA, text_encoder=True)
    assert settings.resolved(denoiser).steps == STEPS[LORA][0]
    with_new_words = dataclasses.replace(settings, new_words="sks").resolved(denoiser)
    assert with_new_words.steps == NEW_WORDS_STEPS
    wandered = {one.learning_rate * one.steps**0.5 for one in (settings.resolved(denoiser), with_new_words)}
    assert max(wandered) == pytest.approx(min(wandered)), "more steps take weights no further"
    assert dataclasses.replace(settings, new_words="sks", steps=7).resolved(denoiser).steps == 7


def test_errors_are_those_of_pictures_where_words_are_new_and_there_alone(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.finetuning.loop.picture_weights", lambda denoiser, t: torch.zeros(len(t)))
    settings = {"kind": LORA, "text_encoder": True, "steps": 2}
    assert set(tune(make_denoiser(make_checkpoint()), **settings, new_words="sks")[2].history) == {0.0}
    assert min(tune(make_denoiser(make_checkpoint()), **settings)[2].history) > 0


def test_it_ends_when_it_is_asked_to_with_what_it_has_learned(make_checkpoint: Make, make_denoiser: Make) -> None:
    *_, tuned = tune(make_denoiser(make_checkpoint()), callbacks=FinetuningCallbacks(stop=lambda: True))
    assert len(tuned.history) == 1 and tuned.stopped == "You stopped it at step 1."


def test_a_plan_comes_before_the_first_step(make_checkpoint: Make, make_denoiser: Make) -> None:
    told: list[FinetuningPlan] = []
    tune(make_denoiser(make_checkpoint()), callbacks=FinetuningCallbacks(plan=told.append))
    (plan,) = told
    assert plan.steps == 6 and plan.parameters > 10_000 and plan.kept_bytes > 0
    assert "6 steps on " in plan.words and "of memory beside the model" in plan.words


def test_a_batch_that_memory_lacks_for_is_taken_in_parts(
    make_checkpoint: Make, make_denoiser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint()
    whole = tune(make_denoiser(checkpoint), batch_size=4, steps=2)[2].history
    denoiser = make_denoiser(checkpoint)
    real = type(denoiser).predict

    def predict(self: Any, noised: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(noised) > 2:
            raise MemoryError
        return real(self, noised, *rest)

    monkeypatch.setattr(type(denoiser), "predict", predict)
    parts = tune(denoiser, batch_size=4, steps=2)[2].history
    assert parts == pytest.approx(whole, rel=1e-4)


def test_losses_that_are_never_finite_end_it_with_a_sentence(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    bad = TrainingSet(torch.full((2, *denoiser.latent_shape), float("inf")), CAPTIONS)
    with (
        pytest.raises(TrainingError, match="not a finite number"),
        finetuned(denoiser, bad, FinetuningSettings(steps=20)),
    ):
        pass


def test_as_many_captions_as_pictures_are_asked_for() -> None:
    with pytest.raises(TrainingError, match="2 pictures and 1 captions"):
        TrainingSet(torch.zeros(2, 4, 8, 8), ("a photo",))


@pytest.fixture
def pipeline() -> Any:
    return tiny_pipeline("sd1")


@pytest.mark.parametrize(("kind", "text_encoder"), [(FULL, True), (EMBEDDING, False)])
def test_a_pipeline_is_the_same_to_the_last_bit(kind: str, text_encoder: bool, pipeline: Any) -> None:
    denoiser = DiffusersDenoiser(pipeline, (64, 64), Drawing(2, 2.0))
    plain, before = denoiser.sample([CAPTIONS[0]], [3]), digest(pipeline.unet, pipeline.text_encoder)
    _, drawn, tuned = tune(denoiser, kind=kind, text_encoder=text_encoder)
    assert digest(pipeline.unet, pipeline.text_encoder) == before and len(tuned.history) == 6
    assert not torch.equal(drawn, plain) and torch.equal(denoiser.sample([CAPTIONS[0]], [3]), plain)


def test_a_pipelines_lora_without_peft_says_what_to_install(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match="needs the package peft: install it"):
        tune(DiffusersDenoiser(pipeline, (64, 64), Drawing(2, 2.0)), kind=LORA)


def test_a_pipelines_lora_is_pefts(pipeline: Any) -> None:
    pytest.importorskip("peft", reason="LoRA on pipelines is for those who have it")
    denoiser = DiffusersDenoiser(pipeline, (64, 64), Drawing(2, 2.0))
    plain, before = denoiser.sample([CAPTIONS[0]], [3]), digest(pipeline.unet, pipeline.text_encoder)
    weights, drawn, _ = tune(denoiser, kind=LORA, text_encoder=True)
    assert digest(pipeline.unet, pipeline.text_encoder) == before and weights
    assert not torch.equal(drawn, plain) and torch.equal(denoiser.sample([CAPTIONS[0]], [3]), plain)


def test_pictures_of_any_size_become_lessons(host_modules: None) -> None:
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    denoiser = ComfyDenoiser(*load_demo_model(), (64, 64), Drawing(2, 2.0))
    pictures = [torch.rand(height, width, 3) for height, width in ((64, 64), (30, 500), (200, 70))]
    made = training_set_of(denoiser, pictures, ["a photo"] * 3)
    assert made.latents.shape == (3, *denoiser.latent_shape) and not made.latents.requires_grad
    assert len({made.digest, training_set_of(denoiser, pictures, ["a"] * 3).digest}) == 2


@pytest.mark.parametrize("count", [1, 8, 19])
def test_the_vae_is_given_a_few_pictures_at_once(count: int) -> None:
    asked: list[int] = []
    reserved: list[int] = []

    class Encoding:
        picture_size = (8, 8)

        @contextmanager
        def gradients(self, batch_size: int, pictures: bool = False) -> Iterator[None]:
            reserved.append(batch_size)
            yield

        def encode_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
            asked.append(len(pictures))
            return pictures.mean((1, 2))

    pictures = [torch.full((8, 8, 3), float(number)) for number in range(count)]
    denoiser: Any = Encoding()
    made = training_set_of(denoiser, pictures, ["a photo"] * count)
    assert made.latents[:, 0].tolist() == list(range(count)) and max(asked) <= 8 and reserved == [max(asked)]
