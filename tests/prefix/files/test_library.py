"""Prefix files are not lost, written over, or reached outside their folders."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch

from anonymize_faces.prefix import (
    Prefix,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixFileMissingError,
    PrefixNameError,
    PrefixRecord,
    load_prefix,
    save_prefix,
)
from anonymize_faces.prefix.files import library
from anonymize_faces.prefix.files.prefix_file import prefix_bytes
from anonymize_faces.prefix.files.storage import MAX_FILE_BYTES
from anonymize_faces.tests.support.malice import Malice
from anonymize_faces.tests.support.prefixes import random_prefix


def one_prefix(family: str = "sd1", **widths: int) -> Prefix:
    told = {"identities": 5, "scores": {"similarity": 0.25}, "name": "mine"}
    return random_prefix(widths or {"l": 768}, 3, family=family, **told)


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
    torch.save({"x": Malice(tmp_path / "done")}, buffer := io.BytesIO())
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


BAD_NAMES = {
    "a: b.safetensors": "not allowed in file names",
    "q?mark.pt": "not allowed in file names",
    " leading.safetensors": "begins or ends with a space",
    "con.safetensors": "Windows keeps the name",
    "a\\b.safetensors": "backslash",
    "1/2/3/4/5/6/7/8/9/deep.safetensors": "leads too deep",
    "x" * 210 + ".safetensors": "too long",
    os.fsdecode("光".encode("gbk")) + ".safetensors": "not allowed in file names",
}


def place(folder: Path, name: str, data: bytes) -> None:
    """A file of any name that this system can store."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize(("name", "reason"), BAD_NAMES.items())
def test_a_file_whose_name_is_forbidden_is_not_offered_and_told_of_refused_and_renamed_by_one_rule(roots, name, reason):
    prefix = one_prefix()
    place(roots[1], name, prefix_bytes(prefix))
    listed = library.entries(roots)[0].name
    json.dumps(listed, ensure_ascii=False).encode()
    assert library.names(roots) == [] and library.choices(roots) == [library.NONE_YET]
    for chosen in ("", library.NONE_YET, library.NOT_CHOSEN):
        with pytest.raises(PrefixNameError, match=rf"because of its name: .*{reason}.*Rename it"):
            library.chosen(roots, chosen)
    with pytest.raises(PrefixNameError, match=rf"cannot be used because of its name: .*{reason}.*Rename it") as queued:
        library.chosen(roots, listed)
    (told,) = library.entries(roots)
    assert (told.name, told.fault, told.record) == (listed, str(queued.value), None)
    assert library.entry(roots, listed) == told
    str(queued.value).encode()
    assert library.rename(roots, listed, "good").fault is None
    assert torch.equal(load_prefix(library.find(roots, library.names(roots)[0])).vectors["l"], prefix.vectors["l"])


def test_a_file_whose_name_is_forbidden_can_be_removed(roots):
    for name in BAD_NAMES:
        place(roots[0], name, b"")
    for told in library.entries(roots):
        library.delete(roots, told.name)
    assert everything(roots[0]) == {}


def test_what_is_no_plain_file_is_not_listed_and_nothing_waits_for_it(roots):
    save_prefix(one_prefix(), roots[0] / "sound.safetensors")
    (roots[0] / "folder.safetensors").mkdir()
    os.mkfifo(roots[0] / "pipe.pt")
    (roots[0] / "loop.pt").symlink_to(roots[0] / "loop.pt")
    (roots[0] / "nothing.bin").symlink_to(roots[0] / "not there")
    (roots[0] / "device.bin").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(roots[0] / "socket.pt"))
    assert library.names(roots) == [entry.name for entry in library.entries(roots)] == ["sound.safetensors"]
    for name in ("folder.safetensors", "pipe.pt", "loop.pt", "nothing.bin", "device.bin", "socket.pt"):
        for read in (library.find, library.entry, library.content):
            with pytest.raises(PrefixFileMissingError, match=f"no prefix file '{name}'"):
                read(roots, name)
    for name in ("loop.pt", "nothing.bin"):
        with pytest.raises(PrefixFileError, match="is a link"):
            library.delete(roots, name)


def test_a_pipe_that_takes_a_files_place_before_it_is_opened_is_not_waited_for(roots, monkeypatch):
    os.mkfifo(roots[0] / "p.pt")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(PrefixFileError, match="no plain file"):
        load_prefix(roots[0] / "p.pt")


def test_folders_without_end_trouble_nobody(roots):
    save_prefix(one_prefix(), roots[0] / "sound.safetensors")
    made = [roots[0] / "a"]
    while len(made) < 1200:
        made.append(made[-1] / "a")
    for folder in made:
        folder.mkdir()
    try:
        assert library.names(roots) == [entry.name for entry in library.entries(roots)] == ["sound.safetensors"]
    finally:
        for folder in reversed(made):  # Nobody who tidies up later could.
            folder.rmdir()


def test_a_link_that_leads_elsewhere_is_told_of_and_nothing_behind_it(roots, tmp_path):
    (roots[0] / "out.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (told,) = library.entries(roots)
    assert "leads out of" in told.fault and (told.size, told.modified, told.record) == (0, "", None)


def record_text(**fields: object) -> str:
    """A record as a file may have it, whatever our own reader would say to it."""
    return json.dumps({"family": "sd1", "fingerprint": "", "format_version": 1} | fields)


HUGE = "9" * 400
RECORDS = {
    "a score of 400 digits": record_text(scores={"a": 1}).replace('"a": 1', f'"a": {HUGE}'),
    "a score of 5000 digits": record_text(scores={"a": 1}).replace('"a": 1', f'"a": {HUGE * 13}'),
    "steps of 400 digits": record_text(steps=1).replace('"steps": 1', f'"steps": {HUGE}'),
    "people of 400 digits": record_text(identities=1).replace('"identities": 1', f'"identities": {HUGE}'),
    "a setting of 400 digits": record_text(settings={"a": 1}).replace('"a": 1', f'"a": {HUGE}'),
    "a score that is not a number": record_text(scores={"a": float("nan")}),
    "an infinite setting": record_text(settings={"a": float("inf")}),
    "a number out of range": record_text(scores={"a": 1}).replace('"a": 1', '"a": 1e999'),
    "settings nested 500 deep": record_text(settings={"a": 1}).replace('"a": 1', '"a": ' + "[" * 500 + "]" * 500),
    "settings nested 90,000 deep": record_text(settings={"a": 1}).replace('"a": 1', '"a": ' + "[" * 90_000),
    "half a character in the name": record_text(name="\ud800"),
    "half a character in a setting": record_text(settings={"\udfff": 1}),
    "a NUL in the date": record_text(date="\0"),
    "a date of a million characters": record_text(date="2" * 10**6),
    "a name of a hundred thousand": record_text(name="n" * 10**5),
    "forty thousand scores": record_text(scores={str(n): n for n in range(40_000)}),
    "a field twice": record_text()[:-1] + ', "steps": 1, "steps": 2}',
    "a setting twice": record_text(settings={"a": 1}).replace('"a": 1', '"a": 1, "a": 2'),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))
def test_whatever_a_record_holds_is_that_files_own_fault(roots, record):
    save_prefix(one_prefix(), roots[0] / "sound.safetensors")
    data = safetensors.torch.save({"l": torch.zeros(3, 768)}, metadata={"record": record})
    (roots[0] / "odd.safetensors").write_bytes(data)
    told = {entry.name: entry.details("sd1") for entry in library.entries(roots)}
    assert told["sound.safetensors"]["fault"] is None
    assert "'odd.safetensors' cannot be used as a prefix: " in told["odd.safetensors"]["fault"]
    assert len(json.dumps(told, allow_nan=False).encode()) < 4000
    json.dumps(told, ensure_ascii=False).encode()
    for read in (
        lambda: library.add(roots, "new.safetensors", data),
        lambda: load_prefix(roots[0] / "odd.safetensors"),
    ):
        with pytest.raises(PrefixFileError, match="cannot be used as a prefix"):
            read()
    assert set(everything(roots[0])) == {"odd.safetensors", "sound.safetensors"}


def test_a_file_that_makes_a_reader_fail_in_a_new_way_is_that_files_own_fault(roots, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    save_prefix(one_prefix(), roots[0] / "p.safetensors")
    monkeypatch.setattr("anonymize_faces.prefix.files.prefix_file.read_safetensors", fail)
    (told,) = library.entries(roots)
    assert "makes no sense (ZeroDivisionError)" in told.fault


@pytest.mark.parametrize("seconds", [2.0**38, 2.0**60, 2.0**100, -(2.0**60)])
def test_files_dated_out_of_all_years_are_listed_without_a_date(roots, monkeypatch, seconds):
    path = save_prefix(one_prefix(), roots[0] / "p.safetensors")
    real = os.stat_result(path.stat())  # Few file systems keep such dates.
    odd = os.stat_result([seconds if place == 8 else value for place, value in enumerate(real)])
    monkeypatch.setattr(Path, "stat", lambda *_, **__: odd)
    (told,) = library.entries(roots)
    assert (told.modified, told.fault) == ("", None)


def test_files_that_grow_and_vanish_while_they_are_listed_trouble_nobody(roots):
    sound = prefix_bytes(one_prefix())
    stop = threading.Event()

    def restless(number: int) -> None:
        path = roots[0] / f"{number}.safetensors"
        while not stop.is_set():
            path.write_bytes(sound[: len(sound) // 2])
            path.write_bytes(sound)
            path.unlink()

    threads = [threading.Thread(target=restless, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            for entry in library.entries(roots):
                assert entry.fault is None or "'" in entry.fault
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may read everything")
def test_a_file_that_may_not_be_read_is_that_files_own_fault(roots):
    save_prefix(one_prefix(), roots[0] / "sound.safetensors")
    closed = save_prefix(one_prefix(), roots[0] / "closed.safetensors")
    closed.chmod(0)
    code = (
        "import sys; from pathlib import Path; from anonymize_faces.prefix.files import library\n"
        "for entry in library.entries([Path(sys.argv[1])]): print(entry.name, entry.fault)"
    )
    command = [sys.executable, "-c", code, str(roots[0])]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", *command]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "closed.safetensors 'closed.safetensors' cannot be read (Permission denied)" in told
    assert "sound.safetensors None" in told


def test_what_is_taken_in_can_be_read_again(roots):
    notes = "é" * 99_000  # 600 KB if each were written as an escape.
    record = json.dumps({"family": "sd1", "fingerprint": "", "format_version": 1, "notes": notes}, ensure_ascii=False)
    data = safetensors.torch.save({"l": torch.zeros(3, 768)}, metadata={"record": record})
    taken = library.add(roots, "accents.safetensors", data)
    assert taken.fault is None and taken.record.notes == notes


def test_what_could_not_be_read_again_is_not_written(roots):
    settings = {"words": "\x01" * 180_000}  # Six characters each in JSON, and seven inside of a header.
    prefix = Prefix({"l": torch.zeros(3, 768)}, PrefixRecord(family="sd1", fingerprint="", settings=settings))
    with pytest.raises(PrefixFileError, match=r"could not be read again .*: shorten"):
        save_prefix(prefix, roots[0] / "p.safetensors")
    assert everything(roots[0]) == {}


def test_the_newest_of_a_name_is_the_file_that_was_written_last(roots):
    names = ["people", "people_2", "people_10", "people_3_4", "other", "deep/people", "deep/people_7"]
    for age, name in enumerate(names):
        path = save_prefix(one_prefix(), roots[0] / f"{name}.safetensors")
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    listed = library.names(roots)
    assert library.newest_choices(listed) == ["deep/people (newest)", "people (newest)"]
    assert library.newest_choices(["demo people.safetensors", "one.pt"]) == ["demo people (newest)"]
    assert library.newest(roots, "people (newest)") == "people_10.safetensors"
    assert library.newest(roots, "deep/people (newest)") == "deep/people_7.safetensors"
    assert library.newest(roots, "other (newest)") == "other.safetensors"
    assert library.newest(roots, "people.safetensors") == "people.safetensors"
    os.utime(roots[0] / "people.safetensors", (2_000_000, 2_000_000))
    assert library.chosen(roots, "people (newest)").name == "people.safetensors"
    for name in ("gone (newest)", " (newest)", "../people (newest)", ".* (newest)"):
        with pytest.raises(PrefixFileMissingError):
            library.chosen(roots, name)
