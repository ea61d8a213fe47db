"""Makes Python environments for tests of what is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

from anonymize_faces.tools.layout import BUILD, ROOT

HALF_COMPILED = shutil.ignore_patterns("*.pyc.*")
"""What Python, where it compiles something just now, is about to rename."""

ABSENT = ("facenet-pytorch",)
"""What set-up has put into our environment and a host does not have."""


class Environment:
    """A Python environment of its own with ComfyUI's packages: a copy of the one that runs the tests.

    Files are hard links, so it is there in a second. Installing and uninstalling is safe for the original: pip and
    Python replace files, and never write into them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"

    def variables(self, **more: str) -> dict[str, str]:
        """This process's environment variables with this Python first on the path, and nothing of ours."""
        ours = {"PYTHONPATH", "VIRTUAL_ENV"}
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        return {**{name: value for name, value in os.environ.items() if name not in ours}, "PATH": path, **more}

    def run(self, *arguments: object, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs this Python outside of our folders; stdout and stderr come together."""
        command = [str(self.python), *map(str, arguments)]
        env = self.variables(**variables)
        done = subprocess.run(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0 or not check, done.stdout[-3000:]
        return done

    def pip(self, *arguments: object) -> str:
        """Runs pip on this environment, which need not have one."""
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(self.python)]
        return subprocess.run([*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True).stdout

    def packages(self) -> set[str]:
        """The lines of `pip freeze --all`, read off the folder in a fraction of the time."""
        return {f"{found.name}=={found.version}" for found in distributions(path=[str(self.site_packages())])}

    def site_packages(self) -> Path:
        """Where its packages lie."""
        return next((self.folder / "lib").glob("python3.*/site-packages"))

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Hides packages (with what says that they are installed) or files of packages, and brings them back.

        What took the place of a package meanwhile is uninstalled.
        """
        site = self.site_packages()
        found = [path for name in names for pattern in (name, f"{name}-*.dist-info") for path in site.glob(pattern)]
        with TemporaryDirectory(dir=self.folder) as aside:
            for number, path in enumerate(found):
                path.rename(Path(aside) / str(number))
            try:
                yield
            finally:
                there = {line.partition("==")[0] for line in self.packages()}
                if placed := sorted(there.intersection(names)):
                    self.pip("uninstall", "--yes", *placed)
                for number, path in enumerate(found):
                    (Path(aside) / str(number)).rename(path)


def _link(source: str, target: str) -> None:
    """Links a file, or copies it where files cannot be linked."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def environment() -> Iterator[Environment]:
    """A new environment, with nothing of ours in it, which goes away at the end."""
    BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix=".environment-", dir=BUILD) as folder:  # beside .venv: links need one file system
        made = Environment(Path(folder).resolve() / "venv")
        shutil.copytree(sys.prefix, made.folder, symlinks=True, ignore=HALF_COMPILED, copy_function=_link)
        (made.site_packages() / "anonymize_faces").unlink(missing_ok=True)
        for script in made.python.parent.iterdir():  # scripts name the Python that they were made for
            if not script.name.startswith("python"):
                script.unlink()
        made.pip("uninstall", "--yes", *ABSENT)
        yield made


def dead_network() -> Mapping[str, str]:
    """Environment variables under which neither pip nor uv reaches an index."""
    nowhere = "http://127.0.0.1:9/simple"
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_INDEX_URL": nowhere,
        "PIP_NO_CACHE_DIR": "1",
        "UV_INDEX_URL": nowhere,
    }


def committed(folder: Path) -> Path:
    """A git repository with our files as they are now, committed or not."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ["git", "-C", folder, "-c", "user.name=us", "-c", "user.email=us@example.invalid"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--no-gpg-sign", "-m", "as it is"]):
        subprocess.run([*git, *command], check=True)
    return folder
