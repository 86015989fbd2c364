"""os.fork with a running application: the parent goes on, the child starts clean, by policy."""

import os
import sys

import pykka

import runtime
from actors import processes, whereis
from supervisors import Application, ChildSpec
from tests.hosts.checks import EVENT, Echo, accounts, in_threads, say, service, until

policy = sys.argv[1]
seen: list[int] = []
application = Application("host", children=[ChildSpec("echo", Echo.options(name="echo").start_link)], fork=policy)
application.start()
runtime.attach("note", EVENT, lambda event, measurements, metadata, config: seen.append(metadata["n"]))
runtime.execute(EVENT, {}, {"n": 1})
until(lambda: seen == [1])
parents_echo = whereis("echo")

pid = os.fork()
if pid == 0:
    assert not parents_echo.is_alive()
    try:
        parents_echo.ask(1)
    except pykka.ActorDeadError:
        pass
    else:
        raise AssertionError("expected the parent's actor to be dead here")
    assert accounts("note").offered == 0
    runtime.execute(EVENT, {}, {"n": 2})
    if policy == "stop":
        assert not application.is_running
        assert processes() == []
        application.start()
        runtime.execute(EVENT, {}, {"n": 3})
        until(lambda: seen == [1, 3])
    else:
        assert application.is_running
        until(lambda: seen == [1, 2])
    assert whereis("echo").ask(7, timeout=30)[0] == 7
    assert application.stop(30)
    runtime.detach("note")
    say(child=True, **service(in_threads))
    os._exit(0)

_, status = os.waitpid(pid, 0)
assert status == 0, status
runtime.execute(EVENT, {}, {"n": 4})
until(lambda: seen == [1, 4])
assert whereis("echo") is parents_echo
assert parents_echo.ask(7, timeout=30)[0] == 7
assert application.stop(30)
runtime.detach("note")
say(child=False, **service(in_threads))
