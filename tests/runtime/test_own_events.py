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
        captured.wait_for("telemetry.handler.gave_up")
        whereis("fragile").tell(13)
        captured.wait_for("actors.crash", count=3)
        application.supervisor.tell("hello")
        captured.wait_for("supervisors.unexpected_message")
        runtime.execute("shop.cart.filled", {}, {"shop": 7})
        whereis("telemetry.validator")._actor._wake()
        captured.wait_for("telemetry.event.invalid")
        captured.wait_for("telemetry.poller.failure")
        measure_process()
        measure_runtime()
        runtime.detach("failing")

    own = [event for event in captured.events if not event.name.startswith("shop.")]
    assert {event.name for event in own} == set(declared.names) - {"runtime.scheduler.blocked"}
    for event in own:
        assert declared.check(event) == [], event


EXTRA = (Declared(name="shop.cart.filled", description="", metadata={"shop": str}),)
