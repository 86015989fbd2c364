"""Ends of every kind: `exits.py HOW`. The process must be gone soon, and say nothing on standard error."""

import os
import signal
import sys
import threading
import time

import runtime
from supervisors import Application
from tests.hosts.checks import EVENT, Echo, say, until

how = sys.argv[1]
entered = threading.Event()


def hang(*event: object) -> None:
    entered.set()
    while True:
        time.sleep(3600)


def spin(*event: object) -> None:
    entered.set()
    while True:
        pass


application = Application("host", drain_s=2)
if how == "actors-without-application":
    refs = [Echo.start() for _ in range(10)]
    say(done=True)
    sys.exit(0)
application.start()
if how in ("hung-thread", "interrupt"):
    runtime.attach("hang", EVENT, hang)
elif how == "hung-green":
    runtime.attach("hang", EVENT, spin, carrier="green")
if how != "running":
    runtime.execute(EVENT)
    assert entered.wait(30)
say(done=True)
if how == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
    until(lambda: False)
if how == "hung-green":
    application.stop()
