"""The platform as an application: what runs, under whom, in which order.

    anvil                    one_for_one
    ├─ telemetry             rest_for_one   comes with every Application
    │  ├─ registry                          routes events
    │  ├─ handlers           dynamic        one small supervisor per attached handler
    │  ├─ aggregator                        events → series, by `metrics()`
    │  ├─ validator                         events as declared, by the catalogue
    │  └─ pollers            one_for_one    `pollers()`: sweep the queues, count active labelers
    ├─ introspector                        lets a shell of the same user look in
    └─ reporters             one_for_one    `children()`
       ├─ aitrace                           if configured: exports with their lineage, and traces
       ├─ foundation                        if configured: metrics, forwarded
       ├─ prometheus                        if configured: metrics for who comes and asks
       └─ statsd

Children start from top to bottom and stop in reverse, so the reporter's last flush still finds the aggregator. A child
that fails is restarted by its supervisor; a reporter that keeps failing takes nothing else down with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path

import runtime
from actors import whereis
from actors.poller import Measurement
from app import reporting
from app.config import Config, load
from app.events import CHECKED
from app.labeling.metrics import METRICS as LABELING_METRICS
from app.labeling.service import Platform
from app.labeling.storage import Storage
from app.replay import open_platform
from app.training.metrics import METRICS as TRAINING_METRICS
from runtime.errors import ExitReason
from runtime.metrics import Metric
from supervisors import Application, Supervisor, SupervisorRef
from supervisors.child_spec import SpecLike

SWEEP_EVERY_S = 0.25
COUNT_EVERY_S = 1.0


class Anvil(Application):
    """The labelling platform, reporting as `config` says; `statsd` (host, port) wins over the address in there.

    `on_exit(reason)` is called, in a thread of the runtime, if the tree gives up. Raises InvalidValue for a
    configuration that makes no sense.
    """

    name = "anvil"
    introspect = True

    def __init__(
        self,
        platform: Platform,
        statsd: tuple[str, int] | None = None,
        config: Config | None = None,
        on_exit: Callable[[ExitReason], object] | None = None,
    ) -> None:
        config = config or Config()
        super().__init__(catalogue=CHECKED, sampling=config.telemetry.sampling, on_exit=on_exit)
        self.platform = platform
        self.reporters = reporting.declare(config, statsd, self.metrics(), CHECKED.span_prefixes)
        self.statsd = self.reporters.statsd

    def metrics(self) -> Iterable[Metric]:
        return (*LABELING_METRICS, *TRAINING_METRICS)

    def pollers(self) -> Iterable[Measurement]:
        return [
            Measurement(self._sweep, period_s=SWEEP_EVERY_S),
            Measurement(self._count_active_labelers, period_s=COUNT_EVERY_S),
        ]

    def children(self) -> Iterable[SpecLike]:
        return [Supervisor.child("reporters", self.reporters.children(), name="reporters")]

    def stop_measuring(self) -> None:
        """Stop the pollers: from now on only the service emits. For good; who goes on starts the application anew."""
        telemetry = whereis("telemetry")
        if isinstance(telemetry, SupervisorRef):
            telemetry.terminate_child("pollers")

    def _sweep(self) -> None:
        for queue in self.platform.queues():
            queue.sweep()

    def _count_active_labelers(self) -> None:
        for queue in self.platform.queues():
            runtime.execute("anvil.queue.active_labelers", {"count": queue.active_labelers()}, {"queue_id": queue.id})


def application() -> Anvil:
    """Make the application on a platform without queues, for whoever starts it by name (`app.application:application`).

    Its database is a temporary file and goes with it: who looks in wants to find no file left over, and a service makes
    `Anvil` on a storage of its own. Reports as `app/config.toml` says, to the StatsD server on 127.0.0.1:8125 unless
    that names another.
    """
    directory = tempfile.mkdtemp(prefix="anvil-")
    storage = Storage(Path(directory, "anvil.db"))
    platform, _ = open_platform(storage)
    anvil = Anvil(platform, config=load())
    weakref.finalize(anvil, _discard, storage, directory, os.getpid())
    return anvil


def _discard(storage: Storage, directory: str, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child, whose parent goes on
        storage.close()
        shutil.rmtree(directory, ignore_errors=True)
