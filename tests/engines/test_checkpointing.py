"""Computing blocks twice, and in other number formats: the same gradient, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from anonymize_faces.engines.recomputation import blocks_of, checkpointed
from anonymize_faces.prefix import TrainingError

Make = Callable[..., Any]


def denoiser_for(checkpoint: Any, **computing: str) -> Any:
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser, Computing

    return ComfyDenoiser(checkpoint.model, checkpoint.clip, checkpoint.vae, (64, 64), computing=Computing(**computing))


def gradient(denoiser: Any) -> tuple[Tensor, int]:
    """The gradient of a loss, and the bytes that the forward pass keeps for it."""
    vectors = {"l": torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()}
    kept = [0]

    def pack(tensor: Tensor) -> Tensor:
        kept[0] += tensor.numel() * tensor.element_size()
        return tensor

    noised = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with denoiser.gradients(2):
        conditioning = denoiser.encode(["Ada", "a dog"], vectors)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            predicted = denoiser.predict(noised, torch.tensor([0.3, 0.7]), conditioning)
        assert predicted.dtype == torch.float32
        predicted.square().mean().backward()
    return vectors["l"].grad, kept[0]


def test_checkpointing_gives_the_same_gradient_and_keeps_much_less(make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint()
    (plain, all_of_it), (twice, less) = (
        gradient(denoiser_for(checkpoint, checkpointing=choice)) for choice in ("off", "on")
    )
    torch.testing.assert_close(twice, plain, rtol=1e-4, atol=1e-7)
    assert less < 0.5 * all_of_it


def test_blocks_get_back_what_was_theirs_even_if_a_step_fails(make_checkpoint: Make) -> None:
    network = make_checkpoint().model.model.diffusion_model
    blocks = list(blocks_of(network))
    own = blocks[0].forward
    blocks[0].forward = own  # Somebody else's patch.
    before = {block: dict(vars(block)) for block in blocks}

    def fail() -> None:
        assert all("forward" in vars(block) for block in blocks)
        raise KeyError

    with pytest.raises(KeyError), checkpointed(network):
        fail()
    assert len(blocks) > 3 and {block: dict(vars(block)) for block in blocks} == before


def test_what_a_block_does_to_its_input_in_place_is_not_done_twice() -> None:
    class InPlace(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

        def forward(self, x: Tensor, options: dict) -> Tensor:
            options["calls"] = options.get("calls", 0) + 1
            x += options["calls"]
            return x * self.second(torch.tanh(self.first(x.clone())))

    network = torch.nn.Module()
    network.blocks = torch.nn.ModuleList([InPlace(), InPlace()])

    def grad() -> Tensor:
        x = torch.ones(3, requires_grad=True)
        options: dict = {}
        y = x * 2
        for block in network.blocks:
            y = block(y.clone(), dict(options))
        y.sum().backward()
        return x.grad

    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        plain = grad()
    with checkpointed(network), torch.autograd.graph.allow_mutation_on_saved_tensors():
        twice = grad()
    torch.testing.assert_close(plain, twice)


def test_blocks_that_were_compiled_one_by_one_are_computed_twice_as_well() -> None:
    """As nodes of other extensions put them into a model; host's own are not compiled while it learns."""

    def backend(module: Any, inputs: Any) -> Any:
        return module.forward

    network = torch.nn.Module()
    layers = [torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(2)]
    compiled = partial(torch.compile, backend=backend)
    network.blocks = torch.nn.ModuleList(map(compiled, layers))
    network.requires_grad_(False)
    inputs = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))

    def gradient_and_kept() -> tuple[Tensor, int]:
        kept = [0]

        def pack(tensor: Tensor) -> Tensor:
            kept[0] += tensor.nbytes
            return tensor

        states = given = inputs.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            for block in network.blocks:
                states = block(states)
        return torch.autograd.grad(states.square().sum(), given)[0], kept[0]

    assert list(blocks_of(network)) == list(network.blocks)
    plain, all_of_it = gradient_and_kept()
    with checkpointed(network):
        twice, less = gradient_and_kept()
    torch.testing.assert_close(twice, plain)
    assert less < 0.5 * all_of_it


def test_auto_checkpoints_only_where_there_is_no_room(make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.model_management

    checkpoint = make_checkpoint()
    _, roomy = gradient(denoiser_for(checkpoint))
    free = comfy.model_management.get_free_memory
    monkeypatch.setattr(
        comfy.model_management, "get_free_memory", lambda device, both=False: free(device, True) if both else 2**10
    )
    _, tight = gradient(denoiser_for(checkpoint))
    assert tight < 0.5 * roomy


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_same_gradient_in_float32(precision: str, make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint()
    (full, _), (half, _) = (gradient(denoiser_for(checkpoint, precision=choice)) for choice in ("model", precision))
    assert half.dtype == torch.float32 and not torch.equal(half, full)
    assert torch.nn.functional.cosine_similarity(half.flatten(), full.flatten(), dim=0) > 0.98


def test_unknown_choices_are_refused(make_checkpoint: Make) -> None:
    with pytest.raises(TrainingError, match="choose one of auto, on, off"):
        denoiser_for(make_checkpoint(), checkpointing="maybe")


def test_what_a_picture_needs_kept_is_reckoned_without_keeping_it(make_checkpoint: Make) -> None:
    denoiser = denoiser_for(make_checkpoint(), checkpointing="off")
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {weight.untyped_storage().data_ptr() for weight in denoiser._model.model.parameters()}
    with denoiser.gradients(1):
        reckoned = denoiser.count_kept()
        with torch.no_grad():
            conditioning = denoiser.encode([""])
        conditioning[0][0] = conditioning[0][0].detach().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
            predicted = denoiser.predict(torch.zeros(1, 4, 8, 8), torch.tensor([0.5]), conditioning)
    weights |= {weight.untyped_storage().data_ptr() for weight in denoiser._model.model.parameters()}
    really = sum(size for storage, size in kept.items() if storage not in weights)
    assert predicted.requires_grad and 0.95 * really <= reckoned <= 1.05 * really


def test_where_memory_runs_out_blocks_are_computed_twice_before_batches_are_halved(make_checkpoint: Make) -> None:
    from anonymize_faces.engines.micro_batches import MicroBatches

    denoiser = denoiser_for(make_checkpoint())
    tried: list[tuple[int, bool]] = []

    def work(items: Any) -> None:
        tried.append((len(items), denoiser.saves_memory))
        if len(tried) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with denoiser.gradients(1):
        MicroBatches(denoiser, 4).work(work, range(4))
    assert tried == [(4, False), (4, True), (2, True), (2, True)]


@pytest.mark.parametrize("choice", ["auto", "off"])
def test_memory_that_lacks_for_drawing_says_nothing_of_learning(make_checkpoint: Make, choice: str) -> None:
    """More pictures are drawn at once than are learned from: their number is halved, blocks are not computed twice."""
    from anonymize_faces.engines.micro_batches import MicroBatches

    denoiser = denoiser_for(make_checkpoint(), checkpointing=choice)

    def draw(items: Any) -> None:
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    drawing = MicroBatches(denoiser, 4)
    drawing.work(draw, range(4))
    with denoiser.gradients(1):
        assert drawing.size == 2 and not denoiser.saves_memory
        assert denoiser.use_less_memory() is denoiser.saves_memory is (choice == "auto")


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("Allocation on device 0"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.90 GB, max allowed: 18.13 GB)."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("Could not allocate tensor. There is not enough GPU video memory available!"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_on_every_device(error: Exception, lacking: bool, make_checkpoint: Make) -> None:
    from anonymize_faces.engines.micro_batches import says_out_of_memory

    assert says_out_of_memory(error) is denoiser_for(make_checkpoint()).out_of_memory(error) is lacking
