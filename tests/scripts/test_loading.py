"""The script fills neither these hosts' start nor their table of modules with what others need."""

from __future__ import annotations

import subprocess
import sys

from anonymize_faces.tests.support.web_ui.host import PACKAGE, SCRIPT

LOADING = """
import sys
from pathlib import Path
from anonymize_faces.tests.support.web_ui import host
import safetensors.torch  # as every host has
made = host.modules_of(Path(sys.argv[1]), "forge")
sys.modules.update(made.modules)
sys.path.insert(0, sys.argv[2])  # as the hosts do with an extension's folder
before = set(sys.modules)
script = host.load(Path(sys.argv[2]) / "scripts" / "anonymize_faces.py")
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names)))
print(script.GUARD.current())
"""


def test_it_loads_from_a_folder_of_any_name_and_brings_nothing_but_our_own_package(tmp_path):
    folder = tmp_path / "sd-webui anonymize.faces"
    folder.symlink_to(SCRIPT.parents[1])
    command = [sys.executable, "-c", LOADING, str(tmp_path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines() == [PACKAGE, "None"], "heavy imports, or names that belong to others"


def test_the_panel_shows_prefix_files_and_says_when_the_server_decides(open_host, monkeypatch):
    made = open_host()
    panel, (enabled, prefix, strength) = made.part("panel"), made.part("panel").build(str, None)[0]
    assert (enabled.value, enabled.interactive) == (False, True)
    assert prefix.choices == ["others.safetensors", "people.safetensors"]
    assert (strength.value, strength.minimum, strength.maximum) == (1.0, 0.0, 1.0)
    for path in made.folder.iterdir():
        path.unlink()
    assert panel.build(str, None)[0][1].value == "(no prefix files yet)"
    monkeypatch.setenv("ANONYMIZE_FACES_ENFORCE", "people.safetensors")
    made = open_host()
    controls, _ = made.part("panel").build(str, made.script.GUARD.enforcement)
    assert [control.interactive for control in controls] == [False, False, False]
