"""Every language says all that there is to say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.english import LOCALES, PAGES, node_words, our_nodes, page_with_settings, settings_rows
from anonymize_faces.tools.layout import EXTENSION, ROOT

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
FILES = ("commands", "main", "nodeDefs")
PLACE = re.compile(r"\{\w+\}")
KEY = re.compile(
    r'"((?:advanced|compare|finetuning|people|training|prefix|protect|library|report|server|settings|verdict)\.[A-Za-z.]+)"'
)


def read(language: str, file: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / f"{file}.json").read_text(encoding="utf-8"))


def texts(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Texts with where they stand, as `training.state.learning`."""
    for key, value in table.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from texts(value, here)
        else:
            yield here, value


def test_there_is_a_folder_for_each_language_and_no_other() -> None:
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted(LANGUAGES)


def test_english_says_what_the_nodes_say(server: ComfyServer) -> None:
    words = node_words(server.object_info())
    assert read("en", "nodeDefs") == words, "run: .venv/bin/python -m anonymize_faces.tools.english"
    assert {"AnonymizeFaces", "TrainAnonymizationPrefix"} <= words.keys()


def test_help_pages_say_of_settings_what_the_nodes_say(server: ComfyServer) -> None:
    nodes = our_nodes(server.object_info())
    for node_id, info in nodes.items():
        page = (PAGES / f"{node_id}.md").read_text(encoding="utf-8")
        assert page == page_with_settings(page, info), "run: .venv/bin/python -m anonymize_faces.tools.english"
        assert [name for name, words in settings_rows(info).items() if f"| `{name}` | {words} " not in page] == []
    assert {"vectors", "learning_rate", "vary_names"} <= settings_rows(nodes["TrainAnonymizationPrefix"]).keys()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_the_keys_of_english_with_the_same_places_in_them(language: str, file: str) -> None:
    english, other = dict(texts(read("en", file))), dict(texts(read(language, file)))
    assert other.keys() == english.keys()
    for key, text in other.items():
        assert text.strip() or not english[key], key
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(english[key])), key


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_a_language_is_not_english(language: str) -> None:
    for file in FILES:
        english = {key: text for key, text in texts(read("en", file)) if " " in text}
        same = [key for key, text in texts(read(language, file)) if english.get(key) == text]
        assert same == []


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_a_language_calls_nodes_what_they_are_called_in_it(language: str) -> None:
    english, own = read("en", "nodeDefs"), read(language, "nodeDefs")
    called = {words["display_name"]: own[node]["display_name"] for node, words in english.items()}
    elsewhere = {name for name, other in called.items() if other != name}
    for file in FILES:
        said = [(key, name) for key, text in texts(read(language, file)) for name in elsewhere if name in text]
        assert said == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_in_a_text_means_something_else_to_the_host(language: str) -> None:
    # To vue-i18n, which shows these two files, these are links, choices and places.
    for file in ("commands", "nodeDefs"):
        assert [key for key, text in texts(read(language, file)) if re.search(r"[@|{}]", text)] == []


def test_the_scripts_use_every_text_and_no_other() -> None:
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "web").rglob("*.js"))
    quoted = set(KEY.findall(scripts))
    known = {key.removeprefix("anonymizeFaces.") for key, _ in texts(read("en", "main"))}
    assert quoted <= known
    assert {key for key in known - quoted if not key.startswith("training.state.")} == set()


def test_the_server_hands_the_texts_to_the_browser(server: ComfyServer) -> None:
    handed = requests.get(f"{server.url}/i18n", timeout=60).json()
    for language in LANGUAGES:
        assert handed[language]["anonymizeFaces"] == read(language, "main")["anonymizeFaces"]
        assert handed[language]["nodeDefs"]["AnonymizeFaces"] == read(language, "nodeDefs")["AnonymizeFaces"]
        assert "AnonymizeFaces_Protect" in handed[language]["commands"], EXTENSION
