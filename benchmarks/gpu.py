"""Measures learning on a graphics card: full-size layouts of SD1.5, SDXL and Flux with random weights.

Through the host, as the trainer node does it: peak memory over nothing, seconds a step, pictures drawn, bytes of the
teacher's answers. Where the card is larger than the cards that people have, a ballast takes the rest of its memory, so
that the host and torch really see 8, 12 or 24 GB; then it is told which ways to save memory were taken. The authors'
loop (docs/METHODS.md 1.3) runs on SD1.5 in the same process. Where there is no CUDA, a sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..demo.host import enter_host

GIB = 2**30
REPEATS = 5
BATCH = 8
"""The trainer's default."""

DRAWING_STEPS = 4
"""Of the sampler, timed; the trainer's default is 20."""

PROMPT, NEUTRAL = "A portrait of Ada Lovelace in a garden", "A portrait of a woman with dark hair in a garden"


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        layout: name of one in `support.layouts`.
        weights: number format of the denoiser's weights.
        card: gigabytes of memory that are left of the card; None for all.
        batch: pictures a step.
        reference: measure the authors' loop as well.
    """

    layout: str
    weights: str
    card: int | None = None
    batch: int = BATCH
    reference: bool = False


CASES = (
    Case("sd15", "bf16"),
    Case("sd15", "fp16", card=8),
    Case("sd15", "fp16", reference=True),
    Case("sdxl", "fp16"),
    Case("sdxl", "bf16"),
    *(Case("sdxl", "fp16", card=card) for card in (24, 12, 8)),
    Case("flux", "bf16"),
    Case("flux", "fp8"),
    *(Case("flux", "fp8", card=card) for card in (24, 12, 8)),
)


@dataclass
class Outcome:
    """What one case gave; bytes and seconds."""

    card: str
    layout: str
    weights: str
    memory: int | None
    batch: int
    kept_reckoned: int = 0
    kept_measured: int = 0
    step_seconds: float = 0.0
    peak: int = 0
    evaluations_a_second: float = 0.0
    drawing_peak: int = 0
    answer_bytes: int = 0
    saved_by: list[str] = field(default_factory=list)
    reference_seconds: float = 0.0
    reference_peak: int = 0
    fault: str = ""


@contextmanager
def only(gigabytes: int | None) -> Iterator[None]:
    """Inside, so much of the card's memory is left."""
    if gigabytes is None:
        yield
        return
    free, _ = torch.cuda.mem_get_info()
    taken = max(0, free - gigabytes * GIB)
    ballast = torch.empty(taken, dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del ballast
        _forget()


def measure(case: Case, checkpoint: Any, size: int) -> Outcome:
    """Draws, steps and, if asked for, makes the authors' steps."""
    from ..engines.comfy.denoiser import ComfyDenoiser, Drawing

    row = Outcome(torch.cuda.get_device_name(), case.layout, case.weights, case.card, case.batch)
    denoiser = ComfyDenoiser(
        checkpoint.model, checkpoint.clip, checkpoint.vae, (size, size), Drawing(steps=DRAWING_STEPS, cfg=7.0)
    )
    row.answer_bytes = 4 * int(torch.tensor(denoiser.latent_shape).prod())
    with only(case.card):
        held = torch.cuda.memory_allocated()  # The ballast.
        try:
            _draw(case, denoiser, row, held)
            _learn(case, denoiser, row, held)
            if case.reference:
                _learn_as_the_authors(checkpoint, denoiser, row, held)
        except Exception as error:
            row.fault = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        _unload()
    return row


def _draw(case: Case, denoiser: Any, row: Outcome, held: int) -> None:
    from ..engines.micro_batches import MicroBatches

    micro_batches = MicroBatches(denoiser, 2 * case.batch)
    prompts = [PROMPT] * (2 * case.batch)

    def draw(some: Sequence[int]) -> None:
        denoiser.sample([prompts[index] for index in some], list(some))

    with torch.inference_mode():
        micro_batches.work(draw, range(2))
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        micro_batches.work(draw, range(len(prompts)))
        torch.cuda.synchronize()
    # Guidance asks twice for each picture.
    row.evaluations_a_second = 2 * len(prompts) * DRAWING_STEPS / (time.perf_counter() - started)
    row.drawing_peak = torch.cuda.max_memory_allocated() - held
    if micro_batches.halved:
        row.saved_by.append(f"drew {micro_batches.size} at a time")


def _learn(case: Case, denoiser: Any, row: Outcome, held: int) -> None:
    from ..engines.micro_batches import MicroBatches
    from ..trainer.data.pictures import Pair, Pictures
    from ..trainer.data.targets import TargetPool
    from ..trainer.settings import TrainingSettings
    from ..trainer.start import start_vectors
    from ..trainer.state import new_state
    from ..trainer.step import make_step

    settings = TrainingSettings(batch_size=case.batch, steps=1000, vectors=10)
    latents = torch.randn(1, *denoiser.latent_shape, generator=torch.Generator().manual_seed(0))
    pictures = Pictures(latents, (Pair(PROMPT, NEUTRAL, True),))
    micro_batches = MicroBatches(denoiser, case.batch)
    with denoiser.gradients(case.batch):
        row.kept_reckoned = denoiser.count_kept()
        if row.memory is None and not denoiser.saves_memory:
            row.kept_measured = _kept_by_one(denoiser, settings)
        state = new_state(start_vectors(denoiser, settings), settings)
        pool = TargetPool(denoiser, pictures, 1, seed=0)
        batch = pool.batch([0] * case.batch)
        make_step(denoiser, state, batch, settings, micro_batches)
        torch.cuda.reset_peak_memory_stats()
        row.step_seconds = _median(lambda: make_step(denoiser, state, batch, settings, micro_batches))
        row.peak = torch.cuda.max_memory_allocated() - held
        if state.skipped:
            row.saved_by.append(f"{state.skipped} steps not finite")
        if denoiser.saves_memory:
            row.saved_by.append("blocks computed twice")
    if micro_batches.halved:
        row.saved_by.append(f"learned {micro_batches.size} at a time")


def _kept_by_one(denoiser: Any, settings: Any) -> int:
    """Bytes that are really held between the forward pass and the backward pass of one picture."""
    from ..trainer.start import start_vectors

    with torch.no_grad():
        conditioning = denoiser.encode([PROMPT], start_vectors(denoiser, settings))
    conditioning[0][0] = conditioning[0][0].requires_grad_()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    predicted = denoiser.predict(torch.zeros(1, *denoiser.latent_shape), torch.tensor([0.5]), conditioning)
    torch.cuda.synchronize()
    kept = torch.cuda.memory_allocated() - before
    del predicted
    return kept


def _learn_as_the_authors(checkpoint: Any, denoiser: Any, row: Outcome, held: int) -> None:
    from ..trainer.settings import TrainingSettings
    from ..trainer.start import start_vectors
    from .support.authors_loop import Item, reference_step

    model, stage = checkpoint.model.model.diffusion_model.float(), checkpoint.clip.cond_stage_model.float()
    start = start_vectors(denoiser, TrainingSettings(conditional=False))
    vectors = {key: rows.detach().cuda().requires_grad_() for key, rows in start.items()}
    optimizer = torch.optim.Adam(vectors.values(), lr=1e-3)
    sigma = torch.tensor([1.0], device="cuda")
    noised = torch.randn(1, *denoiser.latent_shape, device="cuda")
    items = [Item(noised, sigma, PROMPT, NEUTRAL)] * row.batch
    # Their script runs in float32, one picture a step: so many steps as we take pictures.
    steps: list[Callable[[], None]] = [
        lambda item=item: reference_step(checkpoint.model, checkpoint.clip, vectors, optimizer, [item])
        for item in items
    ]

    def all_of_them() -> None:
        for step in steps:
            step()

    with torch.inference_mode(False), torch.enable_grad():
        model.cuda()
        stage.cuda()
        steps[0]()
        torch.cuda.reset_peak_memory_stats()
        row.reference_seconds = _median(all_of_them, repeats=3)
        row.reference_peak = torch.cuda.max_memory_allocated() - held
    for module in (model, stage):
        module.requires_grad_(False)
        for parameter in module.parameters():
            parameter.grad = None


def _median(do: Callable[[], None], repeats: int = REPEATS) -> float:
    seconds = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        do()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _unload() -> None:
    import comfy.model_management

    comfy.model_management.unload_all_models()
    _forget()


def _forget() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def table(rows: Sequence[Outcome]) -> str:
    """The rows as a table of Markdown."""
    head = (
        "| card | layout | weights | memory | a step of 8 | peak | kept a picture: reckoned, measured | evaluations/s"
        " | a target | memory saved by | authors' loop: time, peak |"
    )
    lines = [head, "|" + "---|" * 11]
    for row in rows:
        memory = "all" if row.memory is None else f"{row.memory} GB"
        if row.fault:
            lines.append(f"| {row.card} | {row.layout} | {row.weights} | {memory} | {row.fault} ||||||||")
            continue
        measured = _gib(row.kept_measured) if row.kept_measured else "–"
        theirs = f"{row.reference_seconds:.2f} s, {_gib(row.reference_peak)}" if row.reference_seconds else "–"
        lines.append(
            f"| {row.card} | {row.layout} | {row.weights} | {memory} | {row.step_seconds:.2f} s | {_gib(row.peak)}"
            f" | {_gib(row.kept_reckoned)}, {measured} | {row.evaluations_a_second:.1f}"
            f" | {row.answer_bytes / 1024:.0f} KiB | {', '.join(row.saved_by) or 'nothing'} | {theirs} |"
        )
    return "\n".join(lines)


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


def _is_wanted(case: Case, arguments: argparse.Namespace) -> bool:
    asked = ((arguments.layouts, case.layout), (arguments.weights, case.weights), (arguments.cards, case.card or 0))
    return all(values is None or value in values for values, value in asked)


def main() -> int:
    """Measures, prints the table and its ratios; 2 where there is no CUDA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layouts", nargs="*", help="only these of sd15, sdxl, flux")
    parser.add_argument("--weights", nargs="*", help="only these number formats of fp16, bf16, fp8")
    parser.add_argument("--cards", nargs="*", type=int, help="only cards of so many gigabytes; 0 is the whole one")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON, after each of them")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("This benchmark needs a graphics card with CUDA, and there is none here.", file=sys.stderr)
        return 2
    enter_host(cpu=False)
    from .support import layouts

    rows: list[Outcome] = []
    built: tuple[str, str] | None = None
    checkpoint: Any = None
    for case in CASES:
        if not _is_wanted(case, arguments):
            continue
        if built != (case.layout, case.weights):
            checkpoint = None
            _forget()
            checkpoint = layouts.build(case.layout, case.weights)
            built = (case.layout, case.weights)
        started = time.perf_counter()
        rows.append(measure(case, checkpoint, layouts.SIZES[case.layout]))
        print(f"{rows[-1]} ({time.perf_counter() - started:.0f} s)", flush=True)
        if case.reference:
            built = None  # The authors' loop turned the weights to float32.
        if arguments.json:
            arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=1), encoding="utf-8")
    print(table(rows))
    for row in rows:
        if row.reference_seconds:
            print(f"RATIO gpu_step_time {row.step_seconds / row.reference_seconds:.3f}")
            print(f"RATIO gpu_step_memory {row.peak / row.reference_peak:.3f}")
    return 0 if not any(row.fault for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
