"""A fork in the middle of our own threads: `fork_inside.py POLICY CARRIER`. The child lives on in that very handler."""

import os
import signal
import sys
import threading

import runtime
from actors import processes
from supervisors import Application
from tests.hosts.checks import EVENT, Echo, say, until

policy, carrier = sys.argv[1:]
seen: list[int] = []
done = threading.Event()
application = Application("inside", fork=policy)  # type: ignore[arg-type]


def live() -> None:
    if policy == "stop":
        assert processes() == []
        application.start()
    assert application.is_running
    runtime.execute(EVENT, {"n": 1})
    until(lambda: 1 in seen)
    ref = Echo.start()
    assert ref.ask(3, timeout=30)[0] == 3
    ref.stop()
    assert application.stop(30)


def fork(*event: object) -> None:
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        code = 1
        try:
            live()
            code = 0
        except BaseException as error:
            say(failed=repr(error))
        finally:
            os._exit(code)
    say(code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    done.set()


application.start()
runtime.attach("note", EVENT, lambda event, measurements, metadata, config: seen.append(measurements["n"]))
runtime.attach("fork", "host.fork", fork, carrier=carrier)
runtime.execute("host.fork")
assert done.wait(60)
runtime.execute(EVENT, {"n": 2})
until(lambda: seen == [2])
assert application.stop(30)
