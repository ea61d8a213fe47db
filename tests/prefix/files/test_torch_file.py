"""A file of torch runs no code, fills no memory, and shows no vectors that it does not hold."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from anonymize_faces.prefix import PrefixFileError, load_prefix
from anonymize_faces.tests.support.malice import Malice


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    return zipped({**entries_of(saved({"x": torch.zeros(2, 768)})), "archive/data.pkl": pickled})


@pytest.fixture
def refused(tmp_path):
    """Loads bytes as a file of torch and returns the error, which must be ours."""

    def refused(data: bytes, name: str = "p.pt") -> str:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PrefixFileError, match=rf"'{name}' cannot be used as a prefix: .*Choose another") as error:
            load_prefix(tmp_path / name)
        return str(error.value)

    return refused


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["p.pt", "p.bin"])
def test_code_in_a_pickle_is_not_executed(refused, tmp_path, protocol, name):
    for content in (Malice(tmp_path / "done"), {"string_to_param": {"*": Malice(tmp_path / "done")}}):
        error = refused(with_pickle(pickle.dumps(content, protocol)), name)
        assert "code or objects" in error
        refused(pickle.dumps(content, protocol), name)  # As a bare pickle, no zip around it.
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\neval\n(X\x0a\x00\x00\x00open('/x')tR.",
        b"(S'touch /tmp/x'\nios\nsystem\n.",
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x82\x01.",
        b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"ctorch._utils\n_rebuild_qtensor\n)R.",
        b"ctorch\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R.",
        b"ctorch.nn.modules.container\nSequential\n)\x81.",
    ],
    ids=["eval", "inst", "reduce", "stack_global", "extension", "huge bytearray", "qtensor", "huge storage", "module"],
)
def test_whatever_calls_something_else_than_torch_needs_for_tensors_is_refused(refused, call):
    assert "code or objects" in refused(with_pickle(call))


def test_the_message_does_not_advise_to_trust_the_file(refused):
    error = refused(with_pickle(b"ccollections\nOrderedDict\nK\x01\x85R."))
    assert "weights_only" not in error and "trust" not in error


def lie(data: bytes, *replacements: tuple[bytes, bytes]) -> bytes:
    entries = entries_of(data)
    for old, new in replacements:
        assert old in entries["archive/data.pkl"]
        entries["archive/data.pkl"] = entries["archive/data.pkl"].replace(old, new)
    return zipped(entries)


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def short(value: int) -> bytes:
    return b"M" + struct.pack("<H", value)


SHAPE = b"K\x02" + short(768) + b"\x86"


def test_a_tensor_larger_than_its_bytes_is_refused(refused):
    data = saved({"x": torch.zeros(2, 768)})
    longer = lie(data, (short(1536), number(4 * 1536)), (SHAPE, b"K\x08" + short(768) + b"\x86"))
    assert "as large as it claims" in refused(longer)
    assert "as large as it claims" in refused(lie(data, (short(1536), number(2**31 - 1))))
    assert "as large as it claims" in refused(lie(data, (b"torch\nFloatStorage", b"torch\nHalfStorage")))
    assert "as large as it claims" in refused(lie(data, (b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x007")))
    refused(lie(data, (SHAPE, b"K\x08" + short(768) + b"\x86")))


def test_a_count_that_is_not_written_where_torch_writes_it_is_refused(refused):
    # The count comes out of the memo instead, where a reader of the pickle's text would not look.
    data = lie(saved({"x": torch.zeros(2, 768)}), (short(1536), number(2**30) + b"q\xf0h\xf0"))
    assert "as large as it claims" in refused(data)


def test_a_tensor_that_was_saved_on_another_device_comes_in(tmp_path):
    data = lie(saved({"x": torch.ones(2, 768)}), (b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    (tmp_path / "p.pt").write_bytes(data)
    assert torch.equal(load_prefix(tmp_path / "p.pt").vectors["l"], torch.ones(2, 768))


def test_a_bomb_is_refused_before_it_is_unpacked(refused):
    zeros = bytes(2**27)
    entries = entries_of(saved({"x": torch.zeros(2, 768)}))
    bomb = zipped({**entries, "archive/data/0": zeros}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "more than a prefix can" in refused(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB
    assert "compressed" in refused(zipped(entries, zipfile.ZIP_DEFLATED))


def test_an_archive_of_many_entries_is_refused(refused):
    entries = entries_of(saved({"x": torch.zeros(2, 768)}))
    assert "more than" in refused(zipped({**entries, **{f"archive/data/{n}": b"" for n in range(1, 100)}}))


def test_a_pickle_far_too_long_is_refused(refused):
    assert "far more than vectors" in refused(with_pickle(b"\x80\x02" + b"]" * 2**17 + b"."))


def test_nesting_without_end_is_refused(refused):
    refused(with_pickle(b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b"."))


def test_two_entries_of_one_name_are_refused(refused):
    entries = entries_of(saved({"x": torch.zeros(2, 768)}))
    buffer = io.BytesIO(zipped(entries))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("archive/data.pkl", b"N.")
    assert "two entries of one name" in refused(buffer.getvalue())


def test_an_archive_that_is_not_of_torch_is_refused(refused):
    assert "not one of torch" in refused(zipped({"readme": b"hello"}))
    assert "not one of torch" in refused(zipped({}))
    entries = entries_of(saved({"x": torch.zeros(2, 768)}))
    del entries["archive/data/0"]
    assert "as large as it claims" in refused(zipped(entries))


def test_entries_named_to_lead_elsewhere_are_not_written_anywhere(tmp_path):
    vectors = torch.randn(2, 768)
    entries = entries_of(saved({"x": vectors}))
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    (folder / "p.pt").write_bytes(zipped({**entries, "../../up": b"", "/tmp/anonymize_faces_up": b""}))
    assert torch.equal(load_prefix(folder / "p.pt").vectors["l"], vectors)
    assert os.listdir(tmp_path) == ["deep"] and os.listdir(folder) == ["p.pt"]
    assert not Path("/tmp/anonymize_faces_up").exists()


def test_a_damaged_byte_of_a_vector_is_noticed(refused):
    data = bytearray(saved({"x": torch.ones(2, 768)}))
    position = data.index(struct.pack("<f", 1.0) * 8) + 17
    data[position] ^= 1
    assert "damaged" in refused(bytes(data))


def test_a_file_older_than_the_zip_format_is_refused_with_the_way_out(refused, tmp_path):
    torch.save({"x": torch.zeros(2, 768)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "older than 1.6: if you trust it, load and save it" in refused((tmp_path / "old.pt").read_bytes())


def test_a_script_module_is_refused(refused, tmp_path):
    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Module()).save(str(tmp_path / "module.pt"))
    refused((tmp_path / "module.pt").read_bytes())


def test_what_torch_saves_beside_the_vectors_is_allowed(tmp_path):
    extra = OrderedDict(step=500, rate=1e-3, big=2**40, nothing=None, tags=["a", ("b", 1, 2.5, True)], counts={1, 2})
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "extra": extra}, tmp_path / "p.pt")
    assert load_prefix(tmp_path / "p.pt").length == 2
