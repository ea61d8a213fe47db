"""What Anonymize Faces took each prompt for, told on the node, in a real browser."""

from __future__ import annotations

import pytest
import torch

from anonymize_faces.demo.world.renderer import SIZE
from anonymize_faces.engines.options import Drawing
from anonymize_faces.engines.starting.prompts import FirstPrompts
from anonymize_faces.prefix import Prefix, PrefixRecord, save_prefix
from anonymize_faces.prefix.meta_network import is_part, vectors_of
from anonymize_faces.tests.browser.workbench import Workbench, load
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.layout import ROOT
from anonymize_faces.trainer.settings import TrainingSettings
from anonymize_faces.trainer.start import start_vectors

EXAMPLE = ROOT / "example_workflows" / "2 Protect a workflow.json"
NAMED, NOBODY = "A close-up portrait of Alma Orlick", "a red circle"
SAY = """prompt => {
    const { nodes } = window.app.graph;
    nodes.find((node) => node.title === "prompt").widgets[0].value = prompt;
    const sampler = nodes.find((node) => node.type === "KSampler");
    sampler.widgets.find((widget) => widget.name === "steps").value = 1;
}"""
LINES = """() => {
    const { shadowRoot } = document.querySelector(".anonymize-faces-prefix") ?? {};
    return [...(shadowRoot?.querySelectorAll(".prompts > div") ?? [])].map((line) => line.textContent);
}"""


@pytest.fixture(scope="module")
def gated(host_modules: None) -> Prefix:
    """A conditional prefix whose gate opens for one name and not for a circle, before it has learned anything."""
    from anonymize_faces.demo.loader import load_demo_model
    from anonymize_faces.engines.comfy.denoiser import ComfyDenoiser

    denoiser = ComfyDenoiser(*load_demo_model(), (SIZE, SIZE), Drawing(4, 2.0))
    with torch.inference_mode(False), denoiser.gradients(1):
        parameters = start_vectors(denoiser, TrainingSettings(), FirstPrompts((NAMED,), ("", NOBODY)))
    record = PrefixRecord(family=denoiser.family, fingerprint=denoiser.fingerprint)
    networks = {name: tensor.detach() for name, tensor in parameters.items() if is_part(name)}
    return Prefix(vectors_of(parameters), record, networks=networks)


def says(workbench: Workbench, *lines: str) -> None:
    """Waits until the node says this of prompts, and nothing else."""
    told = f"lines => JSON.stringify(({LINES})()) === JSON.stringify(lines)"
    workbench.page.wait_for_function(told, arg=list(lines))


def test_the_node_says_which_prompts_the_prefix_took_for_names(either_workbench: Workbench, gated: Prefix) -> None:
    workbench = either_workbench
    save_prefix(gated, workbench.server.prefix_folder / "demo people.safetensors", overwrite=True)
    workbench.open(load(EXAMPLE))
    workbench.look_at("AnonymizeFaces")
    negative = "negative prompt: read as naming nobody, drawn as without the prefix."
    workbench.page.evaluate(SAY, NAMED)
    workbench.queue()
    says(workbench, "prompt: names somebody, protected.", negative)
    workbench.picture(
        f"prompts read {'vue' if workbench.page.evaluate('() => window.LiteGraph.vueNodesMode') else 'classic'}"
    )
    assert workbench.overlaps() == []

    workbench.page.evaluate(SAY, NOBODY)
    workbench.queue()
    says(workbench, "prompt: read as naming nobody, drawn as without the prefix.", negative)

    # Undoing makes nodes anew, and so does coming back to the workflow.
    workbench.page.evaluate(
        "async () => { await window.answer; await window.app.loadGraphData(window.app.graph.serialize()); }"
    )
    says(workbench, "prompt: read as naming nobody, drawn as without the prefix.", negative)


def test_a_prefix_that_is_always_the_same_says_nothing_of_prompts(workbench: Workbench) -> None:
    save_prefix(demo_prefix(), workbench.server.prefix_folder / "demo people.safetensors", overwrite=True)
    workbench.open(load(EXAMPLE))
    workbench.page.evaluate(SAY, NAMED)
    workbench.queue()
    workbench.page.wait_for_function(
        """() => {
            const saving = window.app.graph.nodes.find((node) => node.type === "SaveImage");
            return window.app.nodeOutputs?.[saving.id]?.images?.length > 0;
        }"""
    )
    assert workbench.page.evaluate(LINES) == []
