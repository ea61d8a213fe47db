"""Files made to cost time or memory: whatever is in one, it is refused within a second and 64 MiB.

Two thousand pickles, by a fixed seed: mutations of sound ones of all protocols, and programs made by hand of the
instructions that cost most. They are read in a process of its own, so that its memory tells.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from anonymize_faces.prefix import PrefixFileError, load_prefix
from anonymize_faces.prefix.files.prefix_file import parse_prefix
from anonymize_faces.tests.support.mutations import damage

PICKLES = 2000
SECONDS = 3.0
KIBIBYTES = 64 * 1024
READER = """
import json, sys, time
from pathlib import Path
from anonymize_faces.prefix import PrefixFileError
from anonymize_faces.prefix.files.prefix_file import parse_prefix

def kibibytes(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what + ":"))

slowest, refused = (0.0, -1), 0
data = open(sys.argv[1], "rb")
for number, size in enumerate(json.loads(Path(sys.argv[1]).with_suffix(".json").read_text())):
    content = data.read(size)
    if number == 1:  # The first is a sound one: what torch needs for itself is none of a file's doing.
        Path("/proc/self/clear_refs").write_text("5")  # From here on the peak is counted anew.
        before = kibibytes("VmRSS")
    began = time.process_time()
    try:
        parse_prefix(content, "hostile.pt")
    except PrefixFileError:
        refused += 1
    slowest = max(slowest, (time.process_time() - began, number))
found = {"seconds": slowest[0], "which": slowest[1], "KiB": kibibytes("VmHWM") - before, "refused": refused}
print(json.dumps(found))
"""


def archive(pickled: bytes, vectors: bytes = bytes(2 * 768 * 4)) -> bytes:
    """A file of torch with that pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("data/0", vectors)):
            made.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def pickle_of(content: object, protocol: int) -> bytes:
    """What `torch.save` pickles; with protocols 0 and 1, which have no ids of storages, without tensors."""
    if protocol < 2:
        return pickle.dumps({"string_to_token": {"*": 265}, "name": "é", "step": 500, "rate": 0.5}, protocol)
    torch.save(content, buffer := io.BytesIO(), pickle_protocol=protocol)
    with zipfile.ZipFile(buffer) as made:
        return made.read("archive/data.pkl")


def sound_pickles() -> list[bytes]:
    table = torch.zeros(2, 768)
    contents = [
        {"x": table},
        {"string_to_param": {"*": torch.nn.Parameter(table)}, "tags": ("a", {1, 2}), "big": 2**60, "no": None},
        {"string_to_param": torch.nn.ParameterDict({"a": torch.nn.Parameter(table)}), "more": OrderedDict(step=1.5)},
    ]
    return [pickle_of(content, protocol) for content in contents for protocol in range(6)]


def text(words: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(words)) + words


def shared(depth: int) -> bytes:
    """A pair of a pair twice, of a pair twice, …: as many steps to hash as two to the depth."""
    return b")" + b"".join(b"r%sj%s\x86" % (place, place) for place in (struct.pack("<I", n) for n in range(depth)))


def tensor(offset: int = 0, count: int = 2, stride: int = 768) -> bytes:
    """The arguments of a tensor."""
    numbers = [b"J" + struct.pack("<i", number) for number in (offset, count, stride)]
    return b"(" + STORAGE + numbers[0] + numbers[1] + b"M\x00\x03\x86" + numbers[2] + b"K\x01\x86\x89Nt"


def storage(count: int, kind: bytes = b"Float") -> bytes:
    named = text(b"storage") + b"ctorch\n" + kind + b"Storage\n" + text(b"0") + text(b"cpu")
    return b"(" + named + b"J" + struct.pack("<i", count) + b"tQ"


STORAGE = storage(1536)
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
PARAMETERS = b"ctorch.nn.modules.container\nParameterDict\n"
SET = b"cbuiltins\nset\n"
ODD = [0, 0, 0, 1, 5, -5, 2**31 - 1]
ONE_HASH = b"".join(b"\x8a\x0c" + ((2**61 - 1) * n).to_bytes(12, "little") + b"N" for n in range(3000))

PIECES: dict[str, Callable[[random.Random], bytes]] = {
    "shared tuple": lambda chance: shared(chance.choice([9, 99])),
    "shared tuple as a key": lambda _: b"}" + shared(60) + b"K\x01s",
    "shared tuple in a set": lambda _: b"\x8f(" + shared(60) + b"\x90",
    "shared tuple in a frozen set": lambda _: b"(" + shared(60) + b"\x91",
    "shared tuple in a set that is called": lambda _: SET + b"](" + shared(60) + b"e\x85R",
    "set of one list again and again": lambda _: (
        SET + b"](" + b"K\x01" * 999 + b"eq\x01\x85R" + (SET + b"h\x01\x85R") * 999
    ),
    "list in itself": lambda _: b"]q\x00h\x00a",
    "list doubled again and again": lambda _: b"]q\x00(" + b"h\x00" * 99 + b"e" + b"(h\x00h\x00h\x00h\x00e" * 999,
    "dictionary built again": lambda _: (
        b"ccollections\nOrderedDict\n)Rq\x00(" + b"K\x01K\x02" * 99 + b"u" + b"h\x00b" * 999
    ),
    "parameters built again": lambda _: PARAMETERS + b")\x81q\x00" + b"}bh\x00" * 999,
    "long number": lambda chance: b"\x8b" + struct.pack("<i", size := chance.choice([9, 60_000])) + b"\x7f" * size,
    "number without end": lambda _: b"\x8b\xff\xff\xff\x7f\x01",
    "number of negative length": lambda _: b"\x8b\xff\xff\xff\xff",
    "digits": lambda _: b"L" + b"9" * 50_000 + b"L\n",
    "text without end": lambda _: b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"x",
    "text of a gigabyte": lambda _: b"X\x00\x00\x00\x40abc",
    "bytes without end": lambda _: b"\x8e" + struct.pack("<Q", 2**40) + b"x",
    "byte array without end": lambda _: b"\x96" + struct.pack("<Q", 2**40) + b"x",
    "frame without end": lambda _: b"\x95" + struct.pack("<Q", 2**62),
    "frames in frames": lambda _: (b"\x95" + struct.pack("<Q", 9)) * 999,
    "marks": lambda chance: b"(" * chance.choice([1, 9000]),
    "memo far out": lambda _: b"Nr\xff\xff\xff\xff",
    "memo of nothing": lambda _: b"h\xee",
    "memos": lambda _: b"N" + b"\x94" * 9000,
    "copies": lambda _: b"N" + b"2" * 9000,
    "lists in lists": lambda _: b"]" * 7000 + b"a" * 6999,
    "tuples in tuples": lambda _: b"N" + b"\x85" * 9000,
    "call": lambda chance: chance.choice([b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"ctorch\nTensor\n"]) + b")R",
    "call of a value": lambda _: b"K\x01)R",
    "new object": lambda _: b"ccollections\nOrderedDict\n)\x81",
    "state of a value": lambda _: b"K\x01}b",
    "name on the stack": lambda _: b"\x8c\x02os\x8c\x06system\x93",
    "storage": lambda chance: storage(chance.choice([1536, 2**31 - 1, -1])),
    "id as text": lambda _: b"P0\n",
    "tensor": lambda chance: REBUILD + tensor(chance.choice(ODD), chance.choice(ODD), chance.choice(ODD)) + b"R",
    "tensor many times": lambda _: REBUILD + tensor() + b"q\x00R" + (REBUILD + b"h\x00R") * 1000,
    "extension": lambda _: b"\x82\x01",
    "instance": lambda _: b"(ios\nsystem\n",
    "key": lambda chance: b"}" + chance.choice([b"N", b")", b"]", b"}", b"G" + b"\x7f" * 8, text(b"*")]) + b"K\x01s",
    "keys of one hash": lambda _: b"}(" + ONE_HASH + b"u",
    "pop": lambda _: b"0" * 9,
    "stop": lambda _: b".",
    "noise": lambda chance: chance.randbytes(chance.choice([1, 9, 999])),
}


def programs(chance: random.Random) -> Iterator[bytes]:
    """Each piece by itself, then sequences of them."""
    for piece in PIECES.values():
        yield b"\x80\x04" + piece(chance) + b"."
        yield b"\x80\x02}q\x00" + text(b"string_to_param") + b"}" + text(b"*") + piece(chance) + b"ss."
    while True:
        chosen = [chance.choice(list(PIECES.values())) for _ in range(chance.choice([2, 3, 5, 9]))]
        yield b"\x80" + bytes([chance.randrange(6)]) + b"".join(piece(chance) for piece in chosen) + b"."


def hostile_files() -> list[bytes]:
    chance = random.Random(20261125)
    sound, made = sound_pickles(), programs(chance)
    pickles = [next(made) for _ in range(PICKLES // 2)]
    pickles += [damage(chance, chance.choice(sound)) for _ in range(PICKLES // 2)]
    return [archive(pickled) for pickled in pickles]


def read_apart(files: list[bytes], folder: Path) -> dict[str, float]:
    """The seconds that the slowest file took to read, the memory that all of them took, and how many were refused."""
    where = folder / "files"
    where.write_bytes(b"".join(files))
    where.with_suffix(".json").write_text(json.dumps(list(map(len, files))))
    told = subprocess.run(
        [sys.executable, "-c", READER, str(where)], check=True, capture_output=True, text=True, timeout=240
    )
    return json.loads(told.stdout)


def test_no_pickle_of_two_thousand_takes_a_second_or_64_mebibytes(tmp_path):
    files = hostile_files()
    found = read_apart([archive(sound_pickles()[2]), *files], tmp_path)
    print(f"{PICKLES} pickles: {found}")
    assert len(files) == PICKLES
    assert found["seconds"] < SECONDS and found["KiB"] < KIBIBYTES, found
    assert PICKLES / 3 < found["refused"] < PICKLES


@pytest.mark.parametrize("depth", [28, 60, 200])
@pytest.mark.parametrize("end", [b"K\x01s.", b"K\x01st\x91.", b"\x85cbuiltins\nset\n\x85R."])
def test_a_tuple_shared_with_itself_is_never_hashed(depth, end):
    nested = b"\x80\x02}" + shared(depth)
    with pytest.raises(PrefixFileError, match="cannot be used as a prefix"):
        parse_prefix(archive(nested + end), "p.pt")


def test_bytes_that_are_asked_for_as_every_type_are_kept_once(tmp_path):
    size = 16 * 2**20
    bits = {"Double": 64, "Float": 32, "Half": 16, "BFloat16": 16, "Long": 64, "Int": 32, "Short": 16, "Char": 8}
    pickled = b"\x80\x02(" + b"".join(storage(size * 8 // of, kind.encode()) for kind, of in bits.items()) + b"l."
    found = read_apart([archive(sound_pickles()[2]), archive(pickled, bytes(size))], tmp_path)
    assert found["refused"] == 1
    assert found["seconds"] < SECONDS and found["KiB"] < KIBIBYTES, found  # The file, its bytes, and what is kept.


def many_entries(count: int, told: int, zip64: bool) -> bytes:
    """An archive whose directory has many entries, each of one byte's name, and says that there are `told`."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    directory = entry * count
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, told & 0xFFFF, told & 0xFFFF, len(directory) & 0xFFFFFFFF, 30, 0)
    if zip64:
        wide = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, told, told, len(directory), 30)
        place = b"PK\x06\x07" + struct.pack("<LQL", 0, 30 + len(directory), 1)
        end = wide + place + b"PK\x05\x06" + b"\xff" * 16 + b"\0\0"
    return b"PK\x03\x04" + bytes(26) + directory + end


def safetensors_of(header: object, body: bytes = b"") -> bytes:
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + body


def entry_of(start: int, stop: int, count: int = 1) -> dict[str, object]:
    return {"dtype": "F32", "shape": [count], "data_offsets": [start, stop]}


def test_what_is_counted_is_refused_before_it_is_read(tmp_path):
    many = 1_400_000
    files = [
        archive(sound_pickles()[2]),
        *(many_entries(200, told, zip64) for told in (1, 200) for zip64 in (False, True)),
        many_entries(many, 1, zip64=False),
        many_entries(many, many, zip64=True),
        safetensors_of({str(n): entry_of(4 * n, 4 * n + 4) for n in range(15_000)}, bytes(60_000)),
        safetensors_of({"x": entry_of(0, 4) | {"shape": [1] * 300_000}}, bytes(4)),
        safetensors_of(b"{" + b"[" * 1_000_000),
        safetensors_of(b'{"x":[' + b"[]," * 300_000 + b"0]}"),
        safetensors_of(b'{"x":[' + b"9" * 1_000_000 + b"]}"),
        safetensors_of({"__metadata__": {str(n): "" for n in range(60_000)}}),
    ]
    found = read_apart(files, tmp_path)
    assert found["refused"] == len(files) - 1
    assert found["seconds"] < SECONDS and found["KiB"] < 2 * KIBIBYTES, found  # The files themselves are of 64 MiB.


@pytest.mark.parametrize(
    "header",
    {
        "overlapping": {"a": entry_of(0, 8, 2), "b": entry_of(4, 12, 2)},
        "the same bytes twice": {"clip_l": entry_of(0, 12, 3), "clip_g": entry_of(0, 12, 3)},
        "a hole": {"a": entry_of(0, 4), "b": entry_of(8, 12)},
        "backwards": {"a": entry_of(12, 0, 3)},
        "beyond the end": {"a": entry_of(0, 16, 4)},
        "bytes that nothing has": {"a": entry_of(0, 4)},
        "a size of 2 to the 64": {"a": entry_of(0, 12) | {"shape": [2**63, 2]}},
        "an entry that is none": {"a": 3},
        "an entry twice": b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},'
        b'"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}',
        "notes twice": b'{"__metadata__":{"a":"1","a":"2"},"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}',
    }.items(),
    ids=lambda item: item[0],
)
def test_a_header_that_lies_is_refused(header):
    with pytest.raises(PrefixFileError, match="not a sound safetensors file"):
        parse_prefix(safetensors_of(header[1], bytes(12)), "p.safetensors")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_torch_writes_is_read_bit_for_bit(tmp_path, protocol):
    vectors = torch.randn(3, 768)
    content = {"string_to_param": {"*": vectors}, "tags": ("a", {1, 2}, frozenset("b")), "more": 2**63}
    torch.save(content, tmp_path / "p.pt", pickle_protocol=protocol)
    assert torch.equal(load_prefix(tmp_path / "p.pt").vectors["l"], vectors)
