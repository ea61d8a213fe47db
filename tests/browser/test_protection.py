"""Protecting a whole workflow with one command, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from anonymize_faces.tests.browser.workbench import Workbench

PROTECT, UNPROTECT = "AnonymizeFaces.Protect", "AnonymizeFaces.Unprotect"
KINDS = "CLIPTextEncode"
LOADERS = ["CheckpointLoaderSimple", "CLIPLoader"]
"""What the text encoder comes from in the workflow that ComfyUI begins with: in older ones and in newer ones."""


def prompt(workbench: Workbench) -> dict[str, Any]:
    """What would be queued; subgraphs are resolved in it."""
    return workbench.page.evaluate("async () => (await window.app.graphToPrompt()).output")


def encoders(workbench: Workbench) -> list[str]:
    """The kind of node that each prompt's text encoder comes from."""
    nodes = prompt(workbench)
    return [nodes[node["inputs"]["clip"][0]]["class_type"] for node in nodes.values() if node["class_type"] == KINDS]


def plain() -> list[list[str]]:
    """What `encoders` may tell of the workflow that ComfyUI begins with."""
    return [[kind] * 2 for kind in LOADERS]


def layout(workbench: Workbench) -> list[Any]:
    return workbench.page.evaluate(
        "() => window.app.graph.serialize().nodes.map((n) => [n.id, ...n.pos.map(Math.round)])"
        ".sort((a, b) => a[0] - b[0])"
    )


def links(workbench: Workbench) -> set[tuple[Any, ...]]:
    found = workbench.page.evaluate("() => window.app.graph.serialize().links.map((link) => link.slice(1))")
    return {tuple(link) for link in found}


def overlaps(workbench: Workbench) -> list[Any]:
    """Pairs of nodes of which one is Anonymize Faces and that lie on each other."""
    return workbench.page.evaluate(
        """() => {
            const box = ({ pos, size }) => [pos[0], pos[1] - 30, pos[0] + size[0], pos[1] + size[1]];
            const meet = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
            const { nodes } = window.app.graph;
            const ours = nodes.filter((node) => node.type === "AnonymizeFaces");
            const met = (one) => nodes.filter((two) => two !== one && meet(box(one), box(two)));
            return ours.flatMap((one) => met(one).map((two) => two.type));
        }"""
    )


def open_default(workbench: Workbench) -> None:
    """Opens the workflow that ComfyUI begins with, and waits until changes to it can be undone."""
    workbench.page.evaluate("() => window.app.loadGraphData()")
    workbench.page.wait_for_function(
        """() => {
            const { activeState } = window.app.extensionManager.workflow.activeWorkflow?.changeTracker ?? {};
            const { length } = window.app.graph.nodes;
            return length > 0 && activeState?.nodes.length === length;
        }"""
    )


@pytest.fixture
def default(either_workbench: Workbench) -> Workbench:
    """The workflow that ComfyUI begins with."""
    open_default(either_workbench)
    return either_workbench


def test_a_workflow_is_protected_undone_protected_again_and_the_reverse(default: Workbench) -> None:
    before, places = links(default), layout(default)
    assert encoders(default) in plain()

    default.execute(PROTECT)
    assert encoders(default) == ["AnonymizeFaces"] * 2
    assert len(default.nodes("AnonymizeFaces")) == 1 and overlaps(default) == []
    default.picture("protected")

    default.execute("Comfy.Undo")
    default.page.wait_for_function("() => !window.app.graph.nodes.some((node) => node.type === 'AnonymizeFaces')")
    assert links(default) == before and layout(default) == places

    default.execute(PROTECT)
    default.execute(PROTECT)
    assert len(default.nodes("AnonymizeFaces")) == 1
    default.execute(UNPROTECT)
    assert default.nodes("AnonymizeFaces") == []
    assert links(default) == before and layout(default) == places


def test_the_command_is_in_the_menu_of_the_canvas(workbench: Workbench) -> None:
    open_default(workbench)
    before = workbench.page.evaluate("() => window.app.graph.nodes.length")
    workbench.page.evaluate("() => { window.app.canvas.ds.offset[0] += 5000; window.app.canvas.setDirty(true, true); }")
    workbench.page.locator("#graph-canvas").click(button="right", position={"x": 700, "y": 600})
    workbench.page.get_by_text("Protect this workflow").first.click()
    workbench.page.wait_for_function("before => window.app.graph.nodes.length === before + 1", arg=before)
    assert encoders(workbench) == ["AnonymizeFaces"] * 2


def test_the_commands_are_in_the_menu_by_their_names(workbench: Workbench) -> None:
    open_default(workbench)
    menu = workbench.page.locator(".comfy-command-menu")
    workbench.page.locator(".comfy-menu-button-wrapper").click()
    menu.get_by_text("Edit", exact=True).hover()
    menu.get_by_text("Remove the protection", exact=True).wait_for()
    menu.get_by_text("Protect this workflow", exact=True).click()
    workbench.page.wait_for_function("() => window.app.graph.nodes.some((node) => node.type === 'AnonymizeFaces')")
    assert encoders(workbench) == ["AnonymizeFaces"] * 2


def test_a_lora_stays_before_the_protection_and_training_stays_plain(workbench: Workbench) -> None:
    workbench.page.evaluate(
        """() => {
            const make = (type, x, y) => {
                const node = window.LiteGraph.createNode(type);
                node.pos = [x, y];
                window.app.graph.add(node);
                return node;
            };
            const loader = make("LoadDemoModel", 0, 0);
            const lora = make("LoraLoader", 300, 0);
            const one = make("CLIPTextEncode", 620, 0);
            const two = make("CLIPTextEncode", 620, 300);
            const train = make("TrainAnonymizationPrefix", 620, 600);
            loader.connect(1, lora, 1);
            lora.connect(1, one, 0);
            loader.connect(1, two, 0);
            loader.connect(1, train, 1);
        }"""
    )
    workbench.execute(PROTECT)
    found = workbench.page.evaluate(
        """() => window.app.graph.nodes.flatMap((node) => (node.inputs ?? []).map((input, slot) =>
            input.type === "CLIP" && node.getInputNode(slot) ? `${node.getInputNode(slot).type} ${node.type}` : ""))
            .filter(Boolean).sort()"""
    )
    assert found == [
        "AnonymizeFaces CLIPTextEncode",
        "AnonymizeFaces CLIPTextEncode",
        "LoadDemoModel AnonymizeFaces",
        "LoadDemoModel LoraLoader",
        "LoadDemoModel TrainAnonymizationPrefix",
        "LoraLoader AnonymizeFaces",
    ]
    assert overlaps(workbench) == []


@pytest.mark.parametrize("inside", [[KINDS], [KINDS, *LOADERS]], ids=["prompts", "prompts and loader"])
def test_prompts_in_a_subgraph_are_protected(workbench: Workbench, inside: list[str]) -> None:
    open_default(workbench)
    workbench.page.evaluate(
        """inside => {
            const { graph } = window.app;
            graph.convertToSubgraph(new Set(graph.nodes.filter((node) => inside.includes(node.type))));
        }""",
        inside,
    )
    workbench.execute(PROTECT)
    assert encoders(workbench) == ["AnonymizeFaces"] * 2


def test_a_node_that_was_bypassed_is_woken(workbench: Workbench) -> None:
    open_default(workbench)
    workbench.execute(PROTECT)
    workbench.page.evaluate("() => { window.app.graph.nodes.find((n) => n.type === 'AnonymizeFaces').mode = 4; }")
    assert encoders(workbench) in plain()
    workbench.execute(PROTECT)
    assert encoders(workbench) == ["AnonymizeFaces"] * 2
    assert len(workbench.nodes("AnonymizeFaces")) == 1
