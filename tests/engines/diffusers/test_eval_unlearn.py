"""The public benchmark `eval-unlearn` finds our technique by its entry point, and one of its metrics scores it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anonymize_faces.engines.diffusers.eval_unlearn import AnonymizationPrefixTechnique
from anonymize_faces.prefix import Prefix, PrefixRecord, TrainingError, save_prefix
from anonymize_faces.tests.support.pipelines import clip_tokenizer, tiny_pipeline
from anonymize_faces.tools.layout import ROOT

pytestmark = pytest.mark.apart
BENCHMARK = "eval-unlearn==1.1.2"
ITS_PACKAGES = "datasets dill lazy-importer multiprocess pandas pyarrow python-dateutil tzdata xxhash".split()
"""What it imports beside what is there already; torch, numpy and Pillow are not to be touched."""

CLIP = "openai/clip-vit-base-patch32"
"""The one model that the metric takes; a tiny one lies here under its name, so that nothing is downloaded."""

RUN = """
import json, sys
from eval_unlearn.runners.single_benchmark_runner import SingleBenchmarkRunner
options = json.loads(sys.argv[1])
metric = {"target_prompts_path": "target.csv", "retain_prompts_path": "retain.csv", "device": "cpu"}
metric["clip_model_name"] = "openai/clip-vit-base-patch32"
runner = SingleBenchmarkRunner(
    "anonymization_prefix", "ua_ira", technique_config=options, metric_config=metric, seed=3
)
report = runner.run()
from eval_unlearn.registry import get_technique
print(json.dumps([get_technique("anonymization_prefix").__module__, report]))
"""


def pip(*arguments: object, ours: bool = False) -> None:
    """Installs into a folder of the test's own; skips the test where others' packages cannot be had."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    try:
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip does not get {arguments[-1]} in time.")
    if done.returncode and ours:
        pytest.fail(f"pip cannot install this package: {done.stderr.strip()[-2000:]}")
    if done.returncode:
        pytest.skip(f"pip cannot install {arguments[-1]} here: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the real benchmark and our package are installed, without anything that they depend on."""
    if sys.version_info < (3, 11):
        pytest.skip("eval-unlearn needs Python 3.11")
    folder, source = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("source") / "ours"
    pip("--target", folder, BENCHMARK, *ITS_PACKAGES)
    source.mkdir()
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "__init__.py",
        "cli",
        "demo",
        "captions",
        "engines",
        "finetuning",
        "photos",
        "evaluation",
        "experts",
        "faces",
        "prefix",
        "runs",
        "trainer",
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip("--target", folder, "--no-build-isolation", source, ours=True)
    return folder


def test_the_demo_reader_comes_with_the_package(installed: Path, tmp_path: Path) -> None:
    read = """
import argparse, numpy
from anonymize_faces.cli.evaluate import DEMO, recognizer_of
reader = recognizer_of(argparse.Namespace(recognizer=DEMO), None, None)
print(reader.name, len(reader.find(numpy.zeros((1, 64, 64, 3), numpy.uint8))))
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", read], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["demo", "reader", "1"], done.stderr


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    """A tiny model and a prefix for it, as the benchmark's file names them."""
    tiny_pipeline("sd1").save_pretrained(tmp_path / "model")
    prefix = Prefix({"l": torch.randn(4, 32, generator=torch.Generator().manual_seed(0))}, PrefixRecord("sd1", ""))
    paths = {"model_id": str(tmp_path / "model"), "prefix_path": str(save_prefix(prefix, tmp_path / "p.safetensors"))}
    return {**paths, "device": "cpu", "num_inference_steps": 1, "erase_concept": "Ada Lovelace", "somebody": "else's"}


def test_the_real_benchmark_discovers_it_and_scores_it(
    installed: Path, options: dict[str, object], tmp_path: Path
) -> None:
    tiny_clip(tmp_path / CLIP)
    for kind, prompt in (("target", "a photo of Ada Lovelace"), ("retain", "a photo of a dog")):
        rows = f"prompt,concept,label,target_concept\n{prompt},{prompt},{prompt},{prompt}\n"
        (tmp_path / f"{kind}.csv").write_text(rows, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(options)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    module, report = json.loads(done.stdout.splitlines()[-1])
    assert module == "anonymize_faces.engines.diffusers.eval_unlearn"
    assert report["metric_result"]["name"] and 0 <= report["metric_result"]["value"] <= 100


def test_its_pictures_follow_from_prompt_and_seed_and_carry_the_prefix(options: dict[str, object]) -> None:
    technique = AnonymizationPrefixTechnique(**options)
    prompts = ["Ada Lovelace", "a dog"]
    size = {"height": 64, "width": 64}
    one, two = technique.generate(prompts, seed=1, **size), technique.generate(prompts, seed=1, **size)
    assert [picture.tobytes() for picture in one] == [picture.tobytes() for picture in two]
    plain = tiny_pipeline("sd1")(
        prompts[0], generator=torch.Generator().manual_seed(1), num_inference_steps=1, guidance_scale=7.5, **size
    ).images[0]
    assert one[0].size == (64, 64) and one[0].tobytes() != plain.tobytes()


def test_without_a_prefix_it_draws_nothing(options: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="prefix_path"):
        AnonymizationPrefixTechnique(**(options | {"prefix_path": ""}))


def tiny_clip(folder: Path) -> None:
    """A whole CLIP of random weights, with its processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**text, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config={**text, "eos_token_id": 49407}, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, clip_tokenizer()).save_pretrained(folder)
