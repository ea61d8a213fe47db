"""The engine of pipelines: what ComfyUI's makes of the same weights, and a prefix of one that serves the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.engines.diffusers import protect_pipeline
from anonymize_faces.engines.diffusers.denoiser import DiffusersDenoiser
from anonymize_faces.engines.diffusers.encoder_parts import host_names
from anonymize_faces.engines.options import Computing, Drawing
from anonymize_faces.engines.recomputation import blocks_of
from anonymize_faces.prefix import Prefix, PrefixMismatchError, PrefixRecord, TrainingError, checkpoint_note
from anonymize_faces.prefix.value import prefix_of
from anonymize_faces.tests.support.learning_checks import learning, require_to_learn
from anonymize_faces.tests.support.pipelines import WIDTHS, random, tiny_pipeline
from anonymize_faces.trainer.start import start_vectors

DRAWING = Drawing(steps=2, cfg=2.0)
PROMPTS = ["a close-up portrait of Alma Orlick", "a red circle", "", "a person with glasses and a beard, " * 20]
TIMES = torch.tensor([0.02, 0.3, 0.6, 0.97])
SETTINGS = learning(general_weight=1.0)


@pytest.fixture(scope="module")
def engines(host_modules: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The demo model behind both engines: of diffusers, by way of a folder, and of ComfyUI."""
    from anonymize_faces.demo.diffusers_folder import demo_pipeline
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser
    from anonymize_faces.engines.diffusers.loading import load_pipeline

    folder = tmp_path_factory.mktemp("demo")
    demo_pipeline().save_pretrained(folder)
    ours = DiffusersDenoiser(load_pipeline(folder), (64, 64), DRAWING)
    return ours, ComfyDenoiser(*load_demo_model(), (64, 64), DRAWING)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prefixed", [False, True])
def test_both_engines_predict_the_same_of_the_same_weights(prefixed: bool, engines: tuple[Any, Any]) -> None:
    ours, hosts = engines
    vectors = {"l": 0.05 * noise(10, 192, seed=1)} if prefixed else None
    latents, added = noise(4, *ours.latent_shape, seed=2), noise(4, *ours.latent_shape, seed=3)
    assert ours.latent_shape == hosts.latent_shape
    predicted = []
    for engine in engines:
        with engine.gradients(4), torch.no_grad():
            noised = engine.add_noise(latents, added, TIMES)
            conditioning = engine.encode(PROMPTS, vectors, [*engine.layers, *engine.layers])
            predicted.append(engine.predict(noised, TIMES, conditioning))
    assert ours.layers == hosts.layers == (None, -2)
    for layers, recorded in (((None,), {}), ((-2,), {"l": (-2,)}), ((None, -2), {"l": (-2, -1)})):
        assert ours.record_layers(layers) == hosts.record_layers(layers) == recorded
    torch.testing.assert_close(*predicted, rtol=0, atol=1e-4)
    assert predicted[0].std() > 0.1


def test_both_engines_draw_and_show_the_same_picture_but_for_their_samplers(engines: tuple[Any, Any]) -> None:
    ours, hosts = engines
    latents = noise(1, *ours.latent_shape)
    torch.testing.assert_close(ours.decode(latents), hosts.decode(latents), rtol=0, atol=1e-3)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "LCMScheduler", "DDPMScheduler"])
def test_a_picture_is_the_same_in_any_batch_by_schedulers_that_draw_noise(scheduler: str) -> None:
    import diffusers

    pipeline = tiny_pipeline("sd1")
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    denoiser = DiffusersDenoiser(pipeline, (64, 64), Drawing(steps=3, cfg=2.0))
    together = denoiser.sample(["a red circle", "a red house"], [5, 6])
    torch.testing.assert_close(together[1], denoiser.sample(["a red house"], [6])[0], rtol=1e-3, atol=1e-3)


def test_both_engines_want_the_same_answer_of_a_denoiser(engines: tuple[Any, Any]) -> None:
    latents, added = (noise(4, *engines[0].latent_shape, seed=seed) for seed in (2, 3))
    one, other = (engine.target(latents, added, TIMES) for engine in engines)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert 0.5 < float(one.std()) < 2


@pytest.mark.parametrize("family", ["sd1", "sd2", "flux"])
def test_a_denoiser_that_answers_as_it_ought_to_gives_the_picture(family: str) -> None:
    """By the formulas of noise, velocity and flow, what it ought to answer leads from the noised back to the clean."""
    engine = DiffusersDenoiser(tiny_pipeline(family), (64, 64), DRAWING)
    latents, added = noise(4, *engine.latent_shape, seed=2), noise(4, *engine.latent_shape, seed=3)
    noised, wanted = engine.add_noise(latents, added, TIMES), engine.target(latents, added, TIMES)
    sigmas = engine._levels.sigmas(TIMES).view(-1, 1, 1, 1)
    clean = {
        "sd1": lambda: noised - sigmas * wanted,
        "sd2": lambda: (noised - sigmas * (sigmas.square() + 1).sqrt() * wanted) / (sigmas.square() + 1),
        "flux": lambda: noised - sigmas * wanted,
    }[family]()
    torch.testing.assert_close(clean, latents, rtol=1e-2, atol=1e-2)


def test_both_engines_make_the_same_latents_of_pictures_with_the_right_gradient(engines: tuple[Any, Any]) -> None:
    assert engines[0].picture_size == engines[1].picture_size == (64, 64)
    pictures, direction = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1)), noise(2, 64, 64, 3)
    found = []
    for engine in engines:
        with engine.gradients(2, pictures=True):
            given = pictures.clone().requires_grad_()
            latents = engine.encode_pictures(given)
            (gradient,) = torch.autograd.grad(latents.sin().sum(), [given])
            with torch.no_grad():
                more, less = (engine.encode_pictures(pictures + 1e-4 * s * direction).sin().sum() for s in (1, -1))
        assert float((gradient * direction).sum()) == pytest.approx(float(more - less) / 2e-4, rel=0.05)
        found.append((latents.detach(), gradient))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-2)


def test_a_pipelines_vae_in_half_precision_stays_so_and_encodes_in_float32() -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.vae.half()
    engine = DiffusersDenoiser(pipeline, (64, 64), DRAWING)
    with engine.gradients(1, pictures=True):
        pictures = torch.rand(1, 64, 64, 3).requires_grad_()
        latents = engine.encode_pictures(pictures)
        (gradient,) = torch.autograd.grad(latents.sum(), [pictures])
    assert latents.dtype == gradient.dtype == torch.float32 and pipeline.vae.dtype == torch.float16


def test_a_prefix_of_one_engine_is_at_home_in_the_other(engines: tuple[Any, Any]) -> None:
    ours, hosts = engines
    record = PrefixRecord(family=ours.family, fingerprint=ours.fingerprint)
    assert checkpoint_note(record, hosts.fingerprint) is None
    for words in ("a stranger", ""):
        assert torch.equal(ours.token_embeddings(words)["l"], hosts.token_embeddings(words)["l"])


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_text_encoders_are_told_by_the_names_that_they_have_in_comfyui(family: str, host_modules: None) -> None:
    from anonymize_faces.tests.support.text_encoders import make_clip

    pipeline = tiny_pipeline(family)
    models = {
        key: getattr(pipeline, attribute)
        for key, attribute in zip(WIDTHS[family], ("text_encoder", "text_encoder_2", "text_encoder_3"), strict=False)
    }
    not_counted = ("logit_scale", "text_projection.weight")
    ours = {name for name in host_names(models) if ".block.1." not in name}  # The other T5 has one layer.
    hosts = set(make_clip(family).cond_stage_model.state_dict())
    assert {name for name in ours if not name.endswith(not_counted)} == {
        name for name in hosts if not name.endswith(not_counted)
    }


@pytest.mark.parametrize("family", WIDTHS)
def test_a_family_learns_with_every_encoder_and_its_pictures_change(family: str) -> None:
    denoiser = DiffusersDenoiser(tiny_pipeline(family), (64, 64), Drawing(steps=2, cfg=1.5))
    assert denoiser.family == family
    require_to_learn(denoiser, SETTINGS, WIDTHS[family])


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux"])
def test_a_picture_depends_on_its_own_prompt_and_seed_alone(family: str) -> None:
    denoiser = DiffusersDenoiser(tiny_pipeline(family), (64, 64), DRAWING)
    prompts, seeds = ["Ada Lovelace", "word " * 100, "a dog"], [1, 2, 3]
    together = denoiser.sample(prompts, seeds)
    alone = torch.cat([denoiser.sample([prompt], [seed]) for prompt, seed in zip(prompts, seeds, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert together.shape == (3, *denoiser.latent_shape)


def test_checkpointing_changes_nothing_but_memory() -> None:
    gradients = []
    for checkpointing in ("off", "on"):
        denoiser = DiffusersDenoiser(tiny_pipeline("sd1"), (64, 64), DRAWING, Computing(checkpointing=checkpointing))
        vectors = {"l": noise(4, 32).requires_grad_()}
        with denoiser.gradients(1):
            conditioning = denoiser.encode(["Ada"], vectors)
            denoiser.predict(noise(1, 4, 8, 8), TIMES[1:2], conditioning).square().sum().backward()
        gradients.append(vectors["l"].grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("free", "choice", "twice"),
    [(2**40, "auto", False), (2**10, "auto", True), (2**10, "off", False), (2**40, "on", True), (None, "auto", False)],
)
def test_blocks_are_computed_twice_only_where_a_card_has_no_room(
    free: int | None, choice: str, twice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonymize_faces.engines.diffusers.denoiser._free_memory", lambda device: free)
    denoiser = DiffusersDenoiser(tiny_pipeline("sd1"), (64, 64), DRAWING, Computing(checkpointing=choice))
    for _ in range(2):
        with denoiser.gradients(8):
            blocks = list(blocks_of(denoiser._network))
            assert ["forward" in vars(block) for block in blocks] == [twice] * len(blocks) != []
            assert denoiser.use_less_memory() is (choice == "auto" and not twice)
            twice = twice or choice == "auto"  # Memory that lacked once is saved from then on.


def test_afterwards_the_pipeline_is_as_before() -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.unet.requires_grad_(True).train()
    denoiser = DiffusersDenoiser(pipeline, (64, 64), DRAWING)
    with denoiser.gradients(1):
        denoiser.encode(["Ada"], {"l": noise(4, 32)})
        assert not any(weight.requires_grad for weight in pipeline.unet.parameters()) and not pipeline.unet.training
    assert all(weight.requires_grad for weight in pipeline.unet.parameters()) and pipeline.unet.training
    assert not pipeline.text_encoder.get_input_embeddings()._forward_hooks


def test_its_digest_follows_from_what_it_computes_alone() -> None:
    def digest(change: str = "") -> str:
        pipeline = tiny_pipeline("sd1")
        if change == "order":
            pipeline.scheduler.register_to_config(_use_default_values=["thresholding", "clip_sample_range"])
        if change == "schedule":
            pipeline.scheduler.register_to_config(prediction_type="v_prediction")
        if change == "weights":
            next(pipeline.unet.parameters()).add_(1.0)
        return DiffusersDenoiser(pipeline, (64, 64), DRAWING).digest

    assert digest() == digest("order")
    assert len({digest(), digest("schedule"), digest("weights")}) == 3


def test_an_unknown_pipeline_or_too_small_a_picture_is_refused() -> None:
    pipeline = tiny_pipeline("sd1")
    with pytest.raises(TrainingError, match="too small"):
        DiffusersDenoiser(pipeline, (4, 64))
    pipeline.unet = torch.nn.Linear(1, 1)
    with pytest.raises(PrefixMismatchError, match="no family"):
        DiffusersDenoiser(pipeline, (64, 64))


def single_file(checkpoint: Any, path: Path) -> None:
    """Writes a checkpoint of the host's classes as the one file that everybody hands on."""
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from safetensors.torch import save_file

    sizes = {"ch": 32, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0, "resolution": 8}
    sizes |= {"double_z": True, "z_channels": 4, "in_channels": 3, "out_ch": 3}
    autoencoder = random(AutoencoderKL(embed_dim=4, ddconfig=sizes), 5)
    texts = checkpoint.clip.cond_stage_model.clip_l.transformer.text_model.state_dict()
    parts = {
        "model.diffusion_model.": checkpoint.model.model.diffusion_model.state_dict(),
        "first_stage_model.": autoencoder.state_dict(),
        "cond_stage_model.transformer.text_model.": texts,
    }
    save_file({at + name: w.contiguous() for at, part in parts.items() for name, w in part.items()}, path)


def test_a_single_file_is_what_comfyui_makes_of_it(make_checkpoint: Any, make_denoiser: Any, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    from anonymize_faces.engines.diffusers.loading import load_pipeline

    checkpoint, file, folder = make_checkpoint(), tmp_path / "model.safetensors", tmp_path / "config"
    single_file(checkpoint, file)
    like = tiny_pipeline("sd1")
    like.vae = AutoencoderKL(block_out_channels=(32,), norm_num_groups=32)
    like.register_to_config(vae=("diffusers", "AutoencoderKL"))
    like.save_pretrained(folder)
    with pytest.raises(TrainingError, match="--config"):
        load_pipeline(file)
    ours, hosts = DiffusersDenoiser(load_pipeline(file, folder), (8, 8), DRAWING), make_denoiser(checkpoint)
    assert ours.fingerprint == hosts.fingerprint and ours.latent_shape == hosts.latent_shape
    noised, predicted = noise(4, *ours.latent_shape), []
    for engine in (ours, hosts):
        with engine.gradients(4), torch.no_grad():
            predicted.append(engine.predict(noised, TIMES, engine.encode(PROMPTS)))
    torch.testing.assert_close(*predicted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_what_is_no_model_is_refused_with_a_remedy(content: str | None, tmp_path: Path) -> None:
    from anonymize_faces.engines.diffusers.loading import load_pipeline

    if content is not None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "model_index.json").write_text(content)
    with pytest.raises(TrainingError, match=r": (name|see)"):
        load_pipeline(tmp_path / "model")


@pytest.mark.parametrize("part", ["denoiser", "text encoder"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_part_that_works_without_gradients_is_named(part: str, mode: Any) -> None:
    pipeline = tiny_pipeline("sdxl")
    patched = pipeline.unet if part == "denoiser" else pipeline.text_encoder_2
    forward = patched.forward
    patched.forward = lambda *args, **kwargs: mode()(forward)(*args, **kwargs)
    with pytest.raises(TrainingError, match=f"No gradient comes through the .*{part}"):
        require_to_learn(DiffusersDenoiser(pipeline, (64, 64), DRAWING), SETTINGS, WIDTHS["sdxl"])


@pytest.mark.parametrize("family", ["sd1", "sdxl", "flux"])
def test_a_prefix_is_learned_on_a_pipeline_whose_weights_are_elsewhere(family: str) -> None:
    from accelerate import cpu_offload

    plain, offloaded = tiny_pipeline(family), tiny_pipeline(family)
    for part in offloaded.components.values():
        if isinstance(part, torch.nn.Module):
            cpu_offload(part, torch.device("cpu"), offload_buffers=len(part._parameters) > 0)
    whole, denoiser = (DiffusersDenoiser(pipeline, (64, 64), DRAWING) for pipeline in (plain, offloaded))
    assert (denoiser.fingerprint, denoiser.digest) == (whole.fingerprint, whole.digest)
    for words in ("a stranger", ""):
        for key, rows in denoiser.token_embeddings(words).items():
            assert torch.equal(rows, whole.token_embeddings(words)[key])
    torch.testing.assert_close(denoiser.sample(["Ada"], [1]), whole.sample(["Ada"], [1]))
    require_to_learn(denoiser, SETTINGS, WIDTHS[family])


def test_a_pipeline_that_is_protected_is_not_learned_on() -> None:
    pipeline = tiny_pipeline("sd1")
    protected = protect_pipeline(pipeline, Prefix({"l": noise(4, 32)}, PrefixRecord("sd1", "")))
    with pytest.raises(TrainingError, match="carries a prefix already"):
        DiffusersDenoiser(protected, (64, 64), DRAWING)


def test_a_prefix_that_a_pipeline_learned_is_a_prefix() -> None:
    denoiser = DiffusersDenoiser(tiny_pipeline("sdxl"), (64, 64), DRAWING)
    with denoiser.gradients(1):
        parameters = {name: part.detach() for name, part in start_vectors(denoiser, SETTINGS).items()}
    prefix = prefix_of(parameters, PrefixRecord(denoiser.family, denoiser.fingerprint))
    assert prefix.widths == {"g": 48, "l": 32} and prefix.networks
