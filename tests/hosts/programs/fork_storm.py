"""Forks at any moment, while others emit, attach and start actors: `fork_storm.py POLICY COUNT`.

Each child must find everything clean whatever locks its parent's threads held at that moment, and live a life of its
own.
"""

import os
import signal
import sys
import threading
import time

import runtime
from actors import processes
from supervisors import Application
from tests.hosts.checks import EVENT, Echo, say, until

policy, count = sys.argv[1], int(sys.argv[2])
seen: list[int] = []
over = threading.Event()
application = Application("storm", fork=policy, max_restarts=1_000, drain_s=2)  # type: ignore[arg-type]


def note(event: str, measurements: dict[str, int], metadata: object, config: object) -> None:
    seen.append(measurements["n"])


def fail_now_and_then(event: str, measurements: dict[str, int], metadata: object, config: object) -> None:
    if measurements["n"] % 50 == 0:
        raise ValueError("as planned")


def emit() -> None:
    n = 0
    while not over.is_set():
        n += 1
        runtime.execute(EVENT, {"n": n})
        if n % 20 == 0:
            time.sleep(0.001)


def churn(number: int) -> None:
    n = 0
    while not over.is_set():
        n += 1
        runtime.attach(f"churn-{number}-{n}", EVENT, note)
        ref = Echo.start()
        ref.ask(1, timeout=30)
        ref.stop()
        runtime.detach(f"churn-{number}-{n}")


def live() -> None:
    """A child's whole life."""
    if policy == "stop":
        assert processes() == []
        assert not application.is_running
        assert all(info.mailbox.offered == 0 for info in runtime.list_handlers())
        application.start()
    assert application.is_running
    seen.clear()
    for n in range(1, 21):
        runtime.execute(EVENT, {"n": n})
    until(lambda: seen.count(7) >= 2)
    ref = Echo.start()
    assert ref.ask(3, timeout=30)[0] == 3
    ref.stop()
    assert application.stop(30)
    assert processes() == []


application.start()
runtime.attach("thread", EVENT, note)
runtime.attach("green", EVENT, note, carrier="green")
runtime.attach("fails", EVENT, fail_now_and_then, max_restarts=1_000)
workers = [threading.Thread(target=emit) for _ in range(2)]
workers += [threading.Thread(target=churn, args=(number,)) for number in range(2)]
for worker in workers:
    worker.start()
codes = []
for _ in range(count):
    time.sleep(0.003)  # at some other moment of what they are doing
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a child that hangs is a failure, and must not stay
        code = 1
        try:
            live()
            code = 0
        except BaseException as error:
            say(failed=repr(error))
        finally:
            os._exit(code)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
over.set()
for worker in workers:
    worker.join()
application.stop()
say(codes=sorted(set(codes)), children=len(codes))
