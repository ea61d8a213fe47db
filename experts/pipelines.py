"""Learns experts of a pipeline of diffusers, and has it draw by the expert for a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..engines.diffusers.expert_parts import denoiser_fingerprint, narrowed_pipeline, prunable, require_whole
from ..engines.diffusers.tuning import lora_of
from ..engines.options import AS_USUAL, Drawing
from ..engines.pruning.parts import DIFFUSERS
from ..prefix.errors import ExpertsError
from .learning import ExpertsCallbacks, learned_by
from .router import embedding_of
from .settings import ExpertsSettings
from .value import Experts

Pipeline = TypeVar("Pipeline")


def learned_experts(
    pipeline: Any,
    prompts: Sequence[str],
    settings: ExpertsSettings | None = None,
    size: tuple[int, int] = (512, 512),
    drawing: Drawing = AS_USUAL,
    callbacks: ExpertsCallbacks | None = None,
    runs: Path | None = None,
) -> Experts:
    """Experts of a pipeline, which stays as it is.

    Args:
        pipeline: of Stable Diffusion 1, 2 or XL, without a prefix or a LoRA.
        prompts: to learn from, such as are drawn.
        settings: those of `ExpertsSettings` if None.
        size: width and height of the pictures to learn from.
        drawing: steps and guidance that pictures are drawn with.
        runs: the folder of unfinished runs; None to keep nothing.

    Raises:
        ExpertsError: fewer prompts than experts, or a pipeline of another kind.
        TrainingError: not enough memory, or a pipeline that cannot be fine-tuned.
    """
    what = prunable(pipeline, size, drawing)
    return learned_by(what, prompts, settings or ExpertsSettings(), lora_of, callbacks, runs)


def expert_pipeline(pipeline: Pipeline, experts: Experts, prompt: str | Sequence[str], expert: int = 0) -> Pipeline:
    """A pipeline that draws by the expert for a prompt; the one that came in stays as it is.

    Args:
        pipeline: that the experts were learned on, protected or not.
        prompt: that is drawn; of several the largest expert is taken.
        expert: in place of the one that the prompt is sent to, from 1.

    Raises:
        ExpertsError: the experts are another model's or another engine's, there is no such expert or no prompt, or
            `narrowed_pipeline` raises.
    """
    require_whole(pipeline)
    experts.require_model(denoiser_fingerprint(pipeline), DIFFUSERS)
    if not 0 <= expert <= len(experts):
        raise ExpertsError(f"There is no expert {expert}: there are {len(experts)}; 0 has the prompt choose.")
    number = expert - 1 if expert else _chosen(pipeline, experts, prompt)
    return narrowed_pipeline(pipeline, experts.left_out(number), experts.deltas[number], experts.record.whole_until)


def _chosen(pipeline: Any, experts: Experts, prompt: str | Sequence[str]) -> int:
    """The expert that the pipeline's own text encoders send a prompt to, with a prefix if it carries one."""
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise ExpertsError("There is no prompt: give the one that is drawn.")
    with torch.no_grad():
        states = pipeline.encode_prompt(
            prompt=prompts,
            device=pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )[0]
    return experts.chosen(torch.stack([embedding_of(one) for one in states.split(1)]))
