"""A run that is killed goes on where it was, and ends with the same prefix to the last bit."""

from __future__ import annotations

import dataclasses
import resource
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from anonymize_faces.runs.run_folder import RunFolder, kept_once_done
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.prefixes import numbers
from anonymize_faces.trainer.data.drawing import DRAWN_AT_ONCE
from anonymize_faces.trainer.data.identities import parse_identities
from anonymize_faces.trainer.data.targets import named_before
from anonymize_faces.trainer.progress import Callbacks, Learned, Progress
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.state import Score
from anonymize_faces.trainer.training import learn_prefix
from anonymize_faces.trainer.validation import Validation

Make = Callable[..., Any]
PEOPLE = parse_identities("Ada Lovelace: a woman with dark hair\nBob Miller\nCy Young: a man with a hat")
GENERAL = ("", "a red circle", "a dog in the snow", "a house")
SETTINGS = TrainingSettings(
    conditional=False,  # See test_conditional, which breaks off runs with a network.
    harden=0.0,  # See test_hardening, which breaks hardened runs off.
    text_steps=1,
    steps=14,
    batch_size=3,
    vectors=3,
    portraits_per_identity=2,
    noisings_per_picture=2,
    snapshot_every=4,
    shards=1,
)


@pytest.fixture
def denoiser(make_checkpoint: Make, make_denoiser: Make) -> Any:
    return make_denoiser(make_checkpoint())


def learn(denoiser: Any, runs: Path | None, settings: TrainingSettings = SETTINGS, **options: Any) -> Learned:
    with torch.inference_mode():
        return learn_prefix(denoiser, PEOPLE, GENERAL, settings, Callbacks(**options), runs=runs)


def same(one: Learned, two: Learned) -> bool:
    return torch.equal(numbers(one.prefix), numbers(two.prefix)) and repr(one.history) == repr(two.history)


MOMENTS: Mapping[str, Callable[[Progress], bool]] = {
    "drawing": lambda progress: progress.pictures == 6,
    **{f"step {step}": lambda progress, step=step: progress.steps == step for step in (0, 6, 9, 12, 13)},
}


@dataclass(frozen=True)
class WholeRun:
    """A run that nothing broke off, and what would be left of it on the disk had it been killed on the way."""

    learned: Learned
    runs: Path
    copies: Path

    def killed(self, moment: str, folder: Path) -> Path:
        """The folder of runs that a process killed at one of `MOMENTS` leaves."""
        return shutil.copytree(self.copies / moment, folder / "killed")


@pytest.fixture(scope="module")
def whole(make_checkpoint: Make, make_denoiser: Make, tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    runs, copies = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("copies")

    def copy(progress: Progress) -> None:
        for name, is_now in MOMENTS.items():
            if is_now(progress) and not (copies / name).exists():
                shutil.copytree(runs, copies / name)

    learned = learn(make_denoiser(make_checkpoint()), runs, report=copy)
    assert {path.name for path in copies.iterdir()} == MOMENTS.keys()
    return WholeRun(learned, runs, copies)


def test_what_is_saved_on_the_way_alters_nothing(denoiser: Any, whole: WholeRun) -> None:
    assert same(whole.learned, learn(denoiser, None))


@pytest.mark.parametrize("step", [0, 6, 13])
def test_a_run_that_is_killed_ends_with_the_same_prefix_to_the_last_bit(
    step: int, denoiser: Any, whole: WholeRun, tmp_path: Path
) -> None:
    steps: list[int] = []
    killed = whole.killed(f"step {step}", tmp_path)
    again = learn(denoiser, killed, report=lambda progress: steps.append(progress.steps))
    saved = step // SETTINGS.snapshot_every * SETTINGS.snapshot_every
    if step >= 10:
        saved = 12
    assert [made for made in steps if made] == list(range(saved + 1, SETTINGS.steps + 1))
    assert same(whole.learned, again)
    assert whole.learned.scores == again.scores and whole.learned.best == again.best


@pytest.mark.parametrize("moment", ["sample", "step"])
def test_a_run_that_is_killed_between_two_shards_of_pictures_ends_with_the_same_prefix(
    moment: str, denoiser: Any, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, shards=3)
    killed, sample, calls = tmp_path / "killed", denoiser.sample, [0]

    def copied(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3 and moment == "sample":
            shutil.copytree(tmp_path / "runs", killed)
        return sample(*arguments)

    def copy(progress: Progress) -> None:
        if progress.steps == 7 and moment == "step" and not killed.exists():
            shutil.copytree(tmp_path / "runs", killed)

    denoiser.sample = copied
    whole = learn(denoiser, tmp_path / "runs", settings, report=copy)
    denoiser.sample = sample
    steps: list[int] = []
    again = learn(denoiser, killed, settings, report=lambda progress: steps.append(progress.steps))
    assert same(whole, again) and same(whole, learn(denoiser, None, settings))
    assert moment == "sample" or next(step for step in steps if step) > 1


WARM = dataclasses.replace(SETTINGS, text_steps=7, snapshot_every=3)


def test_a_run_that_is_killed_in_the_warm_start_goes_on_within_it(denoiser: Any, tmp_path: Path) -> None:
    runs, killed = tmp_path / "runs", tmp_path / "killed"

    def copy(progress: Progress) -> None:
        if progress.text_steps == 5 and not killed.exists():
            shutil.copytree(runs, killed)

    whole = learn(denoiser, runs, WARM, report=copy)
    made: list[int] = []
    again = learn(denoiser, killed, WARM, report=lambda progress: made.append(progress.text_steps))
    assert [step for step in dict.fromkeys(made) if step] == [4, 5, 6, 7]
    assert same(whole, again) and same(whole, learn(denoiser, None, WARM))
    assert "went on from step 3 of the warm start" in " ".join(again.notes)


def test_a_warm_start_that_was_cancelled_goes_on_at_that_very_step(denoiser: Any, tmp_path: Path) -> None:
    def cancel(progress: Progress) -> None:
        if progress.text_steps == 5:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(denoiser, tmp_path, WARM, report=cancel)
    made: list[int] = []
    again = learn(denoiser, tmp_path, WARM, report=lambda progress: made.append(progress.text_steps))
    assert [step for step in dict.fromkeys(made) if step] == [6, 7] and same(again, learn(denoiser, None, WARM))


def test_text_is_encoded_before_the_steps_each_prompt_alone_and_once(
    denoiser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the run is examined with is encoded for that.
    monkeypatch.setattr(Validation, "score", lambda self, vectors, step: Score(step, 0.5, 0.5))
    plain: list[tuple[Any, ...]] = []
    encode = denoiser.encode
    before = {}

    def watched(prompts: Any, vectors: Any = None, layers: Any = None, embedding: Any = None) -> Any:
        if vectors is None:
            plain.append(tuple(zip(prompts, layers or [None] * len(prompts), strict=True)))
        return encode(prompts, vectors, layers, embedding)

    def look(progress: Progress) -> None:
        if not progress.text_steps:
            plain.clear()  # What was drawn until now was encoded for the sampler.
        before[progress.steps] = len(plain)

    denoiser.encode = watched
    settings = dataclasses.replace(SETTINGS, steps=9, noisings_per_picture=8)
    learn(denoiser, tmp_path, settings, report=look)
    assert before[1] == before[9] > 0
    told = plain[: before[9]]
    assert all(len(prompts) == 1 for prompts in told) and len(set(told)) == len(told)


def test_pictures_that_were_drawn_are_not_drawn_again(denoiser: Any, whole: WholeRun, tmp_path: Path) -> None:
    seen: list[Progress] = []
    again = learn(denoiser, whole.killed("drawing", tmp_path), report=seen.append)
    assert {progress.pictures for progress in seen if not progress.text_steps} == {11}
    assert same(whole.learned, again)


def test_the_teacher_is_not_asked_again_for_what_was_saved(denoiser: Any, whole: WholeRun, tmp_path: Path) -> None:
    killed = whole.killed("step 12", tmp_path)
    encoded: list[tuple[str, ...]] = []
    encode = denoiser.encode
    denoiser.encode = lambda prompts, vectors=None, layers=None, embedding=None: (
        encoded.append((*prompts, vectors is None)) or encode(prompts, vectors, layers, embedding)
    )
    steps = []

    def report(progress: Progress) -> None:
        steps.append((progress.steps, len(encoded)))

    learn(denoiser, killed, report=report, plan=lambda plan: encoded.clear())
    # The slots that name somebody were all dealt out within the first twelve steps. In the last two others are new.
    twelve, fourteen = (
        made * SETTINGS.batch_size - named_before(made, SETTINGS.batch_size, SETTINGS.named_share) for made in (12, 14)
    )
    asked = [plain for *_, plain in encoded[: steps[-1][1]]]
    assert [made for made, _ in steps if made] == [13, 14] and sum(asked) <= fourteen - twelve


def test_a_run_that_was_cancelled_goes_on_at_that_very_step(denoiser: Any, whole: WholeRun, tmp_path: Path) -> None:
    def cancel(progress: Progress) -> None:
        if progress.steps == 7:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(denoiser, tmp_path, report=cancel)
    steps: list[int] = []
    again = learn(denoiser, tmp_path, report=lambda progress: steps.append(progress.steps))
    steps = [step for step in steps if step]  # Before them, prompts are read.
    assert steps[0] == 8 and same(again, whole.learned)
    assert "went on from step 7" in " ".join(again.notes)


@pytest.mark.parametrize("call", range(0, 25, 6))
def test_a_run_that_was_cancelled_in_the_middle_of_a_step_loses_only_that_step(
    call: int, denoiser: Any, whole: WholeRun, tmp_path: Path
) -> None:
    """`check` raises wherever the host's Cancel may reach it: between micro-batches of a batch, of targets, of a
    validation."""
    made, calls = [0], [0]

    def count(progress: Progress) -> None:
        made[0] = progress.steps

    def check() -> None:
        calls[0] += made[0] > 0
        if calls[0] > call:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(denoiser, tmp_path, report=count, check=check)
    steps: list[int] = []
    again = learn(denoiser, tmp_path, report=lambda progress: steps.append(progress.steps))
    steps = [step for step in steps if step]  # Before them, prompts are read.
    assert steps == list(range(made[0] + 1, SETTINGS.steps + 1)) and same(again, whole.learned)


def test_a_finished_run_leaves_nothing_behind(whole: WholeRun) -> None:
    assert list(whole.runs.iterdir()) == []


def test_a_finished_run_that_a_host_may_yet_lose_is_done_at_once(
    denoiser: Any, whole: WholeRun, tmp_path: Path
) -> None:
    steps: list[int] = []
    with kept_once_done():
        assert same(whole.learned, learn(denoiser, tmp_path))
        (left,) = tmp_path.iterdir()
        assert {"snapshot.safetensors", "pictures.safetensors"} <= {path.name for path in left.iterdir()}
        assert not (left / "targets.safetensors").exists()
        denoiser.sample = None
        again = learn(denoiser, tmp_path, report=lambda progress: steps.append(progress.steps))
        assert same(whole.learned, again) and not any(steps[:-1]) and again.notes == whole.learned.notes
        # None that is done takes the place of one that is not.
        for name in ("unfinished 0", "unfinished 1", "unfinished 2", "one more"):
            with RunFolder(tmp_path, name) as folder:
                folder.save("state", {}, {})
    assert {path.name for path in tmp_path.iterdir()} == {"unfinished 1", "unfinished 2", "one more"}


@pytest.mark.parametrize("change", ["settings", "people", "prompts", "model", "lora"])
def test_what_belongs_to_another_run_is_never_used(
    change: str, denoiser: Any, whole: WholeRun, make_checkpoint: Make, make_denoiser: Make, tmp_path: Path
) -> None:
    killed = whole.killed("step 6", tmp_path)
    people, prompts, settings = PEOPLE, GENERAL, SETTINGS
    if change == "settings":
        settings = dataclasses.replace(SETTINGS, learning_rate=0.5)
    elif change == "people":
        people = PEOPLE[:2]
    elif change == "prompts":
        prompts = (*GENERAL, "a cat")
    else:
        checkpoint = make_checkpoint()
        key = "diffusion_model.input_blocks.0.0.weight"
        if change == "model":
            with torch.no_grad():
                checkpoint.model.model.state_dict()[key].mul_(1.5)
        else:
            checkpoint.model.add_patches({key: (torch.ones(32, 4, 3, 3),)}, 0.1)
        denoiser = make_denoiser(checkpoint)
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.steps == 2:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn_prefix(denoiser, people, prompts, settings, Callbacks(watch), runs=killed)
    assert [progress.steps for progress in seen if progress.steps] == [1, 2]
    of_people = settings.portraits_per_identity * len(people)
    assert seen[0].pictures == min(of_people, DRAWN_AT_ONCE * SETTINGS.batch_size)


@pytest.mark.parametrize("name", ["snapshot", "drawn", "pictures", "targets"])
def test_a_file_that_is_not_whole_is_made_anew(name: str, denoiser: Any, whole: WholeRun, tmp_path: Path) -> None:
    killed = whole.killed("step 9", tmp_path)
    (file,) = killed.glob(f"*/{name}.safetensors")
    file.write_bytes(file.read_bytes()[:-7])
    again = learn(denoiser, killed)
    if name == "targets":  # Asked anew, they are asked in other company, which may turn their last bit.
        torch.testing.assert_close(numbers(again.prefix), numbers(whole.learned.prefix), rtol=1e-4, atol=1e-6)
    else:
        assert same(whole.learned, again)


def test_a_folder_that_cannot_be_made_is_told_and_the_run_goes_on(
    denoiser: Any, whole: WholeRun, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    learned = learn(denoiser, tmp_path / "file" / "runs")
    assert same(learned, whole.learned)
    assert any("it went on in memory" in note and "can be written to" in note for note in learned.notes)


@pytest.mark.parametrize("most_bytes", [64, 8000, 14_000], ids=["at once", "while drawing", "while learning"])
def test_a_full_disk_is_told_and_the_run_goes_on(
    most_bytes: int, denoiser: Any, whole: WholeRun, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        learned = learn(denoiser, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same(learned, whole.learned)
    assert any("Nothing more could be saved" in note for note in learned.notes)


def test_two_processes_never_share_a_run(denoiser: Any, tmp_path: Path) -> None:
    keys: list[str] = []

    def look(progress: Progress) -> None:
        if not keys:
            keys.extend(path.name for path in tmp_path.iterdir())
            other = RunFolder(tmp_path, keys[0])
            assert other.path is None and "another process does the same run" in other.trouble
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        learn(denoiser, tmp_path, report=look)
    assert len(keys) == 1


def test_only_the_youngest_unfinished_runs_are_kept(tmp_path: Path) -> None:
    for number in range(6):
        with RunFolder(tmp_path, f"run{number}") as folder:
            folder.save("state", {}, {})
    with RunFolder(tmp_path, "refused at once"):
        pass
    assert len(list(tmp_path.iterdir())) == 3 and (tmp_path / "run5").is_dir()
