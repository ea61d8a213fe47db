"""Reads options from a TOML file.

A key is an option's name, with `-` or `_`; sections are for the reader only. What the command line says goes before.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..prefix.errors import AnonymizationError, shown

_NOT_IN_FILES = ("help", "settings", "json", "quiet")
"""Options of the command line alone: they say how it is used, not what it does."""


class SettingsFileError(AnonymizationError):
    """A file of options that cannot be used; a sentence with a remedy."""


def with_file(parser: argparse.ArgumentParser, options: argparse.Namespace, path: Path) -> argparse.Namespace:
    """The options, with the file's values for those that the command line leaves out.

    Args:
        parser: of the options; its actions must have no defaults, so that what was left out can be told.

    Raises:
        SettingsFileError: the file cannot be read, or has a key or a value that is no option's.
    """
    actions = {action.dest: action for action in parser._actions}
    for name, value in _flat(_read(path), path).items():
        action = actions.get(name)
        if action is None or name in _NOT_IN_FILES:
            raise SettingsFileError(
                f"'{shown(path)}' sets '{name}', and there is no such option: see --help for their names."
            )
        if getattr(options, name, None) is None:
            setattr(options, name, _value(action, value, name, path))
    return options


def _read(path: Path) -> Mapping[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10.
        try:
            import tomli as tomllib
        except ModuleNotFoundError:
            raise SettingsFileError(
                "This Python cannot read TOML files: use Python 3.11 or newer, or 'pip install tomli'."
            ) from None
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise SettingsFileError(f"'{shown(path)}' cannot be read ({error.strerror}): name another file.") from error
    except UnicodeDecodeError as error:
        raise SettingsFileError(
            f"'{shown(path)}' is not in UTF-8: save it so, as your editor's menu offers."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SettingsFileError(f"'{shown(path)}' is not a TOML file ({error}): correct it.") from error


def _flat(table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """All keys of all sections."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        found = _flat(value, path) if isinstance(value, Mapping) else {name.replace("-", "_"): value}
        if twice := flat.keys() & found.keys():
            raise SettingsFileError(f"'{shown(path)}' sets '{min(twice)}' twice: keep one of the lines.")
        flat |= found
    return flat


def _value(action: argparse.Action, value: Any, name: str, path: Path) -> Any:
    """A value as the option on the command line would give it."""
    wrong = SettingsFileError(f"'{shown(path)}' sets '{name}' to {value!r}, which that option cannot be: see --help.")
    if action.nargs == 0 or isinstance(value, bool):  # A switch, and only a switch.
        if not isinstance(value, bool) or action.nargs != 0:
            raise wrong
        return value
    if not isinstance(value, str if action.type not in (int, float) else int | float | str):
        raise wrong
    try:
        found = action.type(str(value)) if action.type is not None else str(value)
    except (ValueError, argparse.ArgumentTypeError):
        raise wrong from None
    if action.choices is not None and found not in action.choices:
        raise wrong
    return found
