"""Reading lists of identities."""

from __future__ import annotations

import time
import unicodedata

import pytest

from anonymize_faces.prefix import IdentityError
from anonymize_faces.trainer.data.identities import Identity, parse_identities


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


@pytest.mark.parametrize("colon", "：﹕∶")
def test_colons_of_other_keyboards_are_colons(colon: str) -> None:
    assert parse_identities(f"山田太郎{colon}a man") == (Identity("山田太郎", "a man"),)


@pytest.mark.parametrize(
    ("line", "identity"),
    [
        ("Agent #9: a man", Identity("Agent #9", "a man")),
        ("Agent #9", Identity("Agent #9")),
        ("Ada: a woman in shirt #7", Identity("Ada", "a woman in shirt #7")),
        ("Ada: a woman # my aunt", Identity("Ada", "a woman")),
        ("Ada #", Identity("Ada")),
        ("Martin Luther King, Jr.: a man", Identity("Martin Luther King, Jr.", "a man")),
        ('"Weird Al" Yankovic: a man', Identity('"Weird Al" Yankovic', "a man")),
        ("Mary-Jane O'Neil: a woman", Identity("Mary-Jane O'Neil", "a woman")),
        ("'Abd Allah: a man, 6' 2\" tall", Identity("'Abd Allah", "a man, 6' 2\" tall")),
        ("50 Cent", Identity("50 Cent")),
        ("2 Chainz: a man", Identity("2 Chainz", "a man")),
        ("A. Example", Identity("A. Example")),
        ("e. e. cummings", Identity("e. e. cummings")),
        ("The Rock: a man", Identity("The Rock", "a man")),
        ("Man Ray", Identity("Man Ray")),
        ("will.i.am", Identity("will.i.am")),
        ("P!nk", Identity("P!nk")),
        ("Thomas a Kempis", Identity("Thomas a Kempis")),
        ("Jean-Luc O–Neil", Identity("Jean-Luc O–Neil")),
        ("Prince (musician): a man", Identity("Prince (musician)", "a man")),
        (
            "Rose Brown: a woman with brown hair and a rose",
            Identity("Rose Brown", "a woman with brown hair and a rose"),
        ),
        ("Brown: a man with brown hair", Identity("Brown", "a man with brown hair")),
        ("A\u200bda\ufeff: a\u00a0woman\0", Identity("Ada", "a woman")),
        ("Zoe\u0308", Identity("Zo\u00eb")),
        ("\uff03 note\nAda", Identity("Ada")),
        ("Ada\n\x1a", Identity("Ada")),
    ],
)
def test_what_is_clear_is_read(line: str, identity: Identity) -> None:
    assert parse_identities(line) == (identity,)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Bob,a man", "','"),
        ("Bob, a man", "','"),
        ("Bob,a man: tall", "','"),
        ("Bob;a man", "';'"),
        ("Bob | a man", "'|'"),
        ("Bob = a man", "'='"),
        ("Bob - a man", "'-'"),
        ("Bob、a man", "'、'"),
        ("Bob → a man", "'→'"),
        ("Bob -> a man", "'->'"),
        ("Bob -- a man", "'--'"),
        ("Bob –a man", "'–'"),
        ("Bob— a man", "'—'"),
        ("Bob / a man", "'/'"),
        ("Bob (a man)", r"'\('"),
        (r"Bob\ta man", r"'\\'"),
        ("Bob::a man", "two colons"),
        ("Bob: : a man", "two colons"),
        ("Bob\ta man", "columns"),
        ("Bob\ta man: tall", "columns"),
        ("Bob: a man\tfriend", "columns"),
        ('"Bob","a man"', "quotation marks"),
        ('"Bob": "a man"', "quotation marks"),
        ('"Bob: a man"', "quotation marks"),
        ("'Bob': 'a man'", "quotation marks"),
        ("“Bob”: a man", "quotation marks"),
        ('{"name": "Bob"}', "JSON"),
        ('["Bob"]', "JSON"),
        ("<li>Bob</li>", "markup"),
        ("| Bob | a man |", "Markdown"),
        ("- Bob", "mark of a list"),
        ("- name: Bob", "mark of a list"),
        ("2. Bob: a man", "mark of a list"),
        ("(2) Bob", "mark of a list"),
        ("b) Bob", "mark of a list"),
        ("２．Bob", "mark of a list"),
        ("2.Bob: a man", "mark of a list"),
        ("2)Bob: a man", "mark of a list"),
        ("7- Bob", "mark of a list"),
        ("No. 2 Bob", "mark of a list"),
        ("2 Bob", "numbered lists"),
        ("02 Bob: a man", "numbered lists"),
        ("b. Bob", "numbered lists"),
        ("ii. Bob", "numbered lists"),
        ("① Bob", "begins with '①'"),
        ("☐ Bob", "begins with '☐'"),
        ("**Bob**: a man", "begins with '.'"),
        ("(Bob:1.2)", "begins with '.'"),
        ("@bob", "begins with '@'"),
        ("`Bob`", "code"),
        ("Bob ~ a man", "'~'"),
        ("Bob • a man", "'•'"),
        ("Bob ... a man", r"'\.\.\.'"),
        ("a man", "looks where the name stands"),
        ("A man with a beard", "looks where the name stands"),
        ("the old man: grey hair", "looks where the name stands"),
        ("man in black", "looks where the name stands"),
        ("eine Frau", "looks where the name stands"),
        ("Bob. a man", "looks where the name stands"),
        ("Bob, a man: tall", "looks where the name stands"),
        ("bob.jpg", "path"),
        ("bob@example.org", "address"),
        ("Bob: -", "no description"),
        ("Bob: n/a", "no description"),
        ("Bob: 1.2", "no description"),
        ("Bob: {old|young}", "more than words"),
        ("Bob: <lora:bob:1>", "more than words"),
        ("Bob: a man, embedding:bob", "more than words"),
        ("\ufffeBob", "U\\+FFFE"),
        ("Bob\U0001ffff: a man", "U\\+1FFFF"),
        ("Bob: a man\uf8ff", "U\\+F8FF"),
        ("Name: description", "heading"),
        ("name", "heading"),
        ("Bob #friend", "'#'"),
        ("Bob: a man #friend", "'#'"),
        ("Agent # 9: a man", "'#'"),
        ("Bob\u2028Cy", "line separator"),
        ("Bob: a man\x85tall", "line separator"),
        ("Bob\vCy", "line separator"),
        ("Bo\x07b", "no text"),
        ("Zo\ufffd", "U\\+FFFD"),
        ("\u200b\ufe0f: a man", "no name"),
        ("\ufe0f", "no name"),
        ("Bob: \ufe0f", "no description"),
        ("7: a man", "no person's"),
        ("{name}: a man", "JSON"),
        ("embedding:bob", "no person's"),
        ("C:\\\\people.txt", "path"),
        ("https://example.org/people", "address"),
        ("Bob Miller: bob  miller, a man", "the name in the description"),
        ("Bob: Bob, a man", "the name in the description"),
        ("山田: 山田は男", "the name in the description"),
        ("B" * 201, "201 characters"),
        ("Bob: " + "a" * 1001, "1001 characters"),
    ],
)
def test_what_is_unclear_is_refused_by_its_line(line: str, words: str) -> None:
    with pytest.raises(IdentityError, match=rf"^Line 3 .*{words}") as refused:
        parse_identities(f"# people\nAda: a woman\n{line}")
    assert len(str(refused.value)) < 300


def test_lines_that_count_on_are_numbered_wherever_the_count_begins() -> None:
    with pytest.raises(IdentityError, match=r"^Line 2 begins with '51', as lines of numbered lists do"):
        parse_identities("50 Ada\n51 Bob")
    with pytest.raises(IdentityError, match=r"^Line 2 begins with '2', "):
        parse_identities("# people\n2 Ada")


@pytest.mark.parametrize(
    "other", [unicodedata.normalize("NFD", "Zoë Ångström"), "ZOË ÅNGSTRÖM", "Zoë\u3000Ång\u00adström"]
)
def test_a_name_written_in_another_way_is_the_same_person(other: str) -> None:
    with pytest.raises(IdentityError, match=r"^Line 2 names .* again, after line 1"):
        parse_identities(f"Zoë Ångström: a woman\n{other}: a man")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_that_names_its_columns_is_read_as_one(separator: str) -> None:
    rows = (
        ("\ufeffId", "Name", "Description"),
        ("1", "Ada Lovelace", "a woman: dark hair"),
        ("2", '"King, Jr."', '"a man; ""tall""\r\nand old"'),
        ("3", " Cy ", "a man # 3"),
    )
    text = "# saved\r\n" + "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n"
    assert parse_identities(text) == (
        Identity("Ada Lovelace", "a woman: dark hair"),
        Identity("King, Jr.", 'a man; "tall" and old'),
        Identity("Cy", "a man # 3"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,age\nAda,36", "^Line 1 .*'description' not at all"),
        ("description,id\na woman,1", "^Line 1 .*'name' not at all"),
        ("name,name,description\nAda,Bob,a woman", "^Line 1 .*'name' twice"),
        ("name,description\nAda,a woman, tall", "^Line 2 has 3 cells"),
        ("name,description\nAda", "^Line 2 has 1 cells"),
        ("name,description\nAda,", "^Line 2 has no description"),
        ("name,description\n,a woman", "^Line 2 has no name"),
        ('name,description\nAda,a woman\nBob,"a man', "^Line 3 is no row"),
        ('name,description\nAda,"a woman" x', "^Line 2 is no row"),
        ('name,description\nAda,"a\nwoman"\nADA,a man', "^Line 4 names ADA again, after line 2"),
        ("name,description\nAda,a\u2028woman\x07", "^Line 2 "),
        ("name,description", "names nobody"),
    ],
)
def test_a_table_that_is_unclear_is_refused_by_its_line(text: str, words: str) -> None:
    with pytest.raises(IdentityError, match=words):
        parse_identities(text)


@pytest.mark.parametrize("line", ["Person {0} Zo\u00eb: a woman with {0} hats", "Person {0},a woman with {0} hats"])
def test_a_hundred_thousand_people_take_seconds(line: str) -> None:
    text = "name,description\n" * ("," in line) + "".join(line.format(number) + "\n" for number in range(100_000))
    began = time.process_time()
    assert len(parse_identities(text)) == 100_000
    assert time.process_time() - began < 20
