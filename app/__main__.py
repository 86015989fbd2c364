"""The main job: `python -m app` labels the lexicon and says what came of it; `python -m app train` trains alone.

Exit codes: 0 done and all accounts add up; 1 failed, or they do not; 2 a mistake on the command line; 130 interrupted. An
interrupted run still concludes with what it has; a second Ctrl-C ends it at once.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
from loguru import logger

from app import accounts, chaos, summary
from app.application import Anvil
from app.labeling import lexicon
from app.labeling.storage import Storage
from app.latency import TimedEmit
from app.ledger import Ledger
from app.listener import Received, StatsdListener
from app.options import Options, Parser, parse
from app.replay import Replay, open_platform
from app.screen import Screen
from app.training import cli as training_cli
from app.training.loop import train
from runtime.errors import BeamstalkError

_FAILURES = (BeamstalkError, OSError, sqlite3.Error)


def main(arguments: list[str]) -> int:
    """Run the main job and return its exit code."""
    logger.remove()  # what there is to say is said below
    try:
        if arguments[:1] == ["train"]:
            parser = Parser(prog="python -m app train", allow_abbrev=False, description="Train on the lexicon alone.")
            training_cli.add_arguments(parser)
            return training_cli.run(parser.parse_args(arguments[1:]))
        return _run(parse(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has gone (`| head`). The interpreter must not stumble over it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except _FAILURES as failure:
        print(f"python -m app: {failure}", file=sys.stderr)
        return 1


def _run(options: Options) -> int:
    tokens = lexicon.load(options.samples)
    if options.samples is not None and len(tokens) < options.samples:
        print(
            f"python -m app: argument --samples: expected at most {len(tokens):,} (all the tokens there are), or 'all', "
            f"got: {options.samples:,}",
            file=sys.stderr,
        )
        return 2
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anvil-")))
        directory = _export_directory(options.export or work / "export")
        screen = Screen(quiet=options.json)
        listener = None
        if options.statsd is None:
            listener = stack.enter_context(StatsdListener(lambda received: screen.line(_in_words(received))))
        storage = Storage(work / "labels.db")
        stack.callback(storage.close)
        emit = TimedEmit()
        platform, issuer = open_platform(storage, emit)
        ledger = Ledger()
        ledger.attach()
        if options.chaos:
            chaos.attach()
        application = Anvil(platform, options.statsd or listener.address)
        application.start()
        stack.callback(application.stop)
        ...


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
