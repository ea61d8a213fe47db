"""Holds the tree of errors that opens their module against the classes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anonymize_faces.cli.settings_file import SettingsFileError
from anonymize_faces.nodes.enforcement.rewriting import PromptRefusedError
from anonymize_faces.nodes.server.requests import BadRequestError
from anonymize_faces.prefix import errors
from anonymize_faces.prefix.errors import AnonymizationError


def tree(kind: type[AnonymizationError], depth: int = 1) -> Iterator[str]:
    yield "    " * depth + kind.__name__
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below, depth + 1)


def test_the_module_opens_with_all_its_errors_as_a_tree():
    assert "\n".join(tree(AnonymizationError)) in str(errors.__doc__)


@pytest.mark.parametrize("kind", [PromptRefusedError, BadRequestError, SettingsFileError])
def test_errors_that_live_elsewhere_are_named_there(kind: type[AnonymizationError]):
    assert issubclass(kind, AnonymizationError) and kind.__name__ in str(errors.__doc__)
