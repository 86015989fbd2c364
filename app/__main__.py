"""The main job: `python -m app` labels the lexicon and says what came of it.

Beside it, `python -m app train` trains alone, and `python -m app --sink` receives what durable reporters send.

Exit codes: 0 done and all accounts add up; 1 failed, or they do not; 2 a mistake on the command line or in the
configuration; 130 interrupted. An interrupted run still concludes with what it has; a second Ctrl-C ends it at once.
What goes wrong is one sentence on stderr, never a traceback.
"""

from __future__ import annotations

import os
import signal
import sys

_interruptible = __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _interruptible:
    # Importing the rest takes a moment, in which there is nothing to conclude: Python would show a traceback, or lose
    # the interrupt in a callback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

import sqlite3
from pathlib import Path

from loguru import logger

from app import sink
from app.job import run
from app.options import Parser, parse
from app.screen import Screen
from app.training import cli as training
from runtime.errors import BeamstalkError, InvalidValue, StartError

_OTHERS = {
    "train": ("Train a small model on the lexicon.", training.add_arguments, training.run),
    "--sink": ("Receive what durable reporters send, and check it.", sink.add_arguments, sink.run),
}


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    logger.remove()  # stderr is for what is said here
    try:
        if arguments and arguments[0] in _OTHERS:
            return _other(arguments[0], arguments[1:])
        return _label(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python would stumble over it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except InvalidValue as mistake:
        return _fail(mistake, 2)
    except StartError as failure:
        return _fail(_root(failure), 1)
    except OSError as fault:
        if fault.filename is None:
            return _fail(fault, 1)
        return _fail(f"expected a file or directory that can be used, got: {fault.filename!r} ({fault.strerror})", 1)
    except (BeamstalkError, sqlite3.Error) as failure:
        return _fail(failure, 1)


def _label(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.log is not None:
        _log_to(options.log)
    summary = run(options, Screen(quiet=options.json))
    print(summary.to_json() if options.json else "\n".join(summary.lines()), flush=True)
    if summary.interrupted:
        return 130
    return 0 if summary.adds_up else 1


def _log_to(path: Path) -> None:
    try:
        logger.add(path, level="INFO")
    except OSError as fault:
        raise BeamstalkError(
            f"expected a log file that can be written, got: {str(path)!r} ({fault.strerror}). Choose another with --log"
        ) from None
    for package in ("runtime", "actors", "supervisors", "reporters", "app.training"):
        logger.enable(package)


def _other(name: str, arguments: list[str]) -> int:
    description, add_arguments, run_it = _OTHERS[name]
    parser = Parser(prog=f"python -m app {name}", allow_abbrev=False, description=description)
    add_arguments(parser)
    return run_it(parser.parse_args(arguments))


def _root(failure: StartError) -> Exception:
    """Take the supervisors' words off why a child could not be started."""
    reason = failure.reason
    if isinstance(reason, StartError):
        return _root(reason)
    return reason if isinstance(reason, BeamstalkError) else failure


def _fail(error: Exception | str, code: int) -> int:
    print(f"python -m app: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    if _interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
