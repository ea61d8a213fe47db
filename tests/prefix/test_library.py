"""Without this module a prefix file could be lost, written over, or reached outside its folders."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from anonymize_faces.prefix import (
    Prefix,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixFileMissingError,
    PrefixNameError,
    PrefixRecord,
    library,
    load_prefix,
    save_prefix,
)
from anonymize_faces.prefix.file import prefix_bytes
from anonymize_faces.prefix.storage import MAX_FILE_BYTES


def one_prefix(family: str = "sd1", **widths: int) -> Prefix:
    vectors = {key: torch.randn(3, width) for key, width in (widths or {"l": 768}).items()}
    record = PrefixRecord(family=family, fingerprint="0" * 16, identities=5, scores={"similarity": 0.25}, name="mine")
    return Prefix(vectors, record)


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    """Two folders for prefix files, with one file beside them that is nobody's business."""
    (tmp_path / "secret.safetensors").write_bytes(prefix_bytes(one_prefix()))
    made = [tmp_path / "first", tmp_path / "second"]
    for root in made:
        root.mkdir()
    return made


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_list_tells_of_each_file_what_it_is_and_of_broken_ones_why(roots):
    save_prefix(one_prefix("sdxl", l=768, g=1280), roots[0] / "deep" / "xl.safetensors")
    torch.save({"x": torch.zeros(2, 768)}, roots[1] / "old.pt")
    (roots[1] / "broken.bin").write_bytes(b"nothing")
    with (roots[1] / "huge.bin").open("wb") as huge:
        huge.truncate(MAX_FILE_BYTES + 1)
    (roots[1] / "notes.txt").touch()
    told = {entry.name: entry.summary("SDXLRefiner") for entry in library.entries(roots)}
    assert list(told) == ["broken.bin", "deep/xl.safetensors", "huge.bin", "old.pt"]
    xl = told["deep/xl.safetensors"]
    assert (xl["vectors"], xl["encoders"], xl["family"], xl["title"]) == (3, {"g": 1280, "l": 768}, "SDXL", "mine")
    assert (xl["identities"], xl["scores"], xl["fault"], xl["fits"]) == (5, {"similarity": 0.25}, None, True)
    assert xl["bytes"] == (roots[0] / "deep" / "xl.safetensors").stat().st_size and xl["modified"].endswith("+00:00")
    assert (told["old.pt"]["family"], told["old.pt"]["fits"]) == ("SD1", False)
    assert "damaged" in told["broken.bin"]["fault"] and told["broken.bin"]["fits"] is False
    assert "larger than 64 MiB" in told["huge.bin"]["fault"]


def test_a_file_that_changes_is_told_anew(roots):
    path = save_prefix(one_prefix("sd1"), roots[0] / "p.safetensors")
    assert library.entry(roots, "p.safetensors").details()["record"]["family"] == "sd1"
    save_prefix(one_prefix("other"), path, overwrite=True)
    assert library.entry(roots, "p.safetensors").details()["record"]["family"] == "other"
    path.write_bytes(b"")
    assert library.entry(roots, "p.safetensors").details()["record"] is None


@pytest.mark.parametrize(
    ("family", "widths", "asked", "fits"),
    [
        ("sd1", {"l": 768}, "SD1", True),
        ("sd1", {"l": 768}, "sdxl", False),
        ("SDXL", {"l": 768, "g": 1280}, "sdxl", True),
        ("QwenImage", {"qwen25_7b": 3584}, "qwenimage", True),
        ("QwenImage", {"qwen25_7b": 3584}, "Lumina2", None),
        ("QwenImage", {"qwen25_7b": 3584}, "sd1", False),
        ("", {"l": 768}, "sd1", None),
        ("", {"l": 768}, "sdxl", False),
    ],
)
def test_whether_a_prefix_serves_a_family_is_told_where_it_can_be(roots, family, widths, asked, fits):
    save_prefix(one_prefix(family, **widths), roots[0] / "p.safetensors")
    assert library.entry(roots, "p.safetensors").summary(asked)["fits"] is fits
    assert library.entry(roots, "p.safetensors").summary()["fits"] is None


def test_what_is_taken_in_is_checked_and_written_in_our_own_format(roots):
    torch.save({"string_to_param": {"*": torch.ones(4, 768)}}, buffer := io.BytesIO())
    entry = library.add(roots, "people/alz.pt", buffer.getvalue())
    assert entry.name == "people/alz.safetensors" and entry.length == 4 and "Imported from" in entry.record.notes
    assert list(everything(roots[0])) == ["people/alz.safetensors"] and everything(roots[1]) == {}

    mine = one_prefix()
    library.add(roots, "mine.safetensors", prefix_bytes(mine))
    loaded = load_prefix(roots[0] / "mine.safetensors")
    assert torch.equal(loaded.vectors["l"], mine.vectors["l"]) and loaded.record == mine.record


@pytest.mark.parametrize("data", [b"", b"x" * 100, (10**9).to_bytes(8, "little"), b"PK\x03\x04" + b"\0" * 50])
@pytest.mark.parametrize("name", ["p.safetensors", "p.pt", "p.bin", "p.ckpt", "p"])
def test_what_is_no_prefix_is_not_taken_in(roots, name, data):
    with pytest.raises(PrefixFileError, match="cannot be used as a prefix"):
        library.add(roots, name, data)
    assert everything(roots[0]) == {}


def test_code_in_what_is_brought_is_refused_and_not_run(roots, tmp_path):
    class Malice:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'done'}",)

    torch.save({"x": Malice()}, buffer := io.BytesIO())
    with pytest.raises(PrefixFileError, match="holds code or objects"):
        library.add(roots, "p.pt", buffer.getvalue())
    assert not (tmp_path / "done").exists() and everything(roots[0]) == {}


def test_nothing_is_written_over_in_any_folder(roots):
    save_prefix(one_prefix(), roots[0] / "a.safetensors")
    save_prefix(one_prefix(), roots[1] / "b.safetensors")
    before = everything(roots[0]) | everything(roots[1])
    for taken in ("a", "b"):
        with pytest.raises(PrefixFileExistsError, match="already: choose another name"):
            library.add(roots, f"{taken}.safetensors", prefix_bytes(one_prefix()))
        with pytest.raises(PrefixFileExistsError, match="already: choose another name"):
            library.rename(roots, "a.safetensors", taken)
    assert everything(roots[0]) | everything(roots[1]) == before


def test_a_file_gets_another_name_in_its_own_folder_and_keeps_its_suffix(roots):
    torch.save({"x": torch.zeros(2, 768)}, roots[1] / "old.PT")
    before = (roots[1] / "old.PT").read_bytes()
    assert library.rename(roots, "old.PT", "new/name").name == "new/name.PT"
    assert library.rename(roots, "new/name.PT", "again.PT").name == "again.PT"
    assert everything(roots[1]) == {"again.PT": before} and everything(roots[0]) == {}
    library.delete(roots, "again.PT")
    assert library.names(roots) == []


@pytest.mark.parametrize("name", ["../secret.safetensors", "deep/../../secret.safetensors", "..\\secret.safetensors"])
@pytest.mark.parametrize("change", [library.entry, library.content, library.delete])
def test_names_that_lead_elsewhere_are_refused(roots, tmp_path, change, name):
    before = everything(tmp_path)
    with pytest.raises(PrefixNameError, match="cannot name a prefix file"):
        change(roots, name)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["../out", "/out", "a/" * 2000 + "out", "x" * 300, "con", "a\0b", ".hidden", ""])
def test_new_names_that_lead_elsewhere_or_cannot_be_stored_are_refused(roots, tmp_path, name):
    save_prefix(one_prefix(), roots[0] / "p.safetensors")
    before = everything(tmp_path)
    with pytest.raises(PrefixNameError, match="cannot name a prefix file"):
        library.rename(roots, "p.safetensors", name)
    with pytest.raises(PrefixNameError, match="cannot name a prefix file"):
        library.add(roots, name and name + ".safetensors", before["first/p.safetensors"])
    assert everything(tmp_path) == before


def test_links_are_not_changed_and_no_change_goes_through_one(roots, tmp_path):
    save_prefix(one_prefix(), roots[0] / "p.safetensors")
    (roots[0] / "out").symlink_to(tmp_path)
    (roots[0] / "link.safetensors").symlink_to(roots[0] / "p.safetensors")
    before = everything(tmp_path)
    for change in (library.entry, library.content, library.delete):
        with pytest.raises(PrefixFileError, match="link"):
            change(roots, "out/secret.safetensors")
    with pytest.raises(PrefixFileError, match="link"):
        library.delete(roots, "link.safetensors")
    with pytest.raises(PrefixFileError, match="link"):
        library.rename(roots, "p.safetensors", "out/p")
    with pytest.raises(PrefixFileError, match="link"):
        library.add(roots, "out/q.safetensors", before["first/p.safetensors"])
    assert everything(tmp_path) == before
    assert library.entry(roots, "link.safetensors").fault is None  # Within the folder, links may be read.


def test_files_of_other_kinds_are_none_of_ours(roots):
    (roots[0] / "notes.txt").write_text("private")
    for change in (library.entry, library.content, library.delete):
        with pytest.raises(PrefixFileMissingError, match=r"no prefix file 'notes\.txt'"):
            change(roots, "notes.txt")
    assert (roots[0] / "notes.txt").exists()


def test_of_many_who_rename_one_file_at_once_one_succeeds(roots):
    save_prefix(one_prefix(), roots[0] / "p.safetensors")

    def rename(number: int) -> bool:
        try:
            library.rename(roots, "p.safetensors", f"q{number}")
        except PrefixFileMissingError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(rename, range(32))) == 1
    assert len(everything(roots[0])) == 1


def test_of_many_who_bring_a_file_of_one_name_one_succeeds(roots):
    data = prefix_bytes(one_prefix())

    def bring(_: int) -> bool:
        try:
            library.add(roots, "p.safetensors", data)
        except PrefixFileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(bring, range(32))) == 1
    assert everything(roots[0]) == {"p.safetensors": data}
