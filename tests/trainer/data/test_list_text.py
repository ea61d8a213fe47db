"""The text of lists: how files are decoded, what becomes of characters nobody sees, which texts are the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from anonymize_faces.prefix import ListError
from anonymize_faces.trainer.data.list_text import entries, normalized, sameness, text_of_file

TEXT = "Zoë Müller: a woman\nBob\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_by_its_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_bytes(TEXT.encode(encoding))
    assert text_of_file(tmp_path / "people.txt") == TEXT


def test_big_endian_utf_16_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert text_of_file(tmp_path / "people.txt") == TEXT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Ada\nZo\xeb\n", r"^Line 2 of .* UTF-8"),
        (b"Ada\r\nBob\r\nZo\xeb\r\n", r"^Line 3 of .* UTF-8"),
        (b"\xef\xbb\xbfAda\n\xff", r"^Line 2 of .* UTF-8"),
        (b"\xff\xfe" + "Ada\nBob\n".encode("utf-16-le") + b"\x00\xdc\x00", r"^Line 3 of .* UTF-16"),
        ("Ada\n".encode("utf-16-le"), r"^Line 1 of .* zero byte"),
        (b"Ada\nBob\0", r"^Line 2 of .* zero byte"),
    ],
)
def test_what_cannot_be_decoded_is_named_by_its_line(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_bytes(content)
    with pytest.raises(ListError, match=words):
        text_of_file(tmp_path / "people.txt")


def test_no_file_a_folder_and_a_huge_file_are_told(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(65 << 20)
    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "no", "cannot be read"), (tmp_path / "huge", "MiB")):
        with pytest.raises(ListError, match=words):
            text_of_file(path)
    with pytest.raises(ListError, match="cannot be read"):
        text_of_file(Path("a\0b"))


@pytest.mark.parametrize("unseen", "\ufeff\u200b\u200e\u202e\u2060\u00ad\0\u3164\u200d\u200c")
def test_what_nobody_sees_is_taken_out(unseen: str) -> None:
    assert normalized(f"{unseen}Ad{unseen}a{unseen}") == "Ada"


@pytest.mark.parametrize("space", "\u00a0\u2003\u3000\u202f\u2800")
def test_there_is_one_kind_of_space(space: str) -> None:
    assert normalized(f"Ada{space}Lovelace") == "Ada Lovelace"


def test_joiners_stay_where_a_script_needs_them() -> None:
    for text in ("علی\u200cرضا", "👩\u200d🎤", "क्\u200dष"):
        assert normalized(text) == text


@pytest.mark.parametrize("separator", "\v\f\x85\u2028\u2029\x1c\x1a\ufffd\ud800")
def test_what_may_end_a_line_or_be_lost_text_is_refused_by_number(separator: str) -> None:
    with pytest.raises(ListError, match=r"^Line 2 "):
        list(entries(f"Ada\nBo{separator}b"))


@pytest.mark.parametrize("separator", "\v\f\x85\u2028\u2029\x1a\t ")
def test_at_a_lines_end_it_does_no_harm(separator: str) -> None:
    assert list(entries(f"Ada\r\n\rBob{separator}")) == [(1, "Ada"), (3, "Bob")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (unicodedata.normalize("NFC", "Zoë Ångström"), unicodedata.normalize("NFD", "Zoë Ångström")),
        ("Zoë  Müller", "ZOË MÜLLER"),
        ("Ａｄａ", "ada"),
        ("Straße", "STRASSE"),
        ("山田 太郎", "山田太郎"),
        ("Ada\u00a0Lovelace", "ada lovelace"),
        ("علی\u200cرضا", "علیرضا"),
    ],
)
def test_names_that_differ_in_writing_alone_are_the_same(one: str, other: str) -> None:
    assert sameness(one) == sameness(other)


def test_different_names_are_not() -> None:
    assert len({sameness(name) for name in ("Ada", "Adam", "Jo Anna", "Joanna", "Zoë", "Zoe")}) == 6
