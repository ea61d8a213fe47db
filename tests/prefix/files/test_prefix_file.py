"""Prefix files are written whole, never overwritten unasked, and checked when they are read."""

from __future__ import annotations

import contextlib
import json
import os
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymize_faces.prefix import (
    Prefix,
    PrefixFileError,
    PrefixFileExistsError,
    PrefixRecord,
    load_prefix,
    save_prefix,
    seal,
)

RECORD = PrefixRecord(family="sd1", fingerprint="abc", settings={"vectors": 3}, scores={"preservation": 0.1})


@pytest.fixture
def prefix():
    return Prefix({"l": torch.randn(3, 8), "g": torch.randn(3, 12)}, RECORD)


def header_and_body(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def sound_bytes(record: str) -> bytes:
    return safetensors.torch.save({"l": torch.zeros(3, 8)}, metadata={"record": record})


def test_a_saved_prefix_comes_back_bit_for_bit(prefix, tmp_path):
    path = save_prefix(prefix, tmp_path / "new" / "folder" / "p.safetensors")
    loaded = load_prefix(path)
    assert loaded.record == prefix.record
    assert loaded.vectors.keys() == prefix.vectors.keys()
    assert all(torch.equal(loaded.vectors[key], prefix.vectors[key]) for key in prefix.vectors)


def test_saving_leaves_the_file_and_nothing_else(prefix, tmp_path):
    save_prefix(prefix, tmp_path / "p.safetensors")
    assert os.listdir(tmp_path) == ["p.safetensors"]


def test_the_file_can_be_read_by_whom_the_user_lets_read_files(prefix, tmp_path):
    (tmp_path / "other").touch()
    path = save_prefix(prefix, tmp_path / "p.safetensors")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_nothing_is_overwritten_unless_asked_for(prefix, tmp_path):
    path = save_prefix(prefix, tmp_path / "p.safetensors")
    before = path.read_bytes()
    with pytest.raises(PrefixFileExistsError, match="choose another name"):
        save_prefix(Prefix({"l": torch.ones(1, 2)}, RECORD), path)
    assert path.read_bytes() == before
    save_prefix(Prefix({"l": torch.ones(1, 2)}, RECORD), path, overwrite=True)
    assert load_prefix(path).length == 1
    assert os.listdir(tmp_path) == ["p.safetensors"]


def test_a_folder_that_is_a_file_is_reported(prefix, tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(PrefixFileError, match="could not be saved"):
        save_prefix(prefix, tmp_path / "folder" / "p.safetensors")


def test_a_name_of_another_kind_of_file_is_refused(prefix, tmp_path):
    with pytest.raises(PrefixFileError, match=r"\.safetensors"):
        save_prefix(prefix, tmp_path / "p.pt")


def test_a_record_or_vectors_that_were_changed_after_saving_are_noticed(prefix, tmp_path):
    path = save_prefix(prefix, tmp_path / "p.safetensors")
    for old, new in ((b'\\"steps\\": 0', b'\\"steps\\": 9'), (b'\\"sha256\\"', b'\\"sha257\\"')):
        assert old in path.read_bytes()
        (tmp_path / "changed.safetensors").write_bytes(path.read_bytes().replace(old, new))
        with pytest.raises(PrefixFileError, match="changed or damaged after it was saved"):
            load_prefix(tmp_path / "changed.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(data)
    with pytest.raises(PrefixFileError, match="changed or damaged after it was saved"):
        load_prefix(tmp_path / "changed.safetensors")


def test_a_file_that_was_saved_before_there_were_digests_is_read(tmp_path):
    (tmp_path / "p.safetensors").write_bytes(sound_bytes(RECORD.to_json()))
    assert load_prefix(tmp_path / "p.safetensors").record == RECORD


def test_a_later_version_may_add_to_the_record(tmp_path):
    fields = json.loads(RECORD.to_json()) | {"weather": "fine"}
    digest = seal({"l": torch.zeros(3, 8)}, fields)
    (tmp_path / "p.safetensors").write_bytes(sound_bytes(json.dumps(fields | {"sha256": digest})))
    assert load_prefix(tmp_path / "p.safetensors").record == RECORD


def test_the_same_prefix_makes_the_same_bytes(prefix, tmp_path):
    paths = [save_prefix(prefix, tmp_path / f"{n}.safetensors") for n in range(8)]
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(PrefixFileError, match=r"no prefix file 'gone\.safetensors'.*put it into"):
        load_prefix(tmp_path / "gone.safetensors")


def test_a_folder_a_pipe_and_a_link_to_nothing_are_no_prefixes(tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nothing")
    for path in tmp_path.iterdir():
        with pytest.raises(PrefixFileError, match=r"no prefix file|is a folder: name a prefix file"):
            load_prefix(path)


def test_a_file_of_another_kind_is_no_prefix(tmp_path):
    (tmp_path / "p.ckpt").touch()
    with pytest.raises(PrefixFileError, match=r"ends in none of \.safetensors, \.pt, \.bin"):
        load_prefix(tmp_path / "p.ckpt")


@pytest.mark.parametrize(
    "data",
    {
        "empty": b"",
        "seven bytes": b"1234567",
        "header longer than the file": struct.pack("<Q", 10_000) + b"{}",
        "header of two gigabytes": struct.pack("<Q", 2**31) + b"{}",
        "absurd header": struct.pack("<Q", 2**63) + b"{}",
        "header that is no JSON": header_and_body(b"nonsense"),
        "header that is a list": header_and_body([]),
        "header nested too deep": header_and_body(b"[" * 100_000),
        "no tensors, no record": header_and_body({}),
        "no record": safetensors.torch.save({"l": torch.zeros(3, 8)}),
        "record that is no record": sound_bytes("[]"),
        "record of a later version": sound_bytes(
            RECORD.to_json().replace('"format_version": 1', '"format_version": 2')
        ),
        "offsets beyond the file": header_and_body({"l": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 324]}}),
        "negative shape": header_and_body({"l": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        "unknown dtype": header_and_body({"l": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        "metadata that is no table": header_and_body({"__metadata__": 3}),
        "half precision": safetensors.torch.save({"l": torch.zeros(3, 8).half()}, {"record": RECORD.to_json()}),
        "not finite": safetensors.torch.save({"l": torch.full((3, 8), torch.nan)}, {"record": RECORD.to_json()}),
        "other lengths": safetensors.torch.save(
            {"l": torch.zeros(3, 8), "g": torch.zeros(2, 8)}, {"record": RECORD.to_json()}
        ),
        "pickle": b"\x80\x04\x95" + b"0" * 100,
    }.items(),
    ids=lambda item: item[0],
)
def test_a_file_that_is_no_prefix_is_refused_by_our_own_error(data, tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes(data[1])
    with pytest.raises(PrefixFileError, match=r"'p\.safetensors' cannot be used as a prefix"):
        load_prefix(path)


def test_a_huge_file_is_refused_without_reading_it_whole(tmp_path):
    path = tmp_path / "p.safetensors"
    with path.open("wb") as huge:
        huge.truncate(2**40)
    with pytest.raises(PrefixFileError, match="larger than"):
        load_prefix(path)


@settings(max_examples=300, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.none() | st.floats(0, 1))
def test_damage_anywhere_in_a_file_never_raises_a_foreign_error(tmp_path_factory, position, value, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    data = bytearray(sound_bytes(RECORD.to_json()))
    data[int(position * len(data))] = value
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    with contextlib.suppress(PrefixFileError):
        assert isinstance(load_prefix(path), Prefix)
