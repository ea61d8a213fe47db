"""The demo's evaluation from the command line, in this process, on the real demo model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anonymize_faces.demo import evaluate
from anonymize_faces.demo.world.people import identities
from anonymize_faces.prefix import MeasurementError, Prefix, PrefixRecord, load_prefix, save_prefix, scores_hold

PEOPLE = identities(unseen=(True,))[:3]


@pytest.fixture
def prefix(host_modules: None, tmp_path: Path) -> Path:
    """A prefix that says to the demo model what words would, after which it draws somebody else."""
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    denoiser = ComfyDenoiser(*load_demo_model(), (64, 64))
    vectors = denoiser.token_embeddings("a stranger with the looks of")
    record = PrefixRecord(family=denoiser.family, fingerprint=denoiser.fingerprint)
    return save_prefix(Prefix(vectors, record), tmp_path / "words.safetensors")


def command(folder: Path, *more: object) -> None:
    names = folder / "names.txt"
    names.write_text("\n".join(f"{person.name}: {person.description}" for person in PEOPLE), encoding="utf-8")
    prompts = folder / "prompts.txt"
    prompts.write_text("a red circle\n# a note\n\na road\n", encoding="utf-8")
    given = ["--names", names, "--general-prompts", prompts, "--images", 2, "--general-images", 1, "--steps", 8]
    evaluate.run(evaluate.parser().parse_args([str(word) for word in (*given, "--output", folder / "out", *more)]))


def test_the_model_draws_people_whom_a_prefix_hides_and_the_prefix_file_says_so(tmp_path, prefix, capsys):
    command(tmp_path, prefix, "--write-scores")
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    plain, hidden = (column["scores"] for column in told["columns"])
    assert told["names"] == [person.name for person in PEOPLE]
    assert plain["identification_rate"] >= 0.5 > hidden["identification_rate"]
    assert plain["attribute_retention"] >= 0.8 and plain["face_retention"] >= 0.8
    assert told["gallery"]["strangers"] == 64 * 101 - 3
    assert hidden["preservation"] > 0 == plain["preservation"]
    assert told["drawing"]["steps"] == 8 and told["drawing"]["cfg"] == 2.0
    assert "identification rate" in capsys.readouterr().out
    record = load_prefix(prefix)
    assert scores_hold(record) and record.record.scores["preservation"] == hidden["preservation"]
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("latents.safetensors")}
    command(tmp_path, prefix)
    again = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert again["columns"] == told["columns"]
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn and len(drawn) == 5


def test_a_file_that_cannot_carry_scores_is_refused_before_anything_is_drawn(host_modules, tmp_path):
    inversion = tmp_path / "inversion.safetensors"
    from safetensors.torch import save_file

    save_file({"emb_params": torch.zeros(2, 768)}, inversion)
    with pytest.raises(MeasurementError, match="leave out --write-scores"):
        command(tmp_path, inversion, "--write-scores")
    assert not (tmp_path / "out").exists()
