"""Reading lists of identities."""

from __future__ import annotations

import pytest

from anonymize_faces.prefix import IdentityError
from anonymize_faces.trainer.identities import Identity, parse_identities


def test_a_line_gives_a_name_and_a_description() -> None:
    assert parse_identities("Ada Lovelace: a woman with dark hair") == (
        Identity("Ada Lovelace", "a woman with dark hair"),
    )


def test_a_name_alone_is_described_as_a_person() -> None:
    assert parse_identities("Ada Lovelace") == (Identity("Ada Lovelace", "a person"),)


def test_a_description_may_hold_colons() -> None:
    assert parse_identities("Ada: a woman: dark hair")[0].description == "a woman: dark hair"


def test_comments_blank_lines_windows_line_ends_and_stray_spaces_do_no_harm() -> None:
    text = "\ufeff# our people\r\n\r\nAda  Lovelace :  a woman # the first\r\n   \r\nBob\r\n"
    assert parse_identities(text) == (Identity("Ada Lovelace", "a woman"), Identity("Bob"))


@pytest.mark.parametrize("line", [": a woman", " :", "Carol:", "Carol:   # nothing"])
def test_a_malformed_line_is_named_by_its_number(line: str) -> None:
    with pytest.raises(IdentityError, match=r"^Line 3 "):
        parse_identities(f"Ada: a woman\n\n{line}\nBob")


def test_a_doubled_name_is_named_by_both_numbers_whatever_its_case() -> None:
    with pytest.raises(IdentityError, match=r"^Line 4 names ada lovelace again, after line 2"):
        parse_identities("# people\nAda Lovelace: a woman\nBob\nada  lovelace: a man")


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody yet"])
def test_a_list_that_names_nobody_tells_what_to_write(text: str) -> None:
    with pytest.raises(IdentityError, match="one person a line"):
        parse_identities(text)
