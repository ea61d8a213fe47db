"""Protecting a whole workflow with one command, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.browser.workbench import Workbench
from anonymize_faces.tests.support.prefixes import demo_prefix, random_prefix

PROTECT, UNPROTECT = "AnonymizeFaces.Protect", "AnonymizeFaces.Unprotect"
KINDS = "CLIPTextEncode"
LOADERS = ["CheckpointLoaderSimple", "CLIPLoader"]
"""What the text encoder comes from in the workflow that ComfyUI begins with: in older ones and in newer ones."""

MENU_BUTTON = ".comfy-menu-button-wrapper, [data-testid=comfy-menu-button]"
MENU = ".comfy-command-menu, [role=menu]"
"""The host's menu, and what opens it, in older frontends and in newer ones."""


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


@pytest.fixture(autouse=True)
def demo_people(workbench: Workbench) -> None:
    """A prefix that fits the demo model, and nothing else: tests before these leave theirs on the shared server."""
    for path in workbench.server.prefix_folder.rglob("*.*"):
        path.unlink()
    save_prefix(
        demo_prefix(family="ClassicModel"), workbench.server.prefix_folder / "demo people.safetensors", overwrite=True
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
    assert len(default.nodes("AnonymizeFaces")) == 1
    default.settle()
    assert default.overlaps() == []
    default.picture("protected")

    default.page.locator("#graph-canvas").click(position={"x": 20, "y": 850}, force=True)  # The host takes stock then.
    default.settle()
    default.execute("Comfy.Undo")
    default.page.wait_for_function("() => !window.app.graph.nodes.some((node) => node.type === 'AnonymizeFaces')")
    assert links(default) == before and layout(default) == places

    default.execute(PROTECT)
    default.execute(PROTECT)
    assert len(default.nodes("AnonymizeFaces")) == 1
    default.execute(UNPROTECT)
    assert default.nodes("AnonymizeFaces") == []
    assert links(default) == before and layout(default) == places


def test_where_no_prefix_can_be_told_to_fit_it_warns_and_takes_none_of_the_demo(workbench: Workbench) -> None:
    open_default(workbench)
    workbench.page.evaluate(
        """() => {
            const widgets = window.app.graph.nodes.flatMap((node) => node.widgets ?? []);
            const checkpoint = widgets.find(({ name }) => name === "ckpt_name");
            if (checkpoint) checkpoint.value = "nowhere.safetensors";
        }"""
    )  # No such checkpoint is here, so nothing tells its family; nor do the newer host's loaders of parts.
    protect(workbench, "No prefix is chosen yet")
    assert workbench.told("Text encoders protected").count() == 0
    assert [node["widgets_values"][0] for node in workbench.nodes("AnonymizeFaces")] == ["(choose a prefix)"]

    workbench.execute(UNPROTECT)
    save_prefix(random_prefix({"l": 768}, family="sd1"), workbench.server.prefix_folder / "of another.safetensors")
    protect(workbench, "With the prefix of another.safetensors. Whether it fits this checkpoint is only known")
    assert [node["widgets_values"][0] for node in workbench.nodes("AnonymizeFaces")] == ["of another.safetensors"]


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
    menu = workbench.page.locator(MENU)
    workbench.page.locator(MENU_BUTTON).click()
    menu.get_by_text("Edit", exact=True).first.hover()
    menu.get_by_text("Remove the protection", exact=True).first.wait_for()
    menu.get_by_text("Protect this workflow", exact=True).first.click()
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
    assert workbench.overlaps() == []


@pytest.mark.parametrize(
    "inside",
    [[KINDS], [KINDS, *LOADERS], [KINDS, *LOADERS, "EmptyLatentImage", "KSampler", "VAEDecode"]],
    ids=["prompts", "prompts and loader", "all but the end"],
)
def test_prompts_in_a_subgraph_are_protected(workbench: Workbench, inside: list[str]) -> None:
    open_default(workbench)
    workbench.page.evaluate(
        """inside => {
            const { graph } = window.app;
            graph.convertToSubgraph(new Set(graph.nodes.filter((node) => inside.includes(node.type))));
        }""",
        inside,
    )
    before = overlaps_inside(workbench)
    workbench.execute(PROTECT)
    assert encoders(workbench) == ["AnonymizeFaces"] * 2
    assert overlaps_inside(workbench) <= before


def overlaps_inside(workbench: Workbench) -> int:
    """How many pairs of nodes, and of nodes and the ends, lie on each other in the subgraphs."""
    count, go = 0, "at => { const { canvas, graph } = window.app; canvas.setGraph([...(graph.rootGraph ?? graph)"
    for at in range(workbench.page.evaluate("() => window.app.graph.subgraphs.size")):
        workbench.page.evaluate(f"{go}.subgraphs.values()][at]); }}", at)
        workbench.settle()
        count += len(workbench.overlaps())
        workbench.page.evaluate("() => { const { canvas, graph } = window.app; canvas.setGraph(graph.rootGraph); }")
    return count


def test_a_node_that_was_bypassed_is_woken(workbench: Workbench) -> None:
    open_default(workbench)
    workbench.execute(PROTECT)
    workbench.page.evaluate("() => { window.app.graph.nodes.find((n) => n.type === 'AnonymizeFaces').mode = 4; }")
    assert encoders(workbench) in plain()
    workbench.execute(PROTECT)
    assert encoders(workbench) == ["AnonymizeFaces"] * 2
    assert len(workbench.nodes("AnonymizeFaces")) == 1


BUILD = """([nodes, wires]) => {
    const { graph } = window.app;
    const made = Object.fromEntries(Object.entries(nodes).map(([name, type], index) => {
        const node = window.LiteGraph.createNode(type);
        node.pos = [index * 320, 0];
        node.title = name;
        graph.add(node);
        return [name, node];
    }));
    for (const [from, slot, to, input] of wires) {
        made[from].connect(slot, made[to], made[to].inputs.findIndex((found) => found.name === input));
    }
}"""
SWITCH = """() => {
    if ("test/switch" in window.LiteGraph.registered_node_types) return;
    class Switch extends window.LiteGraph.LGraphNode {
        constructor() {
            super("switch");
            this.addInput("one", "*");
            this.addInput("two", "*");
            this.addInput("which", "INT");
            this.addOutput("out", "*");
        }
    }
    window.LiteGraph.registerNodeType("test/switch", Switch);
}"""
"""What other packs call a switch: it takes anything, and hands on one of two."""

ENCODE, PROTECTOR, LOAD = "CLIPTextEncode", "AnonymizeFaces", "LoadDemoModel"
ALREADY = "This workflow is protected already."


def build(workbench: Workbench, nodes: dict[str, str], *wires: tuple[str, int, str, str]) -> None:
    """Puts nodes, by names for this test and types, on the canvas, and connects outputs, by slot, to named inputs."""
    workbench.page.evaluate(BUILD, [nodes, [list(wire) for wire in wires]])


def feeds(workbench: Workbench, name: str, slot: str = "clip") -> str:
    """The title of the node that is connected to an input."""
    return workbench.page.evaluate(
        """([name, slot]) => {
            const node = window.app.graph.nodes.find((found) => found.title === name);
            return node.getInputNode(node.inputs.findIndex((found) => found.name === slot))?.title ?? "";
        }""",
        [name, slot],
    )


def protect(workbench: Workbench, *told: str) -> None:
    """Protects, and waits until all of that is said, and nothing of being protected already unless it is among it."""
    workbench.hush()
    workbench.told().first.wait_for(state="hidden")  # They fade.
    workbench.execute(PROTECT)
    for text in told:
        workbench.told(text).first.wait_for()
    if ALREADY not in told:
        assert workbench.told(ALREADY).count() == 0


def protectors(workbench: Workbench) -> int:
    return len(workbench.nodes(PROTECTOR))


@pytest.mark.parametrize("first", ["protected", "plain"])
@pytest.mark.parametrize("kind", ["CLIPMergeSimple", "test/switch"])
def test_of_a_switch_each_way_is_protected(workbench: Workbench, kind: str, first: str) -> None:
    workbench.page.evaluate(SWITCH)
    one, two = ("one", "two") if kind == "test/switch" else ("clip1", "clip2")
    ours, theirs = (one, two) if first == "protected" else (two, one)
    build(
        workbench,
        {"load": LOAD, "mine": PROTECTOR, "other": LOAD, "switch": kind, "encode": ENCODE},
        ("load", 1, "mine", "clip"), ("mine", 0, "switch", ours), ("other", 1, "switch", theirs),
        ("switch", 0, "encode", "clip"),
    )  # fmt: skip
    protect(workbench, "Text encoders protected: 1")
    assert protectors(workbench) == 2
    assert feeds(workbench, "switch", ours) == "mine" and feeds(workbench, "switch", theirs) == "Anonymize Faces"
    assert feeds(workbench, "encode") == "switch"
    protect(workbench, ALREADY)
    assert protectors(workbench) == 2


def test_a_prompt_behind_reroutes_and_a_bypassed_lora_is_protected_once(workbench: Workbench) -> None:
    build(
        workbench,
        {"load": LOAD, "mine": PROTECTOR, "r1": "Reroute", "lora": "LoraLoader", "r2": "Reroute", "encode": ENCODE},
        ("load", 1, "mine", "clip"), ("lora", 1, "r2", ""), ("r2", 0, "encode", "clip"),
    )  # fmt: skip
    workbench.page.evaluate(
        """() => {
            const named = (name) => window.app.graph.nodes.find((found) => found.title === name);
            named("mine").connect(0, named("r1"), 0);
            named("r1").connect(0, named("lora"), 1);
            named("lora").mode = 4;
        }"""
    )
    protect(workbench, ALREADY)
    assert protectors(workbench) == 1


def test_a_protection_of_strength_0_is_none(workbench: Workbench) -> None:
    build(
        workbench,
        {"load": LOAD, "mine": PROTECTOR, "encode": ENCODE},
        ("load", 1, "mine", "clip"),
        ("mine", 0, "encode", "clip"),
    )
    workbench.page.evaluate(
        """() => {
            const node = window.app.graph.nodes.find((found) => found.title === "mine");
            node.widgets.find((widget) => widget.name === "strength").value = 0;
        }"""
    )
    protect(workbench, "Text encoders protected: 1")
    assert protectors(workbench) == 1
    strength = (
        "() => window.app.graph.nodes.find((n) => n.title === 'mine').widgets.find((w) => w.name === 'strength').value"
    )
    assert workbench.page.evaluate(strength) == 1


def test_what_cannot_be_seen_is_told_by_name_as_it_is_written(workbench: Workbench) -> None:
    build(
        workbench,
        {"load": LOAD, "mine": PROTECTOR, "encode": ENCODE, "<b>alone</b>": ENCODE},
        ("load", 1, "mine", "clip"), ("mine", 0, "encode", "clip"),
    )  # fmt: skip
    protect(workbench, "Not protected for sure: <b>alone</b> (", "It cannot be seen where they get their text encoder")


def test_nodes_that_read_text_past_every_text_encoder_are_named(workbench: Workbench) -> None:
    page, route = workbench.page, "**/anonymize_faces/own_encoders"
    build(
        workbench,
        {"load": LOAD, "mine": PROTECTOR, "encode": ENCODE, "full loader": "LoadImage", "far away": "EmptyImage"},
        ("load", 1, "mine", "clip"), ("mine", 0, "encode", "clip"),
    )  # fmt: skip
    page.route(route, lambda call: call.fulfill(json={"own_encoders": {"LoadImage": []}, "services": ["EmptyImage"]}))
    protect(workbench, "Not protected: full loader (", "an encoder of their own", "Not protected: far away (")
    page.unroute(route)
    protect(workbench, ALREADY)
    page.route(route, lambda call: call.abort())
    protect(workbench, "could not be asked", "The server does not answer.")
    page.unroute(route)
    workbench.complaints.clear()  # Of the answer that was kept away.


def test_what_a_subgraph_protects_inside_is_left_and_its_removal_leaves_no_loose_wire(workbench: Workbench) -> None:
    build(
        workbench,
        {"load": LOAD, "mine": PROTECTOR, "encode": ENCODE},
        ("load", 1, "mine", "clip"),
        ("mine", 0, "encode", "clip"),
    )
    workbench.page.evaluate(
        """() => {
            const { graph } = window.app;
            graph.convertToSubgraph(new Set(graph.nodes.filter((node) => node.title !== "load")));
        }"""
    )
    protect(workbench, ALREADY)
    assert protectors(workbench) == 0
    workbench.execute(UNPROTECT)
    inside = """() => [...window.app.graph.subgraphs.values()].flatMap((graph) =>
        graph.nodes.map((node) => `${node.type} ${node.inputs[0].link !== null}`))"""
    assert workbench.page.evaluate(inside) == [f"{ENCODE} true"]
    protect(workbench, "Text encoders protected: 1")


def test_a_subgraph_that_is_used_twice_is_protected_at_both_places(workbench: Workbench) -> None:
    build(workbench, {"load": LOAD, "other": LOAD, "encode": ENCODE}, ("load", 1, "encode", "clip"))
    workbench.page.evaluate(
        """() => {
            const { graph } = window.app;
            const { node } = graph.convertToSubgraph(new Set(graph.nodes.filter((found) => found.title === "encode")));
            const second = window.LiteGraph.createNode(node.type);
            graph.add(second);
            graph.nodes.find((found) => found.title === "other").connect(1, second, 0);
        }"""
    )
    protect(workbench, "Text encoders protected: 2")
    protect(workbench, ALREADY)
