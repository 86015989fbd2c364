"""A handler that crashes: the emitter does not notice, its neighbour misses nothing, and what it failed on is kept."""

import threading
from typing import Any

import runtime
from supervisors import Application

Values = dict[str, Any]
last_seen = {"brittle": threading.Event(), "neighbour": threading.Event()}


def brittle(event: str, measurements: Values, metadata: Values, config: object) -> None:
    if measurements["amount"] == 2:
        raise ValueError("two is too much")
    print(f"brittle handled {measurements['amount']}")
    if measurements["amount"] == 3:
        last_seen["brittle"].set()


def neighbour(event: str, measurements: Values, metadata: Values, totals: list[int]) -> None:
    totals.append(measurements["amount"])
    if measurements["amount"] == 3:
        last_seen["neighbour"].set()


def main() -> None:
    totals: list[int] = []
    with Application("shop").running():
        runtime.attach("brittle", "shop.order.placed", brittle)
        runtime.attach("neighbour", "shop.order.placed", neighbour, totals)

        for amount in (1, 2, 3):
            runtime.execute("shop.order.placed", {"amount": amount})
        for each in last_seen.values():
            each.wait(timeout=30)

        print(f"neighbour handled {totals}")
        for letter in runtime.dead_letters("brittle"):
            print(f"brittle failed on {letter.event.measurements}: {letter.traceback.splitlines()[-1]}")


if __name__ == "__main__":
    main()
