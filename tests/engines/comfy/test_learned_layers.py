"""The layers that a prefix is learned at: the ones that people read, teacher and student alike, and in its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from anonymize_faces.engines.comfy.learned_layers import OPTIONS
from anonymize_faces.engines.diffusers.denoiser import DiffusersDenoiser
from anonymize_faces.engines.micro_batches import MicroBatches
from anonymize_faces.engines.options import Drawing
from anonymize_faces.tests.support.pipelines import tiny_pipeline
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.pictures import Pair, Pictures
from anonymize_faces.trainer.data.targets import TargetPool
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.training import learn_prefix
from anonymize_faces.trainer.validation import Validation

Make = Callable[..., Any]
BOTH = (-2, -1)
PAIRS = (Pair("Ada Lovelace", "a woman", True), Pair("a dog", "a dog", False), Pair("", "", False))
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller: a man")


def options_of(clip: Any) -> list[Any]:
    """What is set on the host's CLIP and on its encoders."""
    parts = [part for part in clip.cond_stage_model.children() if hasattr(part, "layer")]
    return [clip.layer_idx, *(getattr(part, name) for part in parts for name in OPTIONS)]


@pytest.mark.parametrize(
    ("family", "own", "layers", "recorded"),
    [
        ("sd1", None, (None, -2), {"l": BOTH}),
        ("sd1", -1, (-1, -2), {"l": BOTH}),
        ("sd1", -2, (-2, None), {"l": BOTH}),
        ("sd1", -3, (-3, None, -2), {"l": (-3, -2, -1)}),
        ("sd1", -24, (-24, -2), {"l": BOTH}),  # More layers than there are: the host reads the last one.
        ("sdxl", None, (None,), {}),
        ("sdxl", -2, (-2,), {}),
        ("sdxl", -1, (-1, None), {"l": BOTH, "g": BOTH}),
    ],
)
def test_it_is_learned_at_the_layers_that_people_read_and_at_the_artists_own(
    family: str,
    own: int | None,
    layers: tuple[int | None, ...],
    recorded: dict[str, Any],
    make_checkpoint: Make,
    make_denoiser: Make,
) -> None:
    checkpoint = make_checkpoint(family=family)
    checkpoint.clip.clip_layer(own)
    denoiser = make_denoiser(checkpoint)
    assert (denoiser.layers, denoiser.record_layers(denoiser.layers)) == (layers, recorded)


def test_prompts_are_read_as_the_host_reads_them_and_its_clip_stays_as_it_was(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    checkpoint = make_checkpoint()
    clip = checkpoint.clip
    other = clip.clone()
    other.clip_layer(-2)
    expected = [which.encode_from_tokens(which.tokenize("Ada Lovelace")) for which in (clip, other, clip)]
    clip.cond_stage_model.set_clip_options({"layer": -3, "projected_pooled": False})
    before = options_of(clip)
    denoiser = make_denoiser(checkpoint)
    with denoiser.gradients(1), torch.no_grad():
        read = denoiser.encode(["Ada Lovelace"] * 3, layers=[None, -2, None])
    assert options_of(clip) == before
    for (states, _), wanted in zip(read, expected, strict=True):
        torch.testing.assert_close(states, wanted)
    assert not torch.allclose(expected[0], expected[1], atol=0.01)


@pytest.mark.parametrize("noisings", [1, 4])
def test_each_picture_is_seen_at_every_layer_in_turn_by_teacher_and_student(
    noisings: int, make_checkpoint: Make, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(make_checkpoint())
    pictures = Pictures(torch.randn(4, *denoiser.latent_shape), (PAIRS[0], *PAIRS))
    slots = range(4 * noisings)
    with denoiser.gradients(2), torch.no_grad():
        batch = TargetPool(denoiser, pictures, noisings, seed=0).batch(slots)
        told = [pair.teacher for pair in pictures.pairs for _ in range(noisings)]
        expected = denoiser.predict(batch.noised, batch.t, denoiser.encode(told, layers=batch.layers))
    assert Counter(batch.layers) == {None: 2 * noisings, -2: 2 * noisings}
    torch.testing.assert_close(batch.predictions, expected)
    assert batch.part([1]).layers == (batch.layers[1],)


def test_the_validation_asks_at_every_layer(make_checkpoint: Make, make_denoiser: Make) -> None:
    denoiser = make_denoiser(make_checkpoint())
    encode, asked = denoiser.encode, Counter()

    def watched(prompts: Any, vectors: Any = None, layers: Any = None, embedding: Any = None) -> Any:
        asked.update(
            (prompt, layer, vectors is None)
            for prompt, layer in zip(prompts, layers or denoiser.layers[:1] * len(prompts), strict=True)
        )
        return encode(prompts, vectors, layers, embedding)

    denoiser.encode = watched
    validation = Validation(
        denoiser, Pictures(torch.randn(3, *denoiser.latent_shape), PAIRS), [0, 1, 2], 0, MicroBatches(denoiser, 8)
    )
    with denoiser.gradients(8):
        validation.score({"l": torch.randn(2, 32)}, 1)
    for layer in denoiser.layers:
        assert all((prompt, layer, plain) in asked for prompt in ("Ada Lovelace", "a dog") for plain in (True, False))


def test_a_prefix_tells_the_layers_that_each_part_of_its_run_read(make_checkpoint: Make, make_denoiser: Make) -> None:
    checkpoint = make_checkpoint()
    denoiser = make_denoiser(checkpoint)
    encode, learned_at = denoiser.encode, Counter()

    def watched(prompts: Any, vectors: Any = None, layers: Any = None, embedding: Any = None) -> Any:
        if vectors is not None and torch.is_grad_enabled():
            learned_at.update(layers)
        return encode(prompts, vectors, layers, embedding)

    denoiser.encode = watched
    before = options_of(checkpoint.clip)
    for text_steps, steps in ((4, 1), (0, 4)):
        learned_at.clear()
        sizes = {"vectors": 3, "batch_size": 4, "portraits_per_identity": 2, "noisings_per_picture": 2}
        settings = TrainingSettings(steps=steps, text_steps=text_steps, **sizes)
        prefix = learn_prefix(denoiser, PEOPLE, ("", "a red circle"), settings).prefix
        assert prefix.record.layers == {"l": BOTH}
        assert min(learned_at[layer] for layer in denoiser.layers) > 0.3 * learned_at.total()
    assert options_of(checkpoint.clip) == before


@pytest.mark.parametrize(
    ("family", "layers", "recorded"), [("sd1", (None, -2), {"l": BOTH}), ("sd2", (None,), {}), ("sdxl", (None,), {})]
)
def test_a_pipeline_is_learned_at_the_same_layers(family: str, layers: Any, recorded: Any) -> None:
    denoiser = DiffusersDenoiser(tiny_pipeline(family), (64, 64), Drawing(steps=1, cfg=1.0))
    assert (denoiser.layers, denoiser.record_layers(denoiser.layers)) == (layers, recorded)
