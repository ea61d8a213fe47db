"""The extension loads in a real host, and does not slow its start."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from anonymize_faces.tools.comfy_server import ComfyServer
from anonymize_faces.tools.layout import EXTENSION, ROOT

SOCKETS = {
    "AnonymizeFaces": ({"clip", "prefix", "strength", "learned_prefix"}, ["CLIP"]),
    "CompareStrengths": (
        {"model", "clip", "vae", "prompts", "strengths", "prefix_1", "learned_prefix_3"},
        ["IMAGE", "IMAGE", "IMAGE"],
    ),
    "AnonymizeFaceRegion": (
        {"model", "clip", "text", "prefix", "certainty", "margin", "softness", "learned_prefix"},
        ["MODEL", "CONDITIONING", "CLIP"],
    ),
    "FaceMask": ({"model", "positive", "samples", "before", "after"}, ["MASK"]),
    "IdentityList": ({"text"}, ["IDENTITIES"]),
    "DescribeFaces": (
        {"images", "reader", "certainty", "attributes", "several", "reword", "clip_model", "language_model"},
        ["STRING", "STRING", "IMAGE", "IMAGE"],
    ),
    "DescribePeople": (
        {"folder", "reader", "certainty", "names", "images", "clip_model", "language_model"},
        ["IDENTITIES", "STRING", "STRING", "IMAGE"],
    ),
    "TrainAnonymizationPrefix": (
        {"model", "clip", "vae", "identities", "general_prompts", "seed"},
        ["ANONYMIZATION_PREFIX", "IMAGE", "STRING"],
    ),
    "LoadAnonymizationPrefix": (set(), ["ANONYMIZATION_PREFIX"]),
    "SaveAnonymizationPrefix": ({"prefix", "name", "format"}, []),
    "MeasureAnonymization": ({"plain", "anonymized", "recognizer", "reference"}, ["STRING", "IMAGE", "FLOAT"]),
    "EvaluateAnonymization": (
        {"model", "clip", "vae", "recognizer", "prompts", "prefix_1", "learned_prefix_3", "identities", "references"},
        ["STRING", "IMAGE", "STRING", "STRING", "ANONYMIZATION_PREFIX"],
    ),
    "ProtectPhotos": (
        {"photos", "model", "clip", "vae", "budget", "method", "mask", "pull_towards"},
        ["IMAGE", "STRING", "IMAGE"],
    ),
    "MeasurePhotoProtection": (
        {"original", "protected", "model", "clip", "vae", "recognizer", "attacker", "purification", "strangers"},
        ["STRING", "IMAGE", "IMAGE", "FLOAT"],
    ),
    "FineTuneOnCaptions": (
        {"images", "captions", "model", "clip", "vae", "steps", "text_encoder", "general_pictures", "general_prompts"},
        ["MODEL", "CLIP", "LORA_MODEL", "STRING"],
    ),
    "LearnExperts": (
        {"model", "clip", "vae", "prompts", "experts", "keep", "steps", "tuning_steps", "seed"},
        ["PROMPT_EXPERTS", "STRING", "IMAGE"],
    ),
    "SaveExperts": ({"experts", "name"}, []),
    "LoadExperts": ({"file"}, ["PROMPT_EXPERTS"]),
    "RoutePrompt": ({"model", "experts", "positive", "expert"}, ["MODEL", "STRING"]),
    "MeasureExperts": (
        {"model", "experts", "positive", "negative", "latent_image", "steps", "cfg", "turns", "seed"},
        ["STRING"],
    ),
    "LoadDemoModel": (set(), ["MODEL", "CLIP", "VAE"]),
}
MAY_IMPORT = {
    "PIL",
    "comfy",
    "comfy_api",
    "comfy_execution",
    "folder_paths",
    "nodes",
    "numpy",
    "safetensors",
    "server",
    "torch",
}
"""What our modules may ask for while the host starts, beside the standard library: all of it the host has by then."""
LOAD_AS_THE_HOST_DOES = """
import asyncio, builtins, importlib.util, json, sys
host, extension = sys.argv[1:]
sys.path.insert(0, host)
sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.extra_config  # as main.py does: first, or another module of that name is found
import nodes, server
before, asked, importing = set(sys.modules), set(), builtins.__import__
def watched(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and (globals or {}).get("__name__", "").partition(".")[0] == "loaded":
        asked.add(name.partition(".")[0])
    return importing(name, globals, locals, fromlist, level)
builtins.__import__ = watched
entry = extension + "/__init__.py"
spec = importlib.util.spec_from_file_location("loaded", entry, submodule_search_locations=[extension])
sys.modules["loaded"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
async def load():
    return await (await module.comfy_entrypoint()).get_node_list()
asyncio.run(load())
print(json.dumps({"loaded": sorted(set(sys.modules) - before), "asked": sorted(asked)}))
"""


@pytest.fixture(scope="module")
def object_info(server: ComfyServer) -> dict:
    return server.object_info()


def test_the_host_loads_the_extension_without_complaint(server):
    start = server.log().split("Starting server")[0]
    lines = [line for line in start.splitlines() if EXTENSION in line]
    assert any("seconds:" in line for line in lines), lines
    assert not any("IMPORT FAILED" in line or "Cannot import" in line or "Error while" in line for line in lines), lines


@pytest.mark.parametrize("node_id", SOCKETS)
def test_a_node_is_listed_with_its_sockets(object_info, node_id):
    node = object_info[node_id]
    inputs, outputs = SOCKETS[node_id]
    assert node["category"] == "anonymize"
    assert inputs <= {name for group in node["input"].values() for name in group}
    assert node["output"] == outputs


@pytest.mark.parametrize("node_id", SOCKETS)
def test_a_node_explains_itself_and_every_input_and_output(object_info, node_id):
    node = object_info[node_id]
    assert node["description"]
    sockets = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    assert [name for name, (_, settings) in sockets.items() if not settings.get("tooltip")] == []
    assert len(node["output_tooltips"]) == len(node["output"])
    assert all(node["output_tooltips"])
    assert (ROOT / "web" / "docs" / f"{node_id}.md").is_file()


def test_no_other_node_comes_from_the_extension(object_info):
    ours = {node_id for node_id, node in object_info.items() if EXTENSION in node["python_module"]}
    assert ours == SOCKETS.keys()


def test_loading_the_extension_imports_nothing_that_the_host_has_not_imported(host):
    command = [sys.executable, "-c", LOAD_AS_THE_HOST_DOES, str(host), str(ROOT)]
    done = subprocess.run(command, cwd=host, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    modules = json.loads(done.stdout.splitlines()[-1])
    loaded, asked = modules["loaded"], set(modules["asked"])
    assert "loaded.nodes" in loaded
    assert not [name for name in loaded if name.startswith("loaded.demo")]
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"loaded"}
    assert asked - sys.stdlib_module_names <= MAY_IMPORT
    assert "torch" in asked


def test_the_package_imports_without_the_host():
    code = "import sys, anonymize_faces; print([n for n in sys.modules if n.startswith(('comfy', 'torch'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_prefix_files_of_the_users_own_folders_come_first(server):
    assert f"Adding extra search path anonymization_prefixes {server.prefix_folder}" in server.log()


def test_the_pictures_of_the_help_pages_are_there_and_small():
    shown = []
    for page in (ROOT / "web" / "docs").glob("*.md"):
        shown += re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert len(shown) >= 7
    assert all((ROOT / "web" / "docs" / picture).stat().st_size < 200_000 for picture in shown)
