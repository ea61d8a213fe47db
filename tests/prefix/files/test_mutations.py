"""A damaged or forged file loads as nothing else, and raises what an artist can read.

A seeded corpus: 200 mutations of each kind of valid file. Whatever a mutation does, a file is either refused by our own
error, or gives the vectors that its bytes honestly hold, as a second, simple reader finds them.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import torch

from anonymize_faces.prefix import Prefix, PrefixFileError, PrefixRecord, load_prefix, save_prefix
from anonymize_faces.tests.support.mutations import damage

MUTATIONS = 200
RECORD = PrefixRecord(family="sdxl", fingerprint="0" * 16, settings={"vectors": 3}, scores={"preservation": 0.125})
WIDTHS = {"l": 768, "g": 1280, "h": 1024}


def table(width: int = 768, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, width, generator=torch.Generator().manual_seed(seed))


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def own_file(folder) -> bytes:
    return save_prefix(Prefix({"l": table(), "g": table(1280)}, RECORD), folder / "own.safetensors").read_bytes()


def apl_file(_) -> bytes:
    parameters = torch.nn.ParameterDict({"alz": torch.nn.Parameter(table())})
    return saved({"string_to_token": {"alz": torch.tensor(1985)}, "string_to_param": parameters})


VALID: dict[str, Callable] = {
    "own.safetensors": own_file,
    "sd1.safetensors": lambda _: safetensors.torch.save({"emb_params": table()}),
    "sdxl.safetensors": lambda _: safetensors.torch.save({"clip_l": table(), "clip_g": table(1280)}),
    "half.safetensors": lambda _: safetensors.torch.save({"emb_params": table().half()}),
    "apl.pt": apl_file,
    "a1111.pt": lambda _: saved({"string_to_param": {"*": table()}, "name": "x", "step": 500}),
    "embeds.bin": lambda _: saved({"<x>": table()}),
    "sdxl_half.bin": lambda _: saved({"clip_l": table().half(), "clip_g": table(1280).bfloat16()}),
}


def damage_inside_zip(chance: random.Random, data: bytes) -> bytes:
    """Damages one entry, and makes the archive sound again: no checksum tells."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        names = source.namelist()
        victim = chance.choice([*names, *["archive/data.pkl"] * len(names)])
        for name in names:
            content = source.read(name)
            target.writestr(name, damage(chance, content) if name == victim else content)
    return buffer.getvalue()


def mutate(chance: random.Random, name: str, data: bytes) -> bytes:
    if name.endswith(".safetensors"):
        head = 8 + int.from_bytes(data[:8], "little")
        return damage(chance, data, *chance.choice([(0, 8), (8, head), (8, head), (head, None), (0, None)]))
    return damage_inside_zip(chance, data) if chance.random() < 0.7 else damage(chance, data)


def bytes_of_tensors(name: str, data: bytes) -> list[bytes]:
    """All stretches of a file that hold a tensor, by another reader than ours."""
    if not name.endswith(".safetensors"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [archive.read(entry) for entry in archive.namelist() if "/data/" in entry]
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    spans = [entry["data_offsets"] for key, entry in header.items() if key != "__metadata__"]
    return [data[start + begin : start + end] for begin, end in spans]


def is_held(vectors: np.ndarray, stretches: list[bytes]) -> bool:
    """Whether the vectors stand in one of the stretches as they are, or in half precision of either kind."""
    halves = vectors.astype("<f4").view("<u4") >> 16
    forms = [vectors.astype("<f4").tobytes(), halves.astype("<u2").tobytes()]
    with np.errstate(over="ignore"):
        forms.append(vectors.astype("<f2").tobytes())
    return any(form in stretch for form in forms for stretch in stretches)


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("valid")
    return {name: make(folder) for name, make in VALID.items()}


@pytest.mark.parametrize("name", VALID)
def test_a_mutated_file_is_refused_or_gives_what_its_bytes_hold(valid, name, tmp_path):
    chance = random.Random(f"seed of {name}")
    path = tmp_path / name
    path.write_bytes(valid[name])
    original = load_prefix(path)
    refusals = []
    for _ in range(MUTATIONS):
        data = mutate(chance, name, valid[name])
        path.write_bytes(data)
        try:
            loaded = load_prefix(path)
        except PrefixFileError as error:
            refusals.append(str(error))
            continue
        if name == "own.safetensors":
            assert loaded.record == original.record and loaded.widths == original.widths
            assert all(torch.equal(loaded.vectors[key], original.vectors[key]) for key in original.vectors)
            continue
        stretches = bytes_of_tensors(name, data)
        for key, vectors in loaded.vectors.items():
            assert vectors.dtype == torch.float32 and vectors.shape[1] == WIDTHS[key]
            assert 1 <= len(vectors) == loaded.length and bool(torch.isfinite(vectors).all())
            assert is_held(vectors.numpy(), stretches)
    assert all(f"'{name}' cannot be used as a prefix: " in text and "Choose another" in text for text in refusals)
    assert MUTATIONS / 4 < len(refusals) < MUTATIONS
