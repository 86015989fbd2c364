"""The platform as an application: what runs, under whom, in which order.

    anvil                    one_for_one
    ├─ telemetry             rest_for_one   comes with every Application
    │  ├─ registry                          routes events
    │  ├─ handlers           dynamic        one small supervisor per attached handler
    │  ├─ aggregator                        events → series, by `metrics()`
    │  ├─ validator                         events as declared, by the catalogue
    │  └─ pollers            one_for_one    `pollers()`: sweep the queues, count active labelers
    └─ reporters             one_for_one    `children()`
       └─ statsd

Children start from top to bottom and stop in reverse, so the reporter's last flush still finds the aggregator. A child
that fails is restarted by its supervisor; a reporter that keeps failing takes nothing else down with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import runtime
from actors.poller import Measurement
from app.labeling.events import CATALOGUE as LABELING_EVENTS
from app.labeling.metrics import METRICS as LABELING_METRICS
from app.labeling.service import Platform
from app.labeling.storage import Storage
from app.replay import open_platform
from app.training.catalogue import CATALOGUE as TRAINING_EVENTS
from app.training.metrics import METRICS as TRAINING_METRICS
from reporters import Statsd
from runtime.catalogue import Catalogue
from runtime.errors import ExitReason
from runtime.metrics import Metric
from supervisors import Application, Supervisor
from supervisors.child_spec import SpecLike

SWEEP_EVERY_S = 0.25
COUNT_EVERY_S = 1.0


class Anvil(Application):
    """The labelling platform, reporting to the StatsD server at `statsd` (host, port).

    `on_exit(reason)` is called, in a thread of the runtime, if the tree gives up.
    """

    name = "anvil"

    def __init__(
        self, platform: Platform, statsd: tuple[str, int], on_exit: Callable[[ExitReason], object] | None = None
    ) -> None:
        super().__init__(catalogue=Catalogue([*LABELING_EVENTS, *TRAINING_EVENTS]), on_exit=on_exit)
        self.platform = platform
        host, port = statsd
        self.statsd = Statsd(host=host, port=port)

    def metrics(self) -> Iterable[Metric]:
        return (*LABELING_METRICS, *TRAINING_METRICS)

    def pollers(self) -> Iterable[Measurement]:
        return [
            Measurement(self._sweep, period_s=SWEEP_EVERY_S),
            Measurement(self._count_active_labelers, period_s=COUNT_EVERY_S),
        ]

    def children(self) -> Iterable[SpecLike]:
        return [Supervisor.child("reporters", [self.statsd], name="reporters")]

    def _sweep(self) -> None:
        for queue in self.platform.queues():
            queue.sweep()

    def _count_active_labelers(self) -> None:
        for queue in self.platform.queues():
            runtime.execute("anvil.queue.active_labelers", {"count": queue.active_labelers()}, {"queue_id": queue.id})


def application() -> Anvil:
    """Make the application on a platform without queues, for whoever starts it by name (`app.application:application`).

    Keeps its database in `anvil.db` in the working directory and reports to the StatsD server on 127.0.0.1:8125.
    """
    platform, _ = open_platform(Storage("anvil.db"))
    return Anvil(platform, ("127.0.0.1", 8125))
