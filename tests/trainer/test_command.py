"""The command line: what it learns, writes and says, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.demo.diffusers_folder import demo_pipeline
from anonymize_faces.prefix import Prefix, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.tests.pipelines import tiny_pipeline
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.trainer import loop
from anonymize_faces.trainer.command import main

SETTINGS = """
general_prompts = "{folder}/general.txt"
[learning]
steps = 4
text-steps = 2
batch_size = 2
vectors = 3
portraits_per_identity = 1
[drawing]
width = 64
height = 64
drawing_steps = 1
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder of diffusers."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with people, general prompts and settings."""
    (tmp_path / "people.txt").write_text("Ada Lovelace: a woman with dark hair\nBob Miller\n", encoding="utf-8")
    (tmp_path / "general.txt").write_text("a red circle\n", encoding="utf-8")
    (tmp_path / "settings.toml").write_text(SETTINGS.format(folder=tmp_path), encoding="utf-8")
    return tmp_path


def train(model: Path, work: Path, *more: str) -> list[str]:
    """The arguments of a short run."""
    paths = ["--model", str(model), "--identities", str(work / "people.txt"), "--output", str(work / "o.safetensors")]
    return ["train", *paths, "--settings", str(work / "settings.toml"), "--device", "cpu", *more]


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one JSON object on stdout."""
    return json.loads(capsys.readouterr().out)


def run_apart(*arguments: str, cwd: Path = ROOT, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    what = ["-c", code] if code else ["-m", "trainer" if cwd == ROOT else "anonymize_faces.trainer"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *what, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500
    )


def test_it_learns_a_prefix_and_says_so_to_scripts(model: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(model, work, "--json", "--seed", "5", "--plot", str(work / "plot.png"))) == 0
    found = said(capsys)
    prefix = load_prefix(work / "o.safetensors")
    assert found["ok"] and found["file"] == str(work / "o.safetensors") and found["widths"] == {"l": 32}
    assert found["scores"] == dict(prefix.record.scores) and prefix.record.name == "o"
    settings = prefix.record.settings
    assert (settings["steps"], settings["text_steps"], settings["seed"], prefix.length) == (4, 2, 5, 3)
    assert (work / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert list((work / ".anonymize-faces-runs").iterdir()) == []


def test_what_the_command_line_says_goes_before_the_file(
    model: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(model, work, "--json", "--steps", "2")) == 0
    assert said(capsys)["settings"]["steps"] == 2


def test_an_interrupted_run_goes_on(
    model: Path, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop.make_step

    def interrupted(denoiser: Any, state: Any, *rest: Any) -> None:
        if state.step == 3:
            raise KeyboardInterrupt
        step(denoiser, state, *rest)

    monkeypatch.setattr(loop, "make_step", interrupted)
    assert main(train(model, work, "--json")) == 130
    assert said(capsys)["code"] == 130
    monkeypatch.setattr(loop, "make_step", step)
    assert main(train(model, work, "--json")) == 0
    assert "went on from step 3" in said(capsys)["report"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"people.txt": "Ada:\n"}, 1, "no description"),
        ({"settings.toml": "stepz = 3"}, 2, "no such option"),
        ({"settings.toml": "steps = true"}, 2, "cannot be"),
        ({"settings.toml": "steps = ["}, 2, "not a TOML file"),
        ({"settings.toml": "steps = 0"}, 1, "set it to 1 or more"),
        ({"o.safetensors": "somebody's"}, 1, "--overwrite"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_remedy_and_a_code(
    change: dict[str, str], code: int, words: str, model: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in change.items():
        (work / name).write_text(text, encoding="utf-8")
    assert main(train(model, work, "--json")) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"ok": False, "error": err.strip().splitlines()[-1], "code": code} and words in err


def test_wrong_use_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--stepz", "3"])
    assert ended.value.code == 2


def test_show_and_convert_tell_and_keep_the_vectors(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = PrefixRecord(
        family="sd1",
        fingerprint="0" * 16,
        identities=7,
        scores={"identity_signal_left": 0.25},
        layers={"l": [-2, -1]},
    )
    prefix = Prefix({"l": torch.randn(4, 768)}, record)
    save_prefix(prefix, work / "p.safetensors")
    assert main(["show", str(work / "p.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "l (768 wide)" in shown and "0.25" in shown and "people" in shown
    assert "clip skip 1 and 2 (l)" in shown
    inversion, back = str(work / "ti.safetensors"), str(work / "back.safetensors")
    assert main(["convert", str(work / "p.safetensors"), inversion, "--format", "textual-inversion"]) == 0
    assert main(["convert", inversion, back]) == 0
    assert main(["convert", inversion, back]) == 1
    capsys.readouterr()
    assert main(["show", back]) == 0
    assert "the usual layer of each text encoder" in capsys.readouterr().out
    assert torch.equal(load_prefix(back).vectors["l"], prefix.vectors["l"])
    assert main(["show", str(work / "none.safetensors"), "--json"]) == 1


def test_evaluate_measures_without_and_with_a_prefix(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_pipeline().save_pretrained(work / "demo")
    prefix = Prefix({"l": 0.05 * torch.randn(4, 192)}, PrefixRecord(family="sd1", fingerprint="0" * 16))
    save_prefix(prefix, work / "p.safetensors")
    (work / "names.txt").write_text("Pia Quell: a person with brown hair\n", encoding="utf-8")
    files = [str(work / "p.safetensors"), "--names", str(work / "names.txt"), "--output", str(work / "results")]
    few = ["--images", "1", "--general-images", "1", "--general-prompts", str(work / "general.txt"), "--steps", "2"]
    command = ["evaluate", *files, *few, "--model", str(work / "demo"), "--device", "cpu", "--json"]
    assert main([*command, "--recognizer", "demo reader", "--write-scores"]) == 0
    found = said(capsys)
    assert [column["name"] for column in found["columns"]] == ["none", "p"]
    assert all(Path(file).is_file() for file in found["files"])
    kept = load_prefix(work / "p.safetensors").record.scores
    assert kept["preservation"] == found["columns"][1]["scores"]["preservation"] > 0


def test_help_teaches_every_command_from_the_root_and_from_elsewhere(tmp_path: Path) -> None:
    helped = run_apart("--help")
    assert helped.returncode == 0 and all(
        word in helped.stdout for word in ("train", "evaluate", "convert", "show", "exit codes")
    )
    detailed = run_apart("train", "--help", cwd=tmp_path)
    assert detailed.returncode == 0, detailed.stderr
    assert "--learning-rate" in detailed.stdout and "settings file" in detailed.stdout


def test_nothing_of_comfyui_is_imported(model: Path, work: Path) -> None:
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('trainer', run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(t for t in tops if t.startswith('comfy') or t in ('folder_paths', 'nodes', 'server')))\n"
        "assert 'anonymize_faces.trainer.diffusers_engine' in sys.modules\n"
    )
    done = run_apart(*train(model, work, "--quiet"), code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (work / "o.safetensors").is_file()
