"""Other ways to name people."""

from __future__ import annotations

import itertools

import pytest
import torch

from anonymize_faces.trainer.data.identities import Identity
from anonymize_faces.trainer.data.pictures import identity_pairs
from anonymize_faces.trainer.data.prompts import CONTEXTS, OPENINGS, name_prompt
from anonymize_faces.trainer.data.variations import LONG, NAMES, PROMPTS, SHARE, misspelt, varied_prompts

ADA = Identity("Ada Lovelace", "a woman with dark hair")


def many(identity: Identity, count: int = 400) -> list[tuple[str, str]]:
    generator = torch.Generator().manual_seed(0)
    return [varied_prompts(identity, "A photo of ", "in a garden", generator) for _ in range(count)]


def test_every_way_is_taken_and_the_neutral_twin_never_names_anybody() -> None:
    pairs = many(ADA)
    students = {student for student, _ in pairs}
    assert len(students) >= len(PROMPTS) + len(NAMES)
    for student, teacher in pairs:
        assert "ada" not in teacher.lower() and "lace" not in teacher.lower()
        assert ADA.description in teacher and student != teacher


def test_names_come_in_capitals_in_small_letters_by_surname_and_misspelt() -> None:
    students = {student for student, _ in many(ADA)}
    for wanted in ("ADA LOVELACE", "ada lovelace", "A photo of Lovelace in a garden", "(Ada Lovelace:1.3)"):
        assert any(wanted in student for student in students), wanted


def test_a_long_prompt_has_the_name_in_a_later_chunk(host_modules: None) -> None:
    import comfy.sd1_clip

    (student,) = {student for student, _ in many(ADA) if student.startswith(LONG)}
    chunks = comfy.sd1_clip.SD1Tokenizer().tokenize_with_weights(student)["l"]
    alone = comfy.sd1_clip.SD1Tokenizer().tokenize_with_weights("Lovelace")["l"][0][1][0]
    assert [alone in [token for token, _ in chunk] for chunk in chunks] == [False, True]


@pytest.mark.parametrize("name", ["Ada Lovelace", "Bo", "Aa Aa", "李小龙", "X Æ"])
def test_a_misspelt_name_has_the_same_letters_and_begins_alike(name: str) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        wrong = misspelt(name, lambda below, g=generator: int(torch.randint(below, (), generator=g)))
        assert sorted(wrong) == sorted(name)
        assert [word[0] for word in wrong.split()] == [word[0] for word in name.split()]
        assert (wrong == name) == (name in ("Bo", "Aa Aa", "X Æ"))


def test_about_a_third_of_the_prompts_are_varied_and_none_unless_asked() -> None:
    people = [Identity(f"Name Number{number}") for number in range(100)]
    plain, varied = (
        identity_pairs(people, 10, torch.Generator().manual_seed(0), vary, long_every=10**9) for vary in (False, True)
    )
    ordinary = {name_prompt(*words) for words in itertools.product(people, OPENINGS, CONTEXTS)}
    assert all(pair.student in ordinary for pair in plain)
    share = sum(pair.student not in ordinary for pair in varied) / len(varied)
    assert SHARE - 0.07 < share < SHARE + 0.04
