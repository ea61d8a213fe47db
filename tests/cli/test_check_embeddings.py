"""The command `check-embeddings`: what it says of embeddings that undo a prefix, that say a person, and of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from anonymize_faces.cli import main
from anonymize_faces.evaluation.embedding_check import SUSPECT, EmbeddingCheck
from anonymize_faces.prefix import Prefix, PrefixRecord, save_prefix
from anonymize_faces.tests.support.pipelines import tiny_pipeline
from anonymize_faces.tests.support.prefixes import random_prefix

NAMES = ("Ada Lovelace", "Bob Miller")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


def rows_of(model: Path, text: str) -> torch.Tensor:
    """What the text encoder's table holds for words."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokens = CLIPTokenizer.from_pretrained(model, subfolder="tokenizer")(text, add_special_tokens=False).input_ids
    table = CLIPTextModel.from_pretrained(model, subfolder="text_encoder").get_input_embeddings()
    return table(torch.tensor(tokens)).detach()


def test_who_says_a_person_is_told_and_others_pass(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    prefix = save_prefix(random_prefix({"l": 32}, 3, 0), tmp_path / "people.safetensors")
    written = [
        save_prefix(Prefix({"l": rows}, PrefixRecord("", "")), tmp_path / f"{name}.safetensors")
        for name, rows in (("bob", rows_of(model, NAMES[1])), ("circle", rows_of(model, "a red circle on a table")))
    ]
    command = ["check-embeddings", str(prefix), *map(str, written), "--names", str(tmp_path / "names.txt")]
    assert main([*command, "--model", str(model), "--device", "cpu", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    bob, circle = (told["embeddings"][str(path)] for path in written)
    assert bob["says"] == NAMES[1] and bob["apart"] < circle["apart"]
    assert all(0 < found["held"] < 3 for found in (bob, circle))
    assert set(told["suspect"]) == {file for file, f in told["embeddings"].items() if min(f["held"], f["apart"]) < 0.5}
    assert len(told["report"].splitlines()) == 2 + bool(told["suspect"])


@pytest.mark.parametrize(
    ("names", "rows", "words"),
    [("", torch.zeros(2, 32) + 0.1, "line"), ("Ada", torch.ones(2, 64), "of another kind of model")],
)
def test_what_cannot_be_asked_is_a_sentence(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture, names: str, rows: torch.Tensor, words: str
) -> None:
    (tmp_path / "names.txt").write_text(names, encoding="utf-8")
    prefix = save_prefix(random_prefix({"l": 32}, 3, 0), tmp_path / "people.safetensors")
    other = save_prefix(Prefix({"l": rows}, PrefixRecord("", "")), tmp_path / "other.safetensors")
    command = ["check-embeddings", str(prefix), str(other), "--names", str(tmp_path / "names.txt")]
    assert main([*command, "--model", str(model), "--device", "cpu", "--quiet"]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("held", "apart", "suspect"),
    [(1.0, 1.0, False), (SUSPECT, SUSPECT, False), (0.1, 1.0, True), (1.0, 0.1, True), (1.0, float("nan"), True)],
)
def test_what_is_no_number_never_passes(held: float, apart: float, suspect: bool) -> None:
    assert EmbeddingCheck(held, "Ada", apart, "Ada").is_suspect is suspect
