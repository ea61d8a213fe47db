"""Pictures from files: every kind that cameras and programs write, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from anonymize_faces.faces import picture_files
from anonymize_faces.faces.picture_files import pictures_below, read_picture
from anonymize_faces.prefix.errors import MeasurementError

ROWS = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOURED = np.stack([ROWS, ROWS + 5, ROWS + 9], -1)


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    for orientation, turned in ((1, COLOURED), (3, COLOURED[::-1, ::-1]), (6, np.rot90(COLOURED, -1))):
        image = Image.fromarray(COLOURED)
        image.getexif()[0x0112] = orientation
        image.save(tmp_path / "turned.png", exif=image.getexif())
        assert np.array_equal(read_picture(tmp_path / "turned.png"), turned)


def test_white_shows_through_where_it_is_transparent(tmp_path):
    pixels = np.dstack([COLOURED, np.full((4, 6), 255, np.uint8)])
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    read = read_picture(tmp_path / "alpha.png")
    assert read[0, 0].tolist() == [255, 255, 255] and np.array_equal(read[1:], COLOURED[1:])


def test_a_phones_photo_with_more_pictures_behind_it_is_the_photo(tmp_path):
    first, behind = Image.fromarray(COLOURED), Image.fromarray(255 - COLOURED).resize((3, 2))
    first.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[behind], quality=100, subsampling=0)
    with Image.open(tmp_path / "photo.jpg") as image:
        assert image.n_frames == 2
    assert np.abs(read_picture(tmp_path / "photo.jpg").astype(int) - COLOURED).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    Image.fromarray(ROWS.astype(np.uint16) * 257).save(tmp_path / f"deep.{suffix}")
    read = read_picture(tmp_path / f"deep.{suffix}")
    assert read.dtype == np.uint8 and np.abs(read[..., 0].astype(int) - ROWS).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "CMYK", "YCbCr", "RGBA", "F"])
def test_every_mode_is_read(tmp_path, mode):
    grey = Image.fromarray(ROWS)
    image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    path = tmp_path / f"mode.{'tif' if mode in ('CMYK', 'YCbCr', 'F', 'PA') else 'png'}"
    try:
        image.save(path)
    except OSError:
        pytest.skip("Pillow writes no such file")
    read = read_picture(path)
    assert read.shape == (4, 6, 3) and read.flags.writeable
    assert mode == "1" or np.abs(read.mean(-1) - ROWS).max() <= 2


def test_what_is_no_single_sound_picture_is_refused(tmp_path, monkeypatch):
    Image.fromarray(COLOURED).save(tmp_path / "sound.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "half.png")
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.png").write_text("words", encoding="utf-8")
    (tmp_path / "empty.png").touch()
    frames = [Image.fromarray(COLOURED), Image.fromarray(255 - COLOURED)]
    for suffix in ("gif", "png", "webp", "tif"):
        frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:])
    for name, words in (
        ("half.png", "damaged"),
        ("words.png", "no picture"),
        ("nowhere.png", "There is no file 'nowhere.png'"),
        ("empty.png", "no picture"),
        *((f"moving.{suffix}", "animated or has several pages") for suffix in ("gif", "png", "webp", "tif")),
    ):
        with pytest.raises(MeasurementError, match=words):
            read_picture(tmp_path / name)
    # Other packs tell Pillow to fill up what is missing, and leave it at that.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(MeasurementError, match="damaged"):
        read_picture(tmp_path / "half.png")
    assert ImageFile.LOAD_TRUNCATED_IMAGES
    monkeypatch.setattr(picture_files, "MOST_PIXELS", 23)
    with pytest.raises(MeasurementError, match="megapixels"):
        read_picture(tmp_path / "sound.png")


def test_pictures_are_found_by_their_names_in_order(tmp_path: Path):
    for name in ("b.PNG", "a/c.jpeg", ".hidden.png", ".cache/d.png", "e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in pictures_below(tmp_path)] == ["a/c.jpeg", "b.PNG"]
