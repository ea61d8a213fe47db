"""Parses the command line, calls its sub-commands, and tells how each ended."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..prefix.errors import AnonymizationError, shown, trouble_of
from .console import Console
from .settings_file import SettingsFileError

DONE, FAILED, WRONG_USE, BROKEN_OFF = 0, 1, 2, 130

DESCRIPTION = """\
Learns an anonymization prefix without ComfyUI, on a pipeline of diffusers: people who are named in a prompt keep the
looks that a description would give them, and get another face. Nothing in the model is changed. Also protects photos
against models that are trained on them, and tries how well that holds."""

EPILOGUE = """\
the usual way:
  python -m trainer train --model sd-1-5 --identities people.txt --output people.safetensors
  python -m trainer face-region p.safetensors --model sd-1-5 --identities people.txt --output q.safetensors
  python -m trainer evaluate people.safetensors --model sd-1-5 --names others.txt --output results
  python -m trainer describe photos --clip clip-vit-large-patch14 --form identities --output people.txt
  python -m trainer show people.safetensors
  python -m trainer convert fixed.safetensors for-a1111.safetensors --format textual-inversion
  python -m trainer check-embeddings people.safetensors embeddings/*.pt --names people.txt --model sd-1-5
  python -m trainer protect photos/ --output protected/ --model sd-1-5
  python -m trainer attack protected/ --original photos/ --model sd-1-5

sd-1-5 is a folder of diffusers; a .safetensors file needs --config FOLDER or --hub beside it. fixed.safetensors was
learned with --no-conditional, as textual inversions must be.

people.txt holds one person a line, with the looks that may stay:
  Ada Example: a woman with brown hair and glasses

exit codes: 0 done; 1 it could not be done, and a sentence on stderr says why; 2 the arguments are wrong; 130 it was
interrupted (a run of 'train' is kept, and goes on when the same command is given again).

'python -m trainer COMMAND --help' explains each command."""


class ToldToEnd(KeyboardInterrupt):
    """The system asked the process to end; to a run that is the same as Ctrl+C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; its exit code, see `EPILOGUE`."""
    parser = _parser()
    options = parser.parse_args(arguments)
    first = os.environ.get("RANK", "0") == "0"  # Of several processes, one speaks to scripts.
    console = Console(as_json=options.json and first, quiet=options.quiet)
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        run: Callable[[argparse.Namespace, Console], dict[str, Any]] = options.run
        result = run(options, console)
        if first:
            console.result(result)
    except SettingsFileError as error:
        console.failure(str(error), WRONG_USE)
        return WRONG_USE
    except AnonymizationError as error:
        console.failure(str(error), FAILED)
        return FAILED
    except KeyboardInterrupt:
        kept = getattr(options, "kept", "")
        console.failure(f"It was interrupted. {kept}".strip(), BROKEN_OFF)
        return BROKEN_OFF
    except BrokenPipeError:  # Whoever read what we say has had enough, as `head` has.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if (told := trouble_of(error)) is None:
            raise
        console.failure(shown(told), FAILED)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, previous)
    return DONE


def _parser() -> argparse.ArgumentParser:
    from . import attack, check_embeddings, convert, describe, evaluate, face_region, protect, show, train

    parser = argparse.ArgumentParser(
        prog=_program(),
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout and nothing else, for scripts"
    )
    shared.add_argument("--quiet", action="store_true", help="show no progress")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (train, face_region, evaluate, describe, convert, show, check_embeddings, protect, attack):
        sub = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOGUE,
            parents=[shared],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, kept=getattr(command, "KEPT", ""))
    return parser


def _program() -> str:
    """How the command was called, as far as can be told."""
    return "python -m trainer" if sys.argv[0].endswith("__main__.py") else "trainer"


def _terminate(*_: object) -> None:
    raise ToldToEnd
