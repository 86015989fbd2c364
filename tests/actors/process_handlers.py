"""Handlers that the tests of the process carrier run in other interpreters; they report to a file that config names."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

import msgspec


def write(config: dict[str, Any], what: object) -> None:
    """Append a line with one system call, so that a process that dies next has said it."""
    fd = os.open(config["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, msgspec.json.encode(what) + b"\n")
    finally:
        os.close(fd)


def record(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the number of the event."""
    write(config, measurements["n"])


def echo(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: dict[str, Any]) -> None:
    """Write everything that was received."""
    write(config, [event, measurements, metadata, config])


def about_me(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: dict[str, Any]) -> None:
    """Write what this process is: pid, session, open files, and which of our packages are imported."""
    import sys

    ours = [name for name in sys.modules if name.split(".")[0] in ("runtime", "actors", "supervisors", "gevent")]
    files = [int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    write(config, {"pid": os.getpid(), "session": os.getsid(0), "files": files, "ours": ours})


def act(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: dict[str, Any]) -> None:
    """Write the number of the event, and then do what its metadata asks for."""
    write(config, measurements["n"])
    match metadata.get("do"):
        case "raise":
            raise ValueError("no good")
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "sys.exit":
            raise SystemExit(4)
        case "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while True:
                time.sleep(60)
        case "hang on":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        case "wait":
            while not os.path.exists(config["log"] + ".go"):
                time.sleep(0.001)
        case "wait for mine":
            while not os.path.exists(f"{config['log']}.{measurements['n']}"):
                time.sleep(0.001)
        case "fork":
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            os._exit(3)


class Scorer:
    """Somebody whose methods cannot all be imported."""

    def score(self, event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
        """Belongs to an instance."""

    @staticmethod
    def record(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: dict[str, Any]) -> None:
        """Belongs to nobody."""
        record(event, measurements, metadata, config)
