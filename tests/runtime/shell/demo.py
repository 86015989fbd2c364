"""A service to look into: `python -m tests.runtime.shell.demo [--control]` runs it until its standard input ends.

Each line on its input makes it do something, and is answered with `done` when that has begun.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import runtime
from actors import Actor, whereis
from runtime.metrics import counter
from supervisors import Application, ChildSpec, DynamicSupervisor, Supervisor


class Worker(Actor):
    """Works, crashes or blocks the hub, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def on_receive(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("no good")
        if message == "block":
            time.sleep(600)
        self.seen += 1


class Demo(Application):
    """The service."""

    name = "demo"

    def __init__(self, *, control: bool = False) -> None:
        workers = [ChildSpec("ingest", Worker.options(name="ingest").start_link), ChildSpec("export\x1b[31m", Worker)]
        children = [
            Supervisor.child("workers", workers, name="workers", max_restarts=100, max_seconds=3_600),
            DynamicSupervisor.child("pool", name="pool"),
        ]
        metrics = [counter("shop.order.count", tags=["country"])]
        super().__init__(introspect=True, control=control, children=children, metrics=metrics, drain_s=1.0)


def fail(*_: Any) -> None:
    """Fail on every event."""
    raise RuntimeError("cannot")


application = Demo(control=True)
"""What `--start` finds."""


def obey(line: str) -> None:
    """Do one line."""
    match line.split():
        case ["emit", number]:
            for n in range(int(number)):
                runtime.execute("shop.order", {"amount": n}, {"country": "NL", "token": "s3cr3t"})
        case ["spawn", number]:
            for _ in range(int(number)):
                whereis("pool").start_child(ChildSpec("worker", Worker))
        case ["attach"]:
            runtime.attach("audit", "shop.order", fail, max_restarts=0)
        case [message]:
            whereis("ingest").tell(message)


if __name__ == "__main__":
    with Demo(control="--control" in sys.argv).running() as running:
        print(running.socket_path, flush=True)
        for line in sys.stdin:
            obey(line)
            print("done", flush=True)
