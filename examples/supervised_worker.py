"""A worker of one's own under supervision: it crashes on a bad message, and the next one finds it fresh."""

import threading
from typing import Any

import runtime
from actors import Actor, whereis
from supervisors import Application, ChildSpec


class Till(Actor):
    """Adds up what is paid in."""

    def on_start(self) -> None:
        self.total = 0

    def on_receive(self, message: int) -> int:
        if message < 0:
            raise ValueError(f"expected a payment, got: {message}")
        self.total += message
        return self.total


def main() -> None:
    restarted = threading.Event()

    def on_progress(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: object) -> None:
        if metadata["started"]["id"] == "till":
            restarted.set()

    application = Application("shop", children=[ChildSpec("till", Till.options(name="till").start_link)])
    with application.running():
        runtime.attach("watch-restarts", "supervisors.progress", on_progress)
        till = whereis("till")
        assert till is not None

        print("paid in:", till.ask(5), till.ask(7))
        try:
            till.ask(-1)
        except ValueError as error:
            print("the asker is told:", error)
        restarted.wait(timeout=30)

        successor = whereis("till")
        assert successor is not None
        print("till is another actor:", successor is not till)
        print("paid in:", successor.ask(3))


if __name__ == "__main__":
    main()
