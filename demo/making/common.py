"""Shares what every training stage of the build needs: start values, averaging, all cores, half precision, progress."""

from __future__ import annotations

import importlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import save_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ...engines.muon import Muon
from ..host import enter_host

T = TypeVar("T")
BESIDE_GPU = 4
"""Processes that prepare batches for a GPU."""


def device() -> torch.device:
    """Where the build's networks are trained: the GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision() -> torch.autocast:
    """Matrix products in bfloat16."""
    return torch.autocast(device().type, torch.bfloat16)


def batch(size: int) -> int:
    """How many examples a step takes: `size`, or eight times as many on a GPU, where a step costs about the same."""
    return size * (8 if device().type == "cuda" else 1)


class _Endless(IterableDataset):
    def __init__(self, make: Callable[[int], Iterator[T]], seed: int) -> None:
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[T]:
        worker = get_worker_info()
        return self._make(self._seed + (0 if worker is None else worker.id))


def stream(make: Callable[[int], Iterator[T]]) -> Iterator[T]:
    """What `make` yields without end, given a seed; made by other processes where a GPU would wait for it."""
    helpers = BESIDE_GPU if device().type == "cuda" else 0
    return iter(DataLoader(_Endless(make, 1000 * rank()), batch_size=None, num_workers=helpers))


def initialize(module: torch.nn.Module) -> None:
    """Gives every parameter a start value (the host's layer classes leave them unset): unit norms, small linears."""
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            torch.nn.init.zeros_(parameter)
            if "norm" in name and name.endswith("weight"):
                torch.nn.init.ones_(parameter)
        elif "embedding" in name:
            torch.nn.init.normal_(parameter, std=0.02)
        else:
            torch.nn.init.kaiming_uniform_(parameter, a=5**0.5)
    for child in module.modules():
        if isinstance(child, (torch.nn.GroupNorm, torch.nn.LayerNorm)) and child.weight is not None:
            torch.nn.init.ones_(child.weight)


class Average:
    """An exponential moving average of a module's parameters, faster at the start of a run."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.module, self.decay, self.count = module, decay, 0
        self.values = [p.detach().clone() for p in module.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the module's present parameters in."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.module.parameters()], 1 - decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Writes the average into the module."""
        for parameter, value in zip(self.module.parameters(), self.values, strict=True):
            parameter.copy_(value)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that is to be found whole or not at all, in a folder that is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    yield part
    part.replace(path)


def save_half(tensors: dict[str, torch.Tensor], path: Path, coarse: str | None = None) -> None:
    """Saves weights as float16 safetensors; matrices whose names begin with `coarse` as float8."""

    def stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
        small = coarse is not None and name.startswith(coarse) and tensor.dim() > 1
        return tensor.detach().to(torch.float8_e4m3fn if small else torch.float16).contiguous()

    with whole(path) as part:
        save_file({name: stored(name, tensor) for name, tensor in tensors.items()}, part)
    say(f"saved {path.name}: {path.stat().st_size / 1e6:.2f} MB")


def pixels_to_tensor(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [n, h, w, 3] to float32 [n, 3, h, w] in [-1, 1], channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def on_all_cores(module: str, function: str, *arguments: object) -> None:
    """Runs a stage in one process a core, each on its own share of the pictures; `train` averages their gradients.

    The stage is named by its module beside this one and its function: it needs the host to be imported.

    Small networks gain more from this than from threads, which wait for each other after every layer. Where there is a
    GPU this process does it all.
    """
    if device().type == "cuda":
        getattr(importlib.import_module(f".{module}", __package__), function)(*arguments)
        return
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        mp.start_processes(
            _on_one_core, (cores, meeting, module, function, arguments), len(cores), start_method="spawn"
        )


def _on_one_core(
    rank: int, cores: list[int], meeting: str, module: str, function: str, arguments: tuple[object, ...]
) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[rank]})
    torch.set_num_threads(1)
    enter_host()
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=len(cores))
    stage = importlib.import_module(f".{module}", __package__)
    getattr(stage, function)(*arguments)
    dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is; 0 where there is one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if rank() == 0:
        print(f"  {text}", flush=True)


def _share(parameters: list[torch.nn.Parameter], loss: float, elapsed: float) -> tuple[float, float]:
    """Averages gradients, loss and time over the processes, so that all of them take the same step."""
    if world_size() == 1:
        return loss, elapsed
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients] + [torch.tensor([loss, elapsed])])
    dist.all_reduce(flat)
    flat /= world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[-2].item(), flat[-1].item()


def train(
    name: str,
    parameters: list[torch.nn.Parameter],
    step: Callable[[int], torch.Tensor],
    *,
    minutes: float,
    learning_rate: float,
    average: Average | None = None,
    warm_up: int = 100,
    weight_decay: float = 0.01,
    checkpoint: Callable[[], None] | None = None,
    matrices: Sequence[torch.nn.Parameter] = (),
) -> None:
    """Runs AdamW for a time, with warm-up and a cosine fall over that time; prints the mean loss now and then.

    `matrices` are those of the parameters that take Muon's steps, of the same rate, instead.
    """
    chosen = {id(p) for p in matrices}
    rest = [p for p in parameters if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    ]
    if matrices:
        optimizers.append(Muon(list(matrices), lr=learning_rate, weight_decay=weight_decay))
    start, seconds, total, count, shown, index, elapsed = time.time(), minutes * 60, 0.0, 0, 0.0, 0, 0.0
    while elapsed < seconds:
        rate = min(1.0, (index + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * elapsed / seconds))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate
            optimizer.zero_grad(set_to_none=True)
        loss = step(index)
        loss.backward()
        mean_loss, elapsed = _share(parameters, loss.item(), time.time() - start)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if average is not None:
            average.update()
        total, count, index = total + mean_loss, count + 1, index + 1
        if elapsed - shown > 20:
            say(f"{name}: {elapsed:5.0f} of {seconds:.0f} s, step {index}, loss {total / count:.4f}")
            total, count, shown = 0.0, 0, elapsed
            if checkpoint is not None and rank() == 0:
                checkpoint()
