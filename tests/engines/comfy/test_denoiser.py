"""The engine on tiny models made of the host's own classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.prefix import TrainingError, inject
from anonymize_faces.tests.support.learning_checks import learning, require_to_learn
from anonymize_faces.tests.support.text_encoders import make_clip

Make = Callable[..., Any]
PROMPTS = ["Ada Lovelace", "a red circle, (strongly weighted:1.3)", "word " * 100]


def vectors_for(checkpoint: Any, seed: int = 0) -> dict[str, Tensor]:
    return {"l": torch.randn(4, 32, generator=torch.Generator().manual_seed(seed)).requires_grad_()}


def host_encode(checkpoint: Any, prompt: str, vectors: dict[str, Tensor] | None) -> Tensor:
    tokens = checkpoint.clip.tokenize(prompt, return_word_ids=True)
    if vectors is not None:
        tokens = inject(tokens, vectors)
    return checkpoint.clip.encode_from_tokens(tokens)


def load(checkpoint: Any) -> None:
    """What the host does before it samples."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([checkpoint.clip.patcher, checkpoint.model])


def state_of(checkpoint: Any) -> dict[str, Any]:
    """Everything about both models that training might leave altered."""
    state = {}
    for module in (checkpoint.model.model, checkpoint.clip.cond_stage_model):
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            state[name] = (tensor.clone(), tensor.requires_grad, tensor.grad, type(tensor))
        for name, child in module.named_modules():
            hooks = len(child._forward_hooks) + len(child._forward_pre_hooks) + len(child._backward_hooks)
            state[f"{name}:module"] = (child.training, hooks, sorted(vars(child)))
    return state


def fail_while_frozen(checkpoint: Any) -> None:
    """A step that fails after it has seen that weights take no gradients, but other tensors may."""
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert not any(weight.requires_grad for weight in checkpoint.model.model.parameters())
    raise KeyError


@pytest.mark.parametrize("prefixed", [False, True])
def test_prompts_encoded_together_are_what_the_host_makes_of_each(
    prefixed: bool, make_checkpoint: Make, make_denoiser: Make
) -> None:
    checkpoint = make_checkpoint()
    vectors = vectors_for(checkpoint) if prefixed else None
    denoiser = make_denoiser(checkpoint)
    with denoiser.gradients(1), torch.no_grad():
        together = denoiser.encode(PROMPTS, vectors)
        for prompt, (encoded, _) in zip(PROMPTS, together, strict=True):
            torch.testing.assert_close(encoded, host_encode(checkpoint, prompt, vectors), rtol=1e-4, atol=1e-5)


def test_predictions_are_the_networks_own_output(checkpoint: Any, make_denoiser: Make) -> None:
    denoiser = make_denoiser(checkpoint)
    seen = []
    network = checkpoint.model.model.diffusion_model
    with denoiser.gradients(3), torch.no_grad():
        hook = network.register_forward_hook(lambda module, inputs, output: seen.append(output))
        noised = denoiser.add_noise(torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0.1, 0.5, 0.9]))
        predicted = denoiser.predict(noised, torch.tensor([0.1, 0.5, 0.9]), denoiser.encode(["a", "b", "c"]))
        hook.remove()
    assert len(seen) == 1
    torch.testing.assert_close(predicted, seen[0], rtol=1e-3, atol=1e-4)


def test_a_batch_of_prompts_of_different_lengths_is_predicted_as_each_alone(
    checkpoint: Any, make_denoiser: Make
) -> None:
    denoiser = make_denoiser(checkpoint)
    noised, t = torch.randn(3, 4, 8, 8), torch.tensor([0.2, 0.5, 0.8])
    with denoiser.gradients(3), torch.no_grad():
        conditioning = denoiser.encode(PROMPTS)
        together = denoiser.predict(noised, t, conditioning)
        for index, entry in enumerate(conditioning):
            alone = denoiser.predict(noised[index : index + 1], t[index : index + 1], [entry])
            torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)


def test_time_runs_from_the_picture_to_noise(checkpoint: Any, make_denoiser: Make) -> None:
    denoiser = make_denoiser(checkpoint)
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    early, late = denoiser.add_noise(latents, noise, torch.tensor([0.001, 0.999]))
    assert torch.nn.functional.cosine_similarity(early.flatten(), latents[0].flatten(), dim=0) > 0.99
    assert torch.nn.functional.cosine_similarity(late.flatten(), noise[1].flatten(), dim=0) > 0.99


def test_the_gradient_of_the_vectors_is_the_slope_of_the_loss(checkpoint: Any, make_denoiser: Make) -> None:
    denoiser = make_denoiser(checkpoint)
    noised, t = torch.randn(2, 4, 8, 8), torch.tensor([0.4, 0.7])
    with torch.inference_mode(), denoiser.gradients(2):
        vectors = {"l": torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()}

        def loss(rows: Tensor) -> Tensor:
            predicted = denoiser.predict(noised, t, denoiser.encode(["Ada Lovelace", PROMPTS[2]], {"l": rows}))
            return predicted.double().square().mean()

        loss(vectors["l"]).backward()
        gradient = vectors["l"].grad
        direction = gradient / gradient.norm()
        with torch.no_grad():
            step = 0.02
            slope = (loss(vectors["l"] + step * direction) - loss(vectors["l"] - step * direction)) / (2 * step)
    assert gradient.norm() > 0
    assert float(slope) == pytest.approx(float(gradient.norm()), rel=0.05)


def test_the_gradient_is_that_of_autograds_own_guard_against_mutation(
    make_checkpoint: Make, make_denoiser: Make
) -> None:
    checkpoint = make_checkpoint()
    denoiser = make_denoiser(checkpoint)
    ours, guarded = vectors_for(checkpoint), vectors_for(checkpoint)
    with denoiser.gradients(1):
        denoiser.encode(PROMPTS[:1], ours)[0][0].square().sum().backward()
        with torch.autograd.graph.allow_mutation_on_saved_tensors():
            host_encode(checkpoint, PROMPTS[0], guarded).square().sum().backward()
    torch.testing.assert_close(ours["l"].grad, guarded["l"].grad)


def test_afterwards_the_models_are_as_before_even_if_a_step_fails(checkpoint: Any, make_denoiser: Make) -> None:
    load(checkpoint)
    before = state_of(checkpoint)
    denoiser = make_denoiser(checkpoint)
    with torch.inference_mode(), pytest.raises(KeyError), denoiser.gradients(1):
        fail_while_frozen(checkpoint)
    after = state_of(checkpoint)
    assert after.keys() == before.keys()
    for name, (first, *rest) in before.items():
        same = torch.equal(first, after[name][0]) if isinstance(first, Tensor) else first == after[name][0]
        assert same and list(after[name][1:]) == rest, name
    assert checkpoint.model.model.current_patcher is None


def test_a_picture_depends_on_its_own_prompt_and_seed_alone(checkpoint: Any, make_denoiser: Make) -> None:
    denoiser = make_denoiser(checkpoint)
    together = denoiser.sample(PROMPTS, [1, 2, 3])
    alone = torch.cat([denoiser.sample([prompt], [seed]) for prompt, seed in zip(PROMPTS, [1, 2, 3], strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], denoiser.sample(PROMPTS[:1], [4])[0])


def test_a_picture_with_the_prefix_is_another_one(make_checkpoint: Make, make_denoiser: Make) -> None:
    checkpoint = make_checkpoint()
    denoiser = make_denoiser(checkpoint)
    plain, prefixed = (denoiser.sample(["Ada"], [1], vectors) for vectors in (None, vectors_for(checkpoint)))
    assert not torch.allclose(plain, prefixed)


def test_words_to_start_from_are_rows_of_the_encoders_table(make_checkpoint: Make, make_denoiser: Make) -> None:
    checkpoint = make_checkpoint()
    denoiser = make_denoiser(checkpoint)
    tokens = [entry[0] for entry in checkpoint.clip.tokenize("a stranger", return_word_ids=True)["l"][0] if entry[2]]
    table = checkpoint.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
    assert torch.equal(denoiser.token_embeddings("a stranger")["l"], table[tokens])
    assert denoiser.token_embeddings("")["l"].shape[0] >= 1000


@pytest.mark.parametrize("family", ["omnigen2", "lumina 2"])
def test_through_an_llm_the_gradient_is_the_slope_too(family: str, make_checkpoint: Make) -> None:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Computing

    checkpoint = make_checkpoint()
    # The denoiser is one for another encoder, and is not asked anything.
    unasked = Computing(checkpointing="off")
    denoiser = ComfyDenoiser(checkpoint.model, make_clip(family), checkpoint.vae, (64, 64), computing=unasked)
    (key,) = denoiser.token_embeddings("")
    rows = denoiser.token_embeddings("")[key][:3]

    def loss(vectors: Tensor) -> Tensor:
        return denoiser.encode(["Ada Lovelace"], {key: vectors})[0][0].double().square().mean()

    with torch.inference_mode(), denoiser.gradients(1):
        rows = rows.clone().detach().requires_grad_()
        loss(rows).backward()
        direction, step = rows.grad / rows.grad.norm(), 0.01
        with torch.no_grad():
            slope = (loss(rows + step * direction) - loss(rows - step * direction)) / (2 * step)
    assert float(rows.grad.norm()) > 0
    assert float(slope) == pytest.approx(float(rows.grad.norm()), rel=0.05)


def test_what_a_prompt_says_before_vectors_are_made_for_it_is_read_once(make_checkpoint: Make) -> None:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Computing
    from anonymize_faces.engines.comfy.text_encoders import text_encoders
    from anonymize_faces.engines.starting.prompts import FirstPrompts
    from anonymize_faces.engines.vectors import learned, new_vectors, with_networks

    checkpoint, clip = make_checkpoint(), make_clip("lumina 2")
    denoiser = ComfyDenoiser(checkpoint.model, clip, checkpoint.vae, (64, 64), computing=Computing(checkpointing="off"))
    generator = torch.Generator().manual_seed(0)
    readings = 0

    def count(*_: Any) -> None:
        nonlocal readings
        readings += 1

    def encoded(prompt: str) -> tuple[int, Tensor, list[Tensor]]:
        before = readings
        states = denoiser.encode([prompt], vectors)[0][0]
        gradients = torch.autograd.grad(states.double().square().mean(), learned(vectors))
        return readings - before, states.detach(), list(gradients)

    with torch.inference_mode(), denoiser.gradients(1):
        vectors = with_networks(
            denoiser, new_vectors(denoiser, "", 3, generator), FirstPrompts(("Ada",), ("a road",)), generator
        )
        (encoder,) = text_encoders(clip.cond_stage_model).values()
        hook = encoder.transformer.register_forward_hook(count)
        (first, states, gradients), again, other = encoded("Ada"), encoded("Ada"), encoded("Bob")
        hook.remove()
    assert (first, again[0], other[0]) == (2, 1, 2)
    assert torch.equal(states, again[1]) and not torch.equal(states, other[1])
    assert all(map(torch.equal, gradients, again[2])) and any(bool(one.any()) for one in gradients)


def test_words_to_start_from_are_the_users_and_not_the_templates(make_checkpoint: Make, make_denoiser: Make) -> None:
    clip = make_clip("omnigen2")
    denoiser = make_denoiser(dataclasses.replace(make_checkpoint(), clip=clip))
    tokens = clip.tokenizer.qwen25_3b.tokenizer("a stranger")["input_ids"]
    table = clip.cond_stage_model.qwen25_3b.transformer.get_input_embeddings().weight
    assert torch.equal(denoiser.token_embeddings("a stranger")["qwen25_3b"], table[tokens])


@pytest.mark.parametrize("part", ["MODEL", "CLIP"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_part_that_works_without_gradients_is_named(
    part: str, mode: Any, make_checkpoint: Make, make_denoiser: Make
) -> None:
    checkpoint = make_checkpoint()
    patched = {"MODEL": checkpoint.model.model.diffusion_model, "CLIP": checkpoint.clip.cond_stage_model.clip_l}[part]
    forward = patched.forward
    patched.forward = lambda *args, **kwargs: mode()(forward)(*args, **kwargs)
    denoiser = make_denoiser(checkpoint)
    with pytest.raises(TrainingError, match=rf"No gradient comes through the {part} \(.*without gradients\. Connect"):
        require_to_learn(denoiser, learning(), {"l": 32})


@pytest.mark.parametrize("part", ["model", "clip", "vae"])
def test_a_missing_part_of_the_checkpoint_is_refused(part: str, make_checkpoint: Make, make_denoiser: Make) -> None:
    checkpoint = make_checkpoint()
    with pytest.raises(TrainingError, match="checkpoint lacks"):
        make_denoiser(dataclasses.replace(checkpoint, **{part: None}))


def test_pictures_smaller_than_a_latents_cell_are_refused(make_checkpoint: Make, make_denoiser: Make) -> None:
    with pytest.raises(TrainingError, match="too small"):
        make_denoiser(make_checkpoint(), size=(4, 64))


def test_a_protected_clip_is_refused(make_checkpoint: Make, make_denoiser: Make) -> None:
    checkpoint = make_checkpoint()
    plain = checkpoint.clip.tokenizer

    class PlacingTokenizer:
        def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
            return inject(plain.tokenize_with_weights(text, return_word_ids, **kwargs), {"l": torch.zeros(4, 32)})

    clip = checkpoint.clip.clone()
    clip.tokenizer = PlacingTokenizer()
    with pytest.raises(TrainingError, match="carries a prefix already"):
        make_denoiser(dataclasses.replace(checkpoint, clip=clip))
