"""Folders of photos: names are kept, PNG is written, and what cannot be protected is told by its name."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from anonymize_faces.photos import folders
from anonymize_faces.photos.folders import photo_of, photos_in, reread, unread_in, write_photos, write_pictures
from anonymize_faces.photos.transforms import altered, jpeg
from anonymize_faces.prefix.errors import PhotoError


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_names_are_kept_and_what_exif_turns_is_turned(tmp_path: Path, picture: Image.Image) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "in" / "turned.png", exif=exif)
    picture.save(tmp_path / "in" / "sub" / "B.jpeg", quality=95)
    photos = photos_in(tmp_path / "in")
    assert [photo.name for photo in photos] == ["sub/B", "turned"]
    assert photos[1].pixels.shape == (60, 40, 3)
    other = [255 - photo.pixels for photo in photos]
    written = dict(write_photos(photos, other, tmp_path / "out"))
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == ["sub/B.png", "turned.png"]
    for (path, data), pixels in zip(written.items(), other, strict=True):
        assert np.array_equal(reread(data), pixels) and path.read_bytes() == data
        assert not Image.open(path).getexif()


def test_what_is_transparent_stays_so(tmp_path: Path, picture: Image.Image) -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:20] = 200
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "clear.png")
    (photo,) = photos_in(tmp_path)
    ((path, _),) = write_photos([photo], [photo.pixels], tmp_path / "out")
    assert np.array_equal(np.asarray(Image.open(path))[..., 3], alpha)


def test_what_colours_mean_is_kept(tmp_path: Path, picture: Image.Image) -> None:
    """Without its profile a photo of a phone, in Display P3, looks pale; one of inks or of grey is of no use to RGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, mode in (("a", "RGB"), ("b", "CMYK"), ("c", "L")):
        picture.convert(mode).save(tmp_path / f"{name}.jpg", icc_profile=profile)
    picture.save(tmp_path / "d.png")
    photos = photos_in(tmp_path)
    written = [data for _, data in write_photos(photos, [photo.pixels for photo in photos], tmp_path / "out")]
    assert [Image.open(io.BytesIO(data)).info.get("icc_profile") for data in written] == [profile, None, None, None]


def test_photographs_that_are_passed_over_are_named(tmp_path: Path, picture: Image.Image) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/IMG_1.HEIC", "b.dng", ".hidden.heic", "c.txt"):
        (tmp_path / name).touch()
    picture.save(tmp_path / "a.png")
    assert unread_in(tmp_path) == ["b.dng", "sub/IMG_1.HEIC"] and len(photos_in(tmp_path)) == 1


def deep_tiff(pixels: np.ndarray) -> bytes:
    """A TIFF of 16 bits a colour, of uint16 `[height, width, 3]`: Pillow reads such files, and writes none."""
    data = pixels.astype("<u2").tobytes()
    height, width = pixels.shape[:2]
    bits = 8 + 2 + 9 * 12 + 4  # Where the three numbers of bits lie, and behind them the colours.
    tags = {256: (3, width), 257: (3, height), 259: (3, 1), 262: (3, 2), 277: (3, 3), 278: (3, height)}
    tags |= {258: (3, bits), 273: (4, bits + 6), 279: (4, len(data))}
    entries = [
        struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, value) for tag, (kind, value) in sorted(tags.items())
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    return head + struct.pack("<3H", 16, 16, 16) + data


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda path, picture: (path / "a.tif").write_bytes(deep_tiff(np.full((40, 60, 3), 40000, np.uint16))),
            "more than 8 bits",
        ),
        (
            lambda path, picture: [picture.save(path / name) for name in ("IMG.png", "img.jpg")],
            "Several photos are called",
        ),
        (
            lambda path, picture: picture.save(path / "a.webp", save_all=True, append_images=[picture.rotate(90)]),
            "animated",
        ),
        (
            lambda path, picture: Image.fromarray(np.full((40, 40), 40000, np.uint16)).save(path / "a.png"),
            "more than 8 bits",
        ),
        (lambda path, picture: (path / "a.png").write_bytes(b"no picture"), "is no picture"),
        (lambda path, picture: (path / "a.txt").write_text("nothing"), "There are no photos in"),
        (
            lambda path, picture: [picture.save(path / f"a.{kind}") for kind in ("png", "jpg")],
            "Several photos are called",
        ),
    ],
)
def test_what_cannot_be_protected_is_told_with_a_remedy(
    make: object, words: str, tmp_path: Path, picture: Image.Image
) -> None:
    make(tmp_path, picture)
    with pytest.raises(PhotoError, match=words):
        photos_in(tmp_path)


def test_folders_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="is no folder"):
        photos_in(tmp_path / "nowhere")
    with pytest.raises(PhotoError, match="There is no photo"):
        photo_of(tmp_path / "nowhere.png")


def test_jpeg_while_protecting_is_jpeg_and_its_gradient_passes(picture: Image.Image) -> None:
    import torch

    pixels = np.asarray(picture)
    assert jpeg(pixels).shape == pixels.shape and not np.array_equal(jpeg(pixels), pixels)
    kinds = set()
    for step in range(40):
        given = (torch.from_numpy(pixels.copy()).float() / 255).requires_grad_()
        made = altered(given, "re-saving and resizing", 0, 0, step)
        (gradient,) = torch.autograd.grad(made.sum(), [given])
        assert made.shape == given.shape and torch.isfinite(gradient).all() and gradient.abs().sum() > 0
        kinds.add(bool(torch.equal(made, given)))
    assert kinds == {True, False}


def test_fewer_pictures_replace_all_that_were_drawn_before(tmp_path: Path) -> None:
    write_pictures(np.zeros((4, 8, 8, 3), np.uint8), tmp_path)
    (tmp_path / "2024.jpg").touch()
    (tmp_path / "mine 4.png").touch()
    write_pictures(np.full((2, 8, 8, 3), 255, np.uint8), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001.png", "002.png", "2024.jpg", "mine 4.png"]
    assert reread((tmp_path / "002.png").read_bytes()).min() == 255


def test_a_full_disk_leaves_drawn_pictures_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(np.zeros((2, 8, 8, 3), np.uint8), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wrote = folders.put_whole

    def full(data: bytes, path: Path, overwrite: bool) -> None:
        if path.name == "002.png":
            raise OSError(28, "No space left on device")
        wrote(data, path, overwrite)

    monkeypatch.setattr(folders, "put_whole", full)
    with pytest.raises(OSError, match="No space"):
        write_pictures(np.full((2, 8, 8, 3), 255, np.uint8), tmp_path)
    assert (tmp_path / "002.png").read_bytes() == before["002.png"]
