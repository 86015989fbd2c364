"""What beamstalk emits about itself is what it declares."""

from __future__ import annotations

import runtime
from actors import Actor, Exit, whereis
from actors.measurements import measure_process, measure_runtime
from actors.poller import Measurement
from runtime.catalogue import Catalogue, Declared
from runtime.own_events import OWN
from runtime.testing import capture_events
from supervisors import Application, ChildSpec
from tests.runtime.meeting import PATIENCE_S


class Fragile(Actor):
    def on_receive(self, message: object) -> None:
        raise Exit(message) if isinstance(message, str) else ValueError(message)


def fail(*event: object) -> None:
    raise ValueError("as planned")


def test_every_event_of_a_troubled_run_is_declared_and_sound() -> None:
    declared = Catalogue(OWN)
    broken = Measurement(fail, period_s=60, name="broken")
    application = Application(
        "troubled",
        children=[ChildSpec("fragile", Fragile.options(name="fragile").start_link)],
        pollers=[broken],
        catalogue=Catalogue([*OWN, *EXTRA]),
        max_restarts=100,
    )

    with capture_events() as captured, application.running():
        runtime.attach("failing", "shop.order.placed", fail, max_restarts=1)
        for _ in range(3):
            runtime.execute("shop.order.placed", {}, {"shop": "s1"})
        captured.wait_for("telemetry.handler.gave_up", timeout_s=PATIENCE_S)
        whereis("fragile").tell(13)
        captured.wait_for("actors.crash", count=3, timeout_s=PATIENCE_S)
        application.supervisor.tell("hello")
        captured.wait_for("supervisors.unexpected_message", timeout_s=PATIENCE_S)
        runtime.execute("shop.cart.filled", {}, {"shop": 7})
        whereis("telemetry.validator")._actor._wake()
        captured.wait_for("telemetry.event.invalid", timeout_s=PATIENCE_S)
        captured.wait_for("telemetry.poller.failure", timeout_s=PATIENCE_S)
        measure_process()
        measure_runtime()
        runtime.detach("failing")

    own = [event for event in captured.events if not event.name.startswith("shop.")]
    blocked = {"runtime.scheduler.blocked"}  # told or not, as busy as the machine is
    assert {event.name for event in own} - blocked == set(declared.names) - blocked
    for event in own:
        assert declared.check(event) == [], event


EXTRA = (Declared(name="shop.cart.filled", description="", metadata={"shop": str}),)
