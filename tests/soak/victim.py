"""A service that is going to be killed: `python -m tests.soak.victim URL DIRECTORY ROUND [--drain]`.

It commits events as fast as it can from several threads and notes, in a file of its own, each event before it commits
it ("issued") and after the commit has returned ("committed"). Notes are single writes to a file opened for appending,
so they survive a SIGKILL. With --drain it commits nothing; it delivers what is on disk and ends.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from pathlib import Path

import tenacity

import runtime
from reporters.delivery import Batching, RetryPolicy
from reporters.foundation import Foundation
from runtime.errors import NotCommitted
from supervisors import Application

THREADS = 4
EVENT = "anvil.agreement.low_score"


class Service:
    """Commit events and take notes."""

    def __init__(self, url: str, directory: Path, round_number: int) -> None:
        self._round = round_number
        self._numbers = itertools.count()
        self._notes = os.open(directory / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.foundation = Foundation(
            url,
            spool=directory / "spool",
            batching=Batching(max_rows=50, max_age_s=0.02),
            retry=RetryPolicy(wait=tenacity.wait_random(0, 0.02)),
            timeout_s=5,
        )

    def note(self, what: str, key: str) -> None:
        os.write(self._notes, f"{what} {key}\n".encode())

    def work(self) -> None:
        """Commit events until killed."""
        while True:
            key = f"{self._round}-{next(self._numbers)}"
            self.note("issued", key)
            try:
                runtime.commit(EVENT, {"value": 0.5}, {"dimension": key})
            except NotCommitted as error:
                self.note("refused", f"{key} {error}")
            else:
                self.note("committed", key)


def main(url: str, directory: Path, round_number: int, *, drain: bool) -> int:
    service = Service(url, directory, round_number)
    with Application("victim", children=[service.foundation]).running():
        if drain:
            return _drain(service)
        service.note("started", str(round_number))
        threads = [threading.Thread(target=service.work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return 1  # it should have been killed


def _drain(service: Service) -> int:
    delivered = threading.Event()
    while True:
        spool = service.foundation.statistics().outbox.spool
        assert spool is not None
        assert spool.state == "ready", spool.reason
        if not spool.classes["metric"].stored:
            print(spool.balanced, spool.dead_letters, spool.set_aside, flush=True)
            return 0
        delivered.wait(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), drain="--drain" in sys.argv))
