"""Ends in the middle of things: `endings.py HOW`. Whatever is under way, the process must end and say nothing."""

import contextlib
import os
import signal
import sys
import threading
import time

import gevent
import pykka

import runtime
from actors import Actor, whereis
from actors.poller import Measurement
from supervisors import Application, ChildSpec
from tests.hosts.checks import EVENT, Echo, accounts, say, until

how = sys.argv[1]
reached = threading.Event()


def hang(*_: object) -> None:
    reached.set()
    while True:
        time.sleep(3600)


def fail(*_: object) -> None:
    reached.set()
    raise ValueError("as planned")


def slow_green(*_: object) -> None:
    reached.set()
    gevent.sleep(3600)


class HangsAtStart(Actor):
    carrier = "thread"

    def on_start(self) -> None:
        hang()


class HangsAtStop(Echo):
    carrier = "thread"

    def on_stop(self, reason: object = "normal") -> None:
        hang()


def emit_for_ever() -> None:
    reached.set()
    while True:
        runtime.execute(EVENT, {"n": 1}, {"tags": ["a"]})


def ask_for_ever() -> None:
    ref = whereis("echo")
    reached.set()
    while True:
        with contextlib.suppress(pykka.ActorDeadError, pykka.Timeout):
            ref.ask(1, timeout=1)


def in_daemons(work: object, count: int = 3) -> None:
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()  # type: ignore[arg-type]


def interrupt_soon() -> None:
    reached.wait(30)
    os.kill(os.getpid(), signal.SIGINT)


echo = ChildSpec("echo", Echo.options(name="echo").start_link)
pollers = [Measurement(hang, period_s=1)] if how == "a measurement hangs" else []
children = [echo]
if how == "a child hangs at stop":
    children.append(ChildSpec("hangs", HangsAtStop, shutdown=100))
    reached.set()
application = Application("host", children=children, pollers=pollers, drain_s=1)

if how == "interrupted in start":
    hanging = Application("host", children=[echo, ChildSpec("hangs", HangsAtStart)], drain_s=1)
    in_daemons(interrupt_soon, 1)
    try:
        hanging.start()
    except KeyboardInterrupt:
        # As if it had never been started: the next one starts.
        with application.running():
            assert whereis("echo").ask(1, timeout=30)
        say(done=True)
    sys.exit(0)

application.start()
match how:
    case "a green handler waits":
        runtime.attach("handler", EVENT, slow_green, carrier="green")
        runtime.execute(EVENT)
    case "a handler backs off":
        runtime.attach("handler", EVENT, fail, max_restarts=1_000)
        for _ in range(1_000):
            runtime.execute(EVENT)
        until(lambda: accounts("handler").failed >= 5)
    case "a hung thread was killed":
        runtime.attach("handler", EVENT, hang, deadline_s=0.01)
        for _ in range(3):
            runtime.execute(EVENT)
        until(lambda: accounts("handler").failed == 3)
    case "others emit":
        runtime.attach("handler", EVENT, lambda *event: None)
        in_daemons(emit_for_ever)
    case "others ask":
        in_daemons(ask_for_ever)
    case "a thousand actors wait":
        refs = [Echo.start() for _ in range(1_000)]
        reached.set()
    case "a process works":
        runtime.attach("handler", EVENT, "tests.hosts.programs.hanging:hang", carrier="process")
        runtime.execute(EVENT)
        until(lambda: accounts("handler").pending)
        reached.set()
    case "an uncaught exception":
        raise LookupError("the host's own")
assert reached.wait(30)
say(done=True)
