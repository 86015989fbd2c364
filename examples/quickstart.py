"""Handle an event in an actor of its own, and send the metrics made of it to StatsD. README.md shows this program."""

import runtime
from reporters import Statsd
from runtime.metrics import counter, distribution
from supervisors import Application


def log_submit(event, measurements, metadata, config):
    print(f"{event} in queue {metadata['queue_id']}: {metadata['validation_errors']} validation errors")


metrics = [
    counter("anvil.label.submit.count", event_name="anvil.label.submit.stop", tags=["queue_id"]),
    distribution("anvil.label.submit.duration", event_name="anvil.label.submit.stop", unit=("native", "millisecond")),
]
application = Application("labels", metrics=metrics, children=[Statsd(host="127.0.0.1", port=8125)])

with application.running():
    runtime.attach("log-submits", "anvil.label.submit.stop", log_submit)
    with runtime.span("anvil.label.submit", {"queue_id": "q1"}) as span:
        span.metadata["validation_errors"] = 0
