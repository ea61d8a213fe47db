"""What a demo that was broken off keeps, and when it is not used again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anonymize_faces.demo import kept as module
from anonymize_faces.demo.kept import Kept, digest_of_inputs
from anonymize_faces.demo.measuring.drawing import draw_pictures
from anonymize_faces.demo.measuring.prompts import PER_PROMPT, Request
from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.breaking_off import BrokenOffError
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer

REQUESTS = [Request("a portrait of a man", 1), Request("a red circle", 2)]


@pytest.fixture
def prefix(server: ComfyServer) -> Path:
    return save_prefix(demo_prefix(1), server.prefix_folder / "kept.safetensors", overwrite=True)


@pytest.mark.usefixtures("tidy")
def test_pictures_are_drawn_once_and_anew_for_another_prefix_or_other_inputs(
    server: ComfyServer, prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw_pictures(server, REQUESTS, prefix.name, kept=Kept(tmp_path, "one"))
    assert drawn.shape == (2 * PER_PROMPT, 96, 96, 3)

    def ended(*_: object) -> None:
        raise BrokenOffError

    monkeypatch.setattr(server, "run", ended)
    assert np.array_equal(draw_pictures(server, REQUESTS, prefix.name, kept=Kept(tmp_path, "one")), drawn)
    for others in ([Request("a dog", 1), REQUESTS[1]], [Request(REQUESTS[0].prompt, 3), REQUESTS[1]]):
        with pytest.raises(BrokenOffError):
            draw_pictures(server, others, prefix.name, kept=Kept(tmp_path, "one"))
    with pytest.raises(BrokenOffError):
        draw_pictures(server, REQUESTS, None, kept=Kept(tmp_path, "one"))
    save_prefix(demo_prefix(2), prefix, overwrite=True)
    with pytest.raises(BrokenOffError):
        draw_pictures(server, REQUESTS, prefix.name, kept=Kept(tmp_path, "one"))
    save_prefix(demo_prefix(1), prefix, overwrite=True)
    with pytest.raises(BrokenOffError):
        draw_pictures(server, REQUESTS, prefix.name, kept=Kept(tmp_path, "other"))


def test_what_is_of_other_inputs_is_removed_and_nothing_is_left_of_a_demo_that_is_done(tmp_path: Path) -> None:
    first = Kept(tmp_path / "kept", "one")
    first.keep_pictures("a", np.zeros((2, 4, 4, 3), np.uint8))
    assert first.pictures("a", 2) is not None and first.pictures("a", 3) is None and first.pictures("b", 2) is None
    second = Kept(tmp_path / "kept", "two")
    assert second.pictures("a", 2) is None and len(list((tmp_path / "kept").iterdir())) == 1
    second.done()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'", b"PK\x03\x04"])
def test_damaged_pictures_are_drawn_again(content: bytes, tmp_path: Path) -> None:
    kept = Kept(tmp_path, "one")
    (tmp_path / "one" / "a.npy").write_bytes(content)
    assert kept.pictures("a", 1) is None
    np.save(tmp_path / "one" / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert kept.pictures("a", 1) is None


def test_a_learned_prefix_is_used_again_only_if_its_file_is_the_same(tmp_path: Path) -> None:
    kept, folder = Kept(tmp_path / "kept", "one"), tmp_path / "prefixes"
    folder.mkdir()
    assert kept.learned(folder) is None
    (folder / "p.safetensors").write_bytes(b"one")
    kept.keep_learned(folder, "p.safetensors", 12.5, 150)
    assert Kept(tmp_path / "kept", "one").learned(folder) == ("p.safetensors", 12.5, 150)
    (folder / "p.safetensors").write_bytes(b"two")
    assert kept.learned(folder) is None
    (folder / "p.safetensors").unlink()
    assert kept.learned(folder) is None
    for damaged in ("", "[]", "{}", '{"name": "../x", "seconds": "no", "steps": 1, "digest": ""}'):
        (tmp_path / "kept" / "one" / module.RECORD).write_text(damaged)
        assert kept.learned(folder) is None


def test_the_digest_follows_code_weights_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "demo" / "weights").mkdir(parents=True)
    (tmp_path / "trainer" / "__pycache__").mkdir(parents=True)
    (tmp_path / "trainer" / "loop.py").write_text("one")
    found = [digest_of_inputs(seed=None), digest_of_inputs(seed=1)]
    (tmp_path / "trainer" / "loop.py").write_text("two")
    found.append(digest_of_inputs(seed=None))
    (tmp_path / "demo" / "weights" / "reader.safetensors").write_bytes(b"w")
    found.append(digest_of_inputs(seed=None))
    assert len(set(found)) == 4
    (tmp_path / "trainer" / "__pycache__" / "loop.pyc").write_bytes(b"c")
    assert digest_of_inputs(seed=None) == found[-1]
