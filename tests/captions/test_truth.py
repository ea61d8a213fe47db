"""The benchmark of descriptions, in short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anonymize_faces.benchmarks import captions


def test_descriptions_of_the_demo_are_true_and_certainty_trades_what_is_said_for_truth(
    host_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert captions.main(["--quick", "--only", captions.TRUTH]) == 0
    *_, monotone, precision, left_out = capsys.readouterr().out.splitlines()
    assert monotone == "RATE certainty_trades_monotonically 1"
    assert precision.startswith("RATE caption_precision ") and float(precision.split()[-1]) >= 0.95
    assert left_out.startswith("RATE caption_left_out ") and float(left_out.split()[-1]) <= 0.15


def test_whoever_learns_from_descriptions_is_asked_what_they_describe(
    host_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way alone: one step teaches nothing, and makes nothing weak."""
    assert captions.main(["--quick", "--only", captions.FOLLOWING]) == 0
    out = capsys.readouterr().out.splitlines()
    rates = dict(line.split()[1:] for line in out if line.startswith("RATE "))
    assert list(rates) == ["new_words_before", "new_words_followed", "looks_followed", "looks_followed_control"]
    assert all(line.startswith("RATE ") for line in out[-len(rates) :])
    assert all(0 <= float(rate) <= 1 for rate in rates.values())
    (plain,) = (line for line in out if line.startswith("the demo model"))
    weak, skin, _, names, things = map(float, plain.split()[-5:])
    assert min(weak, skin, names, things) >= 0.75, "the demo model follows, before anything is done to it"


def test_the_rates_of_truth_and_following_come_last_in_their_order() -> None:
    names = ["caption_precision", "caption_left_out", "another", "new_words_before", "looks_followed"]
    lines = captions.in_last_order([f"RATE {name} 0.5" for name in (*names, "looks_followed_control", "prefix_read")])
    assert [line.split()[1] for line in lines] == ["another", "new_words_before", "prefix_read", *captions.LAST]


def test_a_prefix_is_learned_from_what_is_read_off_portraits_beside_what_was_written(
    host_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way alone, too. A reader with noise is told from a right one."""
    assert captions.main(["--quick", "--only", captions.PREFIX]) == 0
    out = capsys.readouterr().out.splitlines()
    rates = dict(line.split()[1:] for line in out if line.startswith("RATE "))
    assert list(rates) == ["prefix_identified_written", "prefix_identified_read", "prefix_within_interval"]
    (plain,) = (line for line in out if line.startswith("without"))
    assert float(plain.split()[1]) >= 0.8, "people are found, before anything is done"
    (otherwise,) = (line.rpartition(": ")[2].split(", ") for line in out if line.startswith("people whose list"))
    assert otherwise[:2] == ["written descriptions 0", "captions of its portraits 0"]
    assert int(otherwise[2].removeprefix("captions by a noisy reader ")) > 0


def test_captions_to_learn_from_are_true_and_controls_say_nothing_of_the_picture(host_modules: None) -> None:
    from anonymize_faces.benchmarks.captioning import following
    from anonymize_faces.captions.grammar import Grammar
    from anonymize_faces.demo.world.people import Looks

    pictures, looks = following.faces(24, 7)
    ours = following.captions_of(pictures)
    grammar = Grammar(following.NewWordsReader().attributes)
    facts = [grammar.parse(caption) for caption in ours]
    names = tuple(vars(looks[0]))
    said = [
        (one[name], grammar.parse(true.describe())[name])
        for one, true in zip(facts, looks, strict=True)
        for name in names
    ]
    assert len(said) == 4 * 24 and all(told == true for told, true in said)
    assert sum("wide face" in caption or "narrow face" in caption for caption in ours) > 18
    arms = following.arms(ours, 0)
    assert sorted(arms[following.SHUFFLED]) == sorted(ours) and set(arms[following.NOTHING]) == {"a person"}
    assert sum(one == other for one, other in zip(ours, arms[following.SHUFFLED], strict=True)) < 6

    rng = np.random.default_rng(8)
    drawn = [following.at_random(looks[0], rng) for _ in range(200)]
    assert {one.skin for one in drawn} == {looks[0].skin}
    shares = {
        name: np.mean([getattr(one, name) == getattr(looks[0], name) for one in drawn]) for name in following.WEAK
    }
    assert 0.15 < shares["hair"] < 0.35 and all(0.4 < shares[name] < 0.6 for name in ("glasses", "beard"))
    assert replace(drawn[0], **{name: getattr(looks[0], name) for name in following.WEAK}) == looks[0]
    assert isinstance(drawn[0], Looks)
