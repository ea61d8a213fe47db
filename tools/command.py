"""Runs a command so that it ends in a sentence and an exit code, whatever was in its way.

Exit codes: 0 done; 1 it could not be done, and a sentence on stderr says why; 2 the arguments are wrong; 130 it was
interrupted. What is none of the troubles that a machine, a file or a server may make is a fault of ours and keeps its
traceback.

    python -m anonymize_faces.tools.command anonymize_faces.demo.main_job …

runs a module so from its first import on.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable

DONE, FAILED, INTERRUPTED = 0, 1, 130

_OWN = ("AnonymizationError", "WorkflowError")


class Terminated(KeyboardInterrupt):
    """The system asked the process to end; the same as Ctrl+C."""


def run_command(main: Callable[[], int | None], interrupted: str = "It was interrupted.") -> int:
    """Runs it; the exit code.

    Args:
        interrupted: what is said when it was interrupted.

    Raises:
        SystemExit: by the command itself, such as for wrong arguments.
    """
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        return main() or DONE
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr, flush=True)
        return INTERRUPTED
    except BrokenPipeError:  # Whoever read what it prints has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if (sentence := sentence_of(error)) is None:
            raise
        print(f"\n{sentence}", file=sys.stderr, flush=True)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, previous)


def sentence_of(error: BaseException) -> str | None:
    """What a person is told of an error of ours, of a file, a machine or a server; None if it is of no such kind."""
    if (told := getattr(error, "sentence", None)) is not None:  # `comfy_server.ServerError`
        log = str(error).strip().splitlines()
        return told if len(log) < 2 else f"{told} The last line of its log: {log[-1].strip()}"
    if not {cls.__name__ for cls in type(error).__mro__}.isdisjoint(_OWN):
        return str(error).strip()
    if isinstance(error, ImportError):
        return f"A package is missing or damaged ({_line(error)}): run 'make setup', then the same command again."
    if isinstance(error, subprocess.CalledProcessError):
        return f"A part of it ended with exit code {error.returncode}: what it said stands above."
    if type(error).__name__ in ("ProcessRaisedException", "ProcessExitedException"):  # torch.multiprocessing
        return f"One of its processes failed: {str(error).strip().splitlines()[-1]}"
    from ..prefix.errors import trouble_of

    return trouble_of(error)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _terminate(*_: object) -> None:
    raise Terminated


def _module() -> None:
    """Runs the module that the command line names."""
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.exit(run_command(_module))
