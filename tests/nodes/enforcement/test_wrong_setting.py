"""A wrong setting never means off: a real server that is to enforce a prefix that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from anonymize_faces.prefix import save_prefix
from anonymize_faces.tests.support.enforced_workflow import node, sampling
from anonymize_faces.tests.support.prefixes import demo_prefix
from anonymize_faces.tools.comfy_server import ComfyServer, WorkflowError

NAME = "studios/missing.safetensors"
REASON = f"This server must anonymize every prompt and cannot: There is no prefix file '{NAME}'"
REMEDY = "Nothing is drawn until its operator has set it right and started it again."


@pytest.fixture(scope="module")
def wrong(host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    made = ComfyServer(tmp_path_factory.mktemp("wrong"), report=print, environment={"ANONYMIZE_FACES_ENFORCE": NAME})
    save_prefix(demo_prefix(0), made.prefix_folder / "other.safetensors")
    with made:
        yield made


def saving(name: str) -> dict[str, Any]:
    return {
        "load": node("LoadAnonymizationPrefix", file="other.safetensors"),
        "save": node("SaveAnonymizationPrefix", prefix=["load", 0], name=name, format="safetensors"),
    }


def test_a_prompt_is_refused_with_the_fault_and_nothing_of_it_is_queued(wrong):
    answer = requests.post(wrong.url + "/prompt", json={"prompt": sampling()}, timeout=60)
    assert answer.status_code == 400
    (errors,) = (told["errors"] for told in answer.json()["node_errors"].values())
    assert REASON in errors[0]["details"] and errors[0]["details"].endswith(REMEDY)
    assert requests.get(wrong.url + "/prompt", timeout=60).json() == {"exec_info": {"queue_remaining": 0}}
    assert requests.get(wrong.url + "/history", timeout=60).json() == {}


def test_whoever_runs_the_server_is_told_the_fault(wrong):
    told = requests.get(wrong.url + "/anonymize_faces/enforcement", timeout=60).json()
    assert told["enforced"] is True and told["prefix"] == NAME and REASON in told["fault"]
    assert REASON in wrong.log()


@pytest.mark.parametrize("name", ["studios/missing", NAME, "studios\\Missing"])
def test_nobody_can_save_a_prefix_of_their_own_under_the_missing_name(wrong, name):
    with pytest.raises(WorkflowError, match="which only its operator can change: choose another name") as refusal:
        wrong.run(saving(name))
    assert refusal.value.node_id == "save"
    assert [path.name for path in wrong.prefix_folder.rglob("*.*")] == ["other.safetensors"]


def test_a_prefix_can_be_saved_under_any_other_name(wrong):
    wrong.run(saving("missing"))
    saved = wrong.prefix_folder / "missing.safetensors"
    assert saved.read_bytes() == (wrong.prefix_folder / "other.safetensors").read_bytes()
    saved.unlink()
