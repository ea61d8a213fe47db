"""Reads and writes files of experts, whole or not at all.

A file is safetensors: `kept`, `mean`, `directions`, `centroids`, masks of the units of layers under `units.…`, and the
LoRA of expert k under `expert.k.…`, in half precision; the record as JSON under `record` in the header, with a digest
of everything. Nothing in it is executed.
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from ..prefix.digests import seal
from ..prefix.errors import ExpertsError, PrefixFileExistsError, first_line, shown
from ..prefix.files.storage import SUFFIX, put_whole
from .router import Router
from .value import Experts, ExpertsRecord

FOLDER = "prompt_experts"
"""Where files of experts lie below a host's `models`."""

LARGEST = 4 * 2**30
"""Bytes of a file, at most."""

MOST_EXPERTS = 64

RECORD, DIGEST = "experts", "sha256"
"""Names in the header."""

_EXPERT, _UNITS = "expert", "units"
_ROUTER = ("mean", "directions", "centroids")


def save_experts(experts: Experts, path: Path) -> Path:
    """Writes a file and returns its path; makes the folder if there is none.

    Raises:
        PrefixFileExistsError: there is a file of that name.
        ExpertsError: it cannot be written.
    """
    tensors = {"kept": experts.kept.to(torch.uint8)}
    tensors |= {name: getattr(experts.router, name).float() for name in _ROUTER}
    tensors |= {f"{_UNITS}.{name}": mask.to(torch.uint8) for name, mask in experts.units.items()}
    for number, delta in enumerate(experts.deltas):
        tensors |= {f"{_EXPERT}.{number}.{name}": weight for name, weight in delta.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    record = experts.record.to_json()
    header = {RECORD: record, DIGEST: seal(tensors, json.loads(record))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_whole(safetensors.torch.save(tensors, metadata=header), path, overwrite=False)
    except PrefixFileExistsError:
        raise
    except OSError as error:
        raise ExpertsError(
            f"The experts could not be saved as '{shown(path)}' ({error.strerror or error}): choose a folder that has"
            " room and can be written to."
        ) from error
    return path


def load_experts(path: Path) -> Experts:
    """Reads and checks a file.

    Raises:
        ExpertsError: missing, unreadable, damaged, changed, or no file of experts. Nothing else is raised.
    """
    name = shown(path.name)
    try:
        if not path.is_file():
            raise ExpertsError(f"There is no file of experts '{name}': put it into models/{FOLDER}, or choose another.")
        if path.stat().st_size > LARGEST:
            raise ExpertsError(f"it is larger than {LARGEST >> 30} GiB")
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if RECORD not in header:
                raise ExpertsError("it holds no experts")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, no dictionary
        return _parsed(header, tensors)
    except ExpertsError as error:
        if str(error).startswith("There is no file"):
            raise
        raise _unfit(name, str(error)) from error
    except Exception as error:  # Whatever a file makes a reader do, it is that file's fault alone.
        raise _unfit(name, f"it makes no sense ({first_line(error)})") from error


def _parsed(header: dict[str, str], tensors: dict[str, Tensor]) -> Experts:
    record = ExpertsRecord.from_json(header[RECORD])
    if header.get(DIGEST) != seal(tensors, json.loads(header[RECORD])):
        raise ExpertsError("it was changed or damaged after it was saved")
    kept = tensors.pop("kept")
    router = Router(*(tensors.pop(name) for name in _ROUTER))
    count = len(kept)
    if not 0 < count <= MOST_EXPERTS:
        raise ExpertsError(f"it holds {count} experts")
    deltas: list[dict[str, Tensor]] = [{} for _ in range(count)]
    units = {}
    for name in [name for name in tensors if name.startswith(f"{_UNITS}.")]:
        units[name.removeprefix(f"{_UNITS}.")] = tensors.pop(name).bool()
    for name, tensor in tensors.items():
        begins, number, rest = name.split(".", 2)
        if begins != _EXPERT:
            raise ExpertsError("it holds more than experts")
        deltas[int(number)][rest] = tensor
    return Experts(record, router, kept.bool(), tuple(deltas), units)


def _unfit(name: str, reason: str) -> ExpertsError:
    reason = (reason[:1].lower() + reason[1:]).rstrip(".")
    return ExpertsError(
        f"'{name}' cannot be used as experts: {reason}. Choose another file, or learn experts with Learn Experts."
    )


def expert_bytes(experts: Experts, expert: int) -> int:
    """Bytes that an expert's own weights take in a file."""
    return sum(weight.nbytes for weight in experts.deltas[expert].values())


def path_of(folder: Path, name: str) -> Path:
    """Where a file of that name lies in a folder, which it does not lead out of.

    Raises:
        PrefixNameError: it is no name of a file.
    """
    from ..prefix import path_inside

    return folder / path_inside(name if name.endswith(SUFFIX) else name + SUFFIX)
