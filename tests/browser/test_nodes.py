"""The nodes in the real frontend of a real ComfyUI, in a real browser."""

from __future__ import annotations

import contextlib

import pytest

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.browser.workbench import Workbench, load
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.layout import ROOT

TITLES = {
    "AnonymizeFaces": "Anonymize Faces",
    "TrainAnonymizationPrefix": "Train Anonymization Prefix",
}


@pytest.mark.parametrize("kind", TITLES)
def test_a_node_is_found_by_search_and_added(either_workbench: Workbench, kind: str) -> None:
    either_workbench.add_by_search(TITLES[kind])
    either_workbench.page.wait_for_function("() => window.app.graph.nodes.length === 1")
    (node,) = either_workbench.nodes(kind)
    assert node["inputs"][0]["name"] in ("clip", "model")


@pytest.mark.parametrize("kind", ["TrainAnonymizationPrefix", "EvaluateAnonymization"])
def test_advanced_settings_are_folded_until_somebody_asks_for_them(workbench: Workbench, kind: str) -> None:
    heights, values = workbench.page.evaluate(
        """async kind => {
            const { graph } = window.app;
            const node = window.LiteGraph.createNode(kind);
            graph.add(node);
            const button = node.widgets.find((widget) => widget.name === "advanced_settings");
            const [heights, values] = [[], []];
            for (let times = 0; times < 3; times += 1) {
                // The host lays a node out when it draws it, and lets none be smaller than that.
                for (let frame = 0; frame < 5; frame += 1) {
                    window.app.canvas.draw(true, true);
                    await new Promise(requestAnimationFrame);
                }
                heights.push(node.size[1]);
                values.push(JSON.stringify(node.serialize().widgets_values));
                button.callback();
            }
            return [heights, values];
        }""",
        kind,
    )
    folded, unfolded, again = heights
    assert folded == again < unfolded and len(set(values)) == 1


def test_a_workflow_that_was_saved_long_ago_has_its_values_where_they_belong(workbench: Workbench) -> None:
    workbench.open(load(ROOT / "example_workflows" / "2 Protect a workflow.json"))
    values = """() => Object.fromEntries(window.app.graph.nodes.find((node) => node.type === "AnonymizeFaces")
        .widgets.map((widget) => [widget.name, widget.value]))"""
    found = workbench.page.evaluate(values)
    assert (found["prefix"], found["strength"]) == ("demo people (newest)", 1.0)
    prompt = workbench.page.evaluate("async () => (await window.app.graphToPrompt()).output")
    (inputs,) = (node["inputs"] for node in prompt.values() if node["class_type"] == "AnonymizeFaces")
    assert (inputs["prefix"], inputs["strength"]) == ("demo people (newest)", 1.0) and len(inputs["clip"]) == 2


@pytest.mark.parametrize("late", [False, True], ids=["answered at once", "answered late"])
def test_a_report_is_there_again_when_one_comes_back_to_its_workflow(workbench: Workbench, late: bool) -> None:
    page = workbench.page
    workbench.execute("Comfy.NewBlankWorkflow")
    save_prefix(demo_prefix(), workbench.server.prefix_folder / "demo people.safetensors", overwrite=True)
    workflow = page.evaluate(
        """async () => {
            await window.app.refreshComboInNodes();
            const { graph, extensionManager } = window.app;
            const [load, save] = ["LoadAnonymizationPrefix", "SaveAnonymizationPrefix"].map((type) => {
                const node = window.LiteGraph.createNode(type);
                graph.add(node);
                return node;
            });
            load.widgets[0].value = "demo people.safetensors";
            save.widgets[0].value = "kept";
            save.pos = [400, 100];
            load.connect(0, save, 0);
            const { activeWorkflow } = extensionManager.workflow;
            // As each click of a person does: what the host has not noted is not there when one comes back.
            activeWorkflow.changeTracker.checkState?.();
            return activeWorkflow.filename;
        }"""
    )
    report = page.locator(".anonymize-faces-report")
    # A run of a moment is over before a busy page knows of its number, and then the host keeps nothing of it.
    with workbench.late_answers() if late else contextlib.nullcontext():
        workbench.queue()
        report.get_by_text("kept.safetensors").wait_for()
    workbench.open(load(ROOT / "example_workflows" / "2 Protect a workflow.json"))
    report.wait_for(state="detached")
    workbench.go_back_to(workflow)
    report.get_by_text("kept.safetensors").wait_for()
