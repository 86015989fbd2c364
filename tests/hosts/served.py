"""A service under gunicorn, preloaded, with gevent workers: found by the port that it says, ended as one ends it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.suite import ROOT
from tests.runtime.meeting import PATIENCE_S, until

# Of this run of pytest, the suite that runs in a host must not know.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@contextlib.contextmanager
def served(application: str, directory: Path, *options: str) -> Iterator[str]:
    """Serve a WSGI application of `programs` and give its address; it must end well, without a traceback in its log."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    log = directory / "log"
    log.touch()
    command = [sys.executable, "-m", "gunicorn", "--preload", "--worker-class", "gevent", *options]
    command += ["--bind", "127.0.0.1:0", "--log-file", str(log), f"tests.hosts.programs.{application}"]
    with open(directory / "output", "w") as output:
        service = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=output)
    try:
        until(lambda: "Listening at" in log.read_text() or service.poll() is not None)
        address = re.search(r"Listening at: (\S+)", log.read_text())
        assert address, log.read_text()
        yield address[1]
    finally:
        service.send_signal(signal.SIGTERM)
        code = service.wait(PATIENCE_S)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()
