"""The checks that hold in every host. No pytest here: they run inside a process that belongs to somebody else.

`service()` runs an application through a working life; `work` is how the host runs four emitters at a time.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import runtime
from actors import Actor, whereis
from actors.aggregator import Collect
from runtime import _native
from runtime.metrics import counter
from supervisors import Application, ChildSpec

EVENT = "host.request.stop"
EMITTERS, EACH = 4, 50
FORKS_WITH_THREADS = "ignore:This process:DeprecationWarning"
"""Python warns since 3.12 who forks while threads run, as many hosts do."""
Work = Callable[[Callable[[int], None]], None]


class Echo(Actor):
    def on_receive(self, message: Any) -> Any:
        if message == "fail":
            raise ValueError("as planned")
        return message, _native.get_ident()


def fail_now_and_then(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
    if metadata["n"] == EACH - 1:
        raise ValueError("as planned")


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition, by whatever sleep the host has."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"expected {condition} to come true within {seconds} s")
        time.sleep(0.005)


def service(work: Work, **options: Any) -> dict[str, Any]:
    """Run an application through a life; return what the test looks at. AssertionError when something is off."""
    seen: list[int] = []
    threads: set[int] = set()

    def note(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
        seen.append(metadata["n"])
        threads.add(_native.get_ident())

    metrics = [counter("host.request.count", event_name=EVENT, tags=["emitter"])]
    echo = ChildSpec("echo", Echo.options(name="echo").start_link)
    application = Application("host", metrics=metrics, children=[echo], **options)
    with application.running():
        for carrier in ("thread", "green", "inline"):
            runtime.attach(f"note-{carrier}", EVENT, note, carrier=carrier)
        runtime.attach("fails", EVENT, fail_now_and_then, max_restarts=1_000)

        def emit(emitter: int) -> None:
            for n in range(EACH):
                with runtime.span("host.request", {"emitter": str(emitter), "n": n}):
                    if n % 10 == 0:
                        answer, _ = whereis("echo").ask(n, timeout=30)
                        assert answer == n, answer

        work(emit)
        total = EMITTERS * EACH
        until(lambda: len(seen) == 3 * total)
        until(lambda: accounts("fails").handled + accounts("fails").failed == total)
        assert accounts("fails").failed == EMITTERS
        points = whereis("telemetry.aggregator").ask(Collect("test"), timeout=30).points
        assert sum(point.value for point in points) == total, points
        try:
            whereis("echo").ask("fail", timeout=30)
        except ValueError:
            until(lambda: whereis("echo") is not None)
        assert whereis("echo").ask(1, timeout=30)[0] == 1
        assert _native.get_ident() not in {whereis("echo").ask(1, timeout=30)[1]}
        assert runtime.list_handlers("host.request")
    for carrier in ("thread", "green", "inline"):
        runtime.detach(f"note-{carrier}")
    runtime.detach("fails")
    assert not application.is_running
    runtime.execute(EVENT, {}, {"n": 0})
    return {"handled": len(seen), "threads": len(threads)}


def accounts(handler_id: str) -> Any:
    (info,) = [info for info in runtime.list_handlers() if info.id == handler_id]
    return info.mailbox


def in_threads(emit: Callable[[int], None]) -> None:
    """Work in plain threads; under a gevent host these are its greenlets."""
    failures: list[BaseException] = []
    together = threading.Barrier(EMITTERS)  # a thread that ends early hands its identity on to the next

    def run(number: int) -> None:
        together.wait()
        try:
            emit(number)
        except BaseException as error:
            failures.append(error)
        together.wait()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(EMITTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def say(**found: Any) -> None:
    """Tell the test, on standard output."""
    print(json.dumps(found), flush=True)
