"""No name leads a file out of the folder of prefixes."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonymize_faces.prefix import PrefixFileError, file_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("anonymous", "anonymous.safetensors"),
        (" anonymous.safetensors ", "anonymous.safetensors"),
        ("v1.2", "v1.2.safetensors"),
        ("studio/people 2026", "studio/people 2026.safetensors"),
        ("studio\\people", "studio/people.safetensors"),
        ("名前 🙂", "名前 🙂.safetensors"),
    ],
)
def test_a_good_name_becomes_a_path_in_the_folder(name, path):
    assert str(file_path(name)) == path


@pytest.mark.parametrize(
    "name",
    ["", "  ", ".safetensors", "/etc/passwd", "../up", "a/../../b", "..\\up", "C:\\x", "c:x", "\\\\server\\x", "a//b"]
    + ["a/", ".hidden", "a/.b", "con", "NUL", "lpt1.txt", "sub/COM1", "a.", "a /b", "a\nb", "a\0b", "what?", "a" * 300]
    + ["\ud800"],
)
def test_a_name_that_some_system_cannot_keep_in_the_folder_is_refused_with_the_remedy(name):
    with pytest.raises(PrefixFileError, match="use letters"):
        file_path(name)


@given(st.text())
def test_no_name_leads_out_of_the_folder(name):
    try:
        path = file_path(name)
    except PrefixFileError:
        return
    assert path.suffix == ".safetensors"
    for kind in (PurePosixPath, PureWindowsPath):
        seen = kind(str(path))
        assert not seen.is_absolute() and not seen.drive and ".." not in seen.parts
