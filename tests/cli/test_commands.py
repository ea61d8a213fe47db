"""The command line: what it learns, writes and says, and how it ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.cli import main
from anonymize_faces.cli import train as train_command
from anonymize_faces.demo.diffusers_folder import demo_pipeline
from anonymize_faces.prefix import Prefix, PrefixFileError, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.tests.support.pipelines import tiny_pipeline
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.trainer import loop
from anonymize_faces.trainer.data import drawing

SETTINGS = """
general_prompts = "{folder}/general.txt"
[learning]
steps = 4
text-steps = 2
batch_size = 2
vectors = 3
portraits_per_identity = 1
general_drawn = 4
held_out = 0.0
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


def test_a_prefix_that_could_not_be_written_need_not_be_learned_anew(
    model: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise PrefixFileError("The disk is full: make room.")

    with monkeypatch.context() as broken:
        broken.setattr(train_command, "save_prefix", full)
        assert main(train(model, work)) == 1
    assert "The disk is full" in capsys.readouterr().err
    made: list[int] = []
    monkeypatch.setattr(loop, "make_step", lambda *_: made.append(1))
    assert main(train(model, work)) == 0
    assert not made and load_prefix(work / "o.safetensors").record.steps == 4
    assert not list((work / train_command.RUNS).iterdir())


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


def test_how_far_it_is_is_told_now_and_then_with_the_time_that_all_of_the_run_has_left(
    model: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(model, work, "--steps", "5")) == 0
    told = capsys.readouterr().err.splitlines()
    assert any("people, " in line and "evaluations of the model" in line for line in told)
    learning = [line for line in told if line.startswith("learning, losses ")]
    # Neither a line for each step: when it begins, and at its end.
    assert [line.split(": ")[-1] for line in learning] == ["1 of 5", "5 of 5"]
    assert all(line.split(": ")[0].endswith("less than a minute left") for line in learning)


def test_the_plan_is_told_and_nothing_is_drawn(
    model: Path, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "draw_pictures", lambda *_: pytest.fail("something was drawn"))
    assert main(train(model, work, "--json", "--plan")) == 0
    found = said(capsys)
    assert found["plan"]["people"] == 2 and found["plan"]["evaluations"] > 0 and found["plan"]["kept_bytes"] > 0
    assert found["report"].startswith("2 people, ")
    assert not (work / "o.safetensors").exists()


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
        ({"people.txt": b"Ada\nZo\xeb\n"}, 1, "Line 2 of"),
        ({"people.txt": b'[{"name": "Ada"}]'}, 1, "Line 1 looks like JSON"),
        ({"general.txt": b"a cat\n\xff"}, 1, "Line 2 of"),
        ({"general.txt": '["a cat"]'}, 1, "JSON"),
        ({"settings.toml": "stepz = 3"}, 2, "no such option"),
        ({"settings.toml": "steps = true"}, 2, "cannot be"),
        ({"settings.toml": "steps = ["}, 2, "not a TOML file"),
        ({"settings.toml": "steps = -1"}, 1, "set it to 1 or more"),
        ({"o.safetensors": "somebody's"}, 1, "--overwrite"),
        ({"settings.toml": 'name = ["a", "b"]'}, 2, "cannot be"),
        ({"settings.toml": "name = 2026-11-25"}, 2, "cannot be"),
        ({"settings.toml": "general_prompts = 5"}, 2, "cannot be"),
        ({"settings.toml": 'steps = ["3"]'}, 2, "cannot be"),
        ({"settings.toml": "quiet = true"}, 2, "no such option"),
        ({"settings.toml": 'plot = "people.txt/plot.png"'}, 1, "people.txt', which is no folder"),
        ({"settings.toml": 'plot = "plot.txt"'}, 1, "let it end in .png"),
        ({"settings.toml": 'plot = "plot"'}, 1, "let it end in .png"),
        ({"settings.toml": 'plot = "."'}, 1, "let it end in .png"),
        ({"settings.toml": 'runs = "people.txt"'}, 1, "which is no folder"),
        ({"settings.toml": f'notes = "{"n" * 100_001}"'}, 1, "longer than 100000 characters"),
        ({"settings.toml": 'name = "a\\u0000b"'}, 1, "cannot be written"),
        ({"settings.toml": 'init = "a\\u0000b"'}, 1, "cannot be written"),
        ({"settings.toml": f'init = "{"n" * 10_001}"'}, 1, "longer than 10000 characters"),
        ({"settings.toml": "warmup = nan"}, 1, "between 0 and 1"),
        ({"settings.toml": f"seed = {2**64}"}, 1, "64 bits"),
    ],
)
def test_what_cannot_be_done_is_told_with_a_remedy_and_a_code(
    change: dict[str, str | bytes],
    code: int,
    words: str,
    model: Path,
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in change.items():
        (work / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.chdir(work)
    monkeypatch.setattr("anonymize_faces.cli.train.load_denoiser", lambda *_: pytest.fail("It began."))
    assert main(train(model, work, "--json")) == code
    assert sorted(path.name for path in work.iterdir() if path.name not in change) == sorted(
        {"people.txt", "general.txt", "settings.toml"} - change.keys()
    )
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


def test_a_settings_file_may_begin_with_a_byte_order_mark_and_paths_with_the_users_folder(
    model: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(work))
    settings = (work / "settings.toml").read_text(encoding="utf-8").replace(str(work), "~")
    (work / "settings.toml").write_text(f'plot = "~/seen/plot.png"\n{settings}', encoding="utf-8-sig")
    arguments = [argument.replace(str(work), "~") for argument in train(model, work, "--quiet", "--steps", "1")]
    assert main(arguments) == 0
    assert load_prefix(work / "o.safetensors").length == 3 and (work / "seen" / "plot.png").is_file()
    assert not Path("~").exists()


def test_another_encoding_of_the_settings_file_is_named(
    model: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "settings.toml").write_text("steps = 3", encoding="utf-16")
    assert main(train(model, work)) == 2
    assert "not in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "is a folder: name a prefix file in it"),
        ("folder.safetensors", "is a folder: name a prefix file in it"),
        ("none.pt", "There is no prefix file 'none.pt'"),
        ("notes.txt", "ends in none of .safetensors, .pt, .bin"),
        ("", "a path cannot be empty"),
        ("~nobody-of-that-name/p.pt", "no user's folder"),
    ],
)
def test_show_says_what_is_wrong_with_a_name(
    name: str, words: str, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    (work / "folder.safetensors").mkdir()
    (work / "notes.txt").touch()
    try:
        code = main(["show", name])
    except SystemExit as ended:
        code = ended.code
    assert code in (1, 2) and words in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_a_name_that_is_no_text_is_told_in_every_encoding(
    encoding: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsdecode("光".encode("gbk")) + ".safetensors"
    save_prefix(Prefix({"l": torch.zeros(4, 768)}, PrefixRecord("sd1", "0" * 16, name="光 ü")), work / name)

    def told(*more: str) -> str:
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            assert main(["show", str(work / name), *more]) == 0
        return stream.buffer.getvalue().decode(encoding)

    assert json.loads(told("--json"))["name"] == "光 ü"
    assert encoding != "utf-8" or ("\ufffd" in told() and "光 ü" in told())
    assert "l (768 wide)" in told()


def test_a_file_is_not_converted_into_itself(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_prefix(Prefix({"l": torch.zeros(4, 768)}, PrefixRecord("sd1", "0" * 16)), work / "p.safetensors")
    before = path.read_bytes()
    same = ["convert", str(path), str(path), "--overwrite", "--format", "textual-inversion"]
    assert main(same) == 1 and "is the file to convert itself" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "arguments", "words"),
    [
        ("p.pt", ["--write-scores"], "can carry no scores"),
        ("p.safetensors", ["--output", "people.txt"], "people.txt', which is no folder"),
        ("p.safetensors", ["--output", "people.txt/results"], "people.txt', which is no folder"),
    ],
)
def test_evaluate_says_before_it_begins_what_it_could_not_write(
    file: str,
    arguments: list[str],
    words: str,
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr("anonymize_faces.cli.evaluate.load_denoiser", lambda *_: pytest.fail("It began."))
    path = save_prefix(Prefix({"l": torch.zeros(4, 192)}, PrefixRecord("sd1", "0" * 16)), work / "p.safetensors")
    path.rename(work / file)
    assert main(["evaluate", file, "--model", "m", "--names", "people.txt", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_evaluate_measures_without_and_with_a_prefix(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_pipeline().save_pretrained(work / "demo")
    prefix = Prefix({"l": 0.05 * torch.randn(4, 192)}, PrefixRecord(family="sd1", fingerprint="0" * 16))
    save_prefix(prefix, work / "p.safetensors")
    (work / "names.txt").write_text("Dario Quell: a person with brown hair\n", encoding="utf-8")
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


@pytest.mark.parametrize("package", ["torch", "numpy"])
def test_a_package_that_pip_was_not_asked_for_is_named_with_the_remedy(package: str) -> None:
    code = f"import runpy, sys; sys.modules['{package}'] = None; runpy.run_module('trainer', run_name='__main__')"
    done = run_apart("show", "p.safetensors", code=code)
    assert done.returncode == 1 and done.stdout == ""
    assert f"'{package}' is missing: run  pip install \".[headless]\"" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_of_comfyui_is_imported(model: Path, work: Path) -> None:
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_module('trainer', run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(t for t in tops if t.startswith('comfy') or t in ('folder_paths', 'nodes', 'server')))\n"
        "assert 'anonymize_faces.engines.diffusers.denoiser' in sys.modules\n"
    )
    done = run_apart(*train(model, work, "--quiet"), code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (work / "o.safetensors").is_file()
