"""A handler that crashes: the emitter does not notice, its neighbour misses nothing, and what it failed on is kept."""

from typing import Any

import runtime
from supervisors import Application

Values = dict[str, Any]


def brittle(event: str, measurements: Values, metadata: Values, config: object) -> None:
    if measurements["amount"] == 2:
        raise ValueError("two is too much")
    print(f"brittle handled {measurements['amount']}")


def neighbour(event: str, measurements: Values, metadata: Values, amounts: list[int]) -> None:
    amounts.append(measurements["amount"])


def on_failure(event: str, measurements: Values, metadata: Values, reasons: list[str]) -> None:
    reasons.append(f"{metadata['handler_id']} failed on {metadata['event_name']}: {metadata['reason']!r}")


def main() -> None:
    amounts: list[int] = []
    reasons: list[str] = []

    with Application("shop").running():
        runtime.attach("brittle", "shop.order.placed", brittle)
        runtime.attach("neighbour", "shop.order.placed", neighbour, amounts)
        runtime.attach("failures", "telemetry.handler.failure", on_failure, reasons)
        for amount in (1, 2, 3):
            runtime.execute("shop.order.placed", {"amount": amount})

    # Leaving the block has drained every mailbox.
    print("neighbour handled", amounts)
    print(*reasons, sep="\n")
    [letter] = runtime.dead_letters("brittle")
    print("kept among the dead letters:", letter.event.measurements)


if __name__ == "__main__":
    main()
