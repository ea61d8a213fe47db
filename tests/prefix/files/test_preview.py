"""The picture beside a prefix file: whose it is, what is shown of it, and that it stays out of the file."""

from __future__ import annotations

import dataclasses
import io
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from anonymize_faces.prefix import Prefix, PrefixFileMissingError, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.prefix.files import library
from anonymize_faces.prefix.files.prefix_file import prefix_bytes
from anonymize_faces.prefix.files.preview import MOST_BYTES, SIDE, load_preview, preview_path, save_preview
from anonymize_faces.prefix.scored import with_scores

RECORD = PrefixRecord("sd1", "0" * 16)


def jpeg(width: int = 64, height: int = 32, **options) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()


def a_prefix(seed: int = 0, preview: bytes = b"") -> Prefix:
    return Prefix({"l": torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))}, RECORD, preview)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A prefix file with a picture beside it."""
    prefix = a_prefix(preview=jpeg(900, 450))
    path = save_prefix(prefix, tmp_path / "people.safetensors")
    save_preview(prefix, path)
    return path


def told_by_the_list(path: Path) -> str:
    (entry,) = library.entries([path.parent])
    return entry.summary()["picture"]


def test_it_is_small_and_lies_beside_the_file_not_in_it(saved):
    with Image.open(io.BytesIO(library.picture([saved.parent], saved.name))) as picture:
        assert picture.format == "JPEG" and picture.size == (SIDE, SIDE // 2)
        assert not {"comment", "exif"} & picture.info.keys()
    assert saved.read_bytes() == prefix_bytes(a_prefix()) and not load_prefix(saved).preview
    assert told_by_the_list(saved)


def test_it_follows_its_file_and_goes_with_it(saved):
    roots = [saved.parent]
    library.rename(roots, "people.safetensors", "deep/others")
    assert library.picture(roots, "deep/others.safetensors") and not preview_path(saved).exists()
    library.delete(roots, "deep/others.safetensors")
    assert [path for path in saved.parent.rglob("*") if path.is_file()] == []


def test_it_is_not_shown_for_another_prefix_of_that_name(saved):
    saved.unlink()
    library.add([saved.parent], saved.name, prefix_bytes(a_prefix(1)))
    assert preview_path(saved).exists()
    with pytest.raises(PrefixFileMissingError):
        library.picture([saved.parent], saved.name)
    # Figures in the record do not make it another one.
    scored = with_scores(a_prefix(preview=jpeg()), {"x": 1.0}, {"by": "a test"})
    assert scored.preview and load_preview(scored, saved)


@pytest.mark.parametrize("made", ["comment", "huge", "wide", "png", "cut", "nothing", "folder", "link", "bomb"])
def test_what_others_put_there_is_bounded_and_shown_only_if_it_is_a_picture_of_the_prefix(saved, made, tmp_path):
    path, own = preview_path(saved), preview_path(saved).read_bytes()
    comment = Image.open(io.BytesIO(own)).info["comment"]
    if made in ("folder", "link"):
        path.unlink()
    if made == "folder":
        path.mkdir()
    elif made == "link":
        (tmp_path / "elsewhere").write_bytes(own)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        png = io.BytesIO()
        Image.new("RGB", (8, 8)).save(png, "PNG")
        path.write_bytes(
            {
                "comment": jpeg(comment=b"<script>alert(1)</script>"),
                "huge": jpeg(64, 64, comment=comment) + bytes(MOST_BYTES),
                "wide": jpeg(2049, 2, comment=comment),
                "png": png.getvalue(),
                "cut": own[: len(own) // 2],
                "nothing": b"",
                # A header that says 65,500 pixels a side, of which Pillow warns or raises.
                "bomb": own[: own.index(b"\xff\xc0") + 5] + b"\xff\xdc\xff\xdc" + own[own.index(b"\xff\xc0") + 9 :],
            }[made]
        )
    assert load_preview(load_prefix(saved), saved) == b""
    with pytest.raises(PrefixFileMissingError):
        library.picture([saved.parent], saved.name)
    library.delete([saved.parent], saved.name)


def test_what_is_no_picture_is_not_saved_and_stops_no_saving(tmp_path):
    prefix = a_prefix(preview=b"no picture")
    path = save_prefix(prefix, tmp_path / "one.safetensors")
    save_preview(prefix, path)
    assert [found.name for found in tmp_path.iterdir()] == ["one.safetensors"]
    assert pickle.loads(pickle.dumps(prefix)).preview == dataclasses.replace(prefix).preview == b"no picture"
