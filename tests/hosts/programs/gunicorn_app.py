"""A WSGI service under gunicorn: the application starts in the master (preload) and again in every worker."""

import json
import os

import runtime
from actors import whereis
from supervisors import Application, ChildSpec
from tests.hosts.checks import EVENT, Echo, accounts, until

application_ = Application("host", children=[ChildSpec("echo", Echo.options(name="echo").start_link)], fork="restart")
seen: list[int] = []
runtime.attach("note", EVENT, lambda event, measurements, metadata, config: seen.append(metadata["pid"]))
application_.start()
master = os.getpid()


def application(environ: dict[str, object], start_response: object) -> list[bytes]:
    runtime.execute(EVENT, {}, {"pid": os.getpid()})
    until(lambda: os.getpid() in seen)
    found = {
        "worker": os.getpid() != master,
        "echo": whereis("echo").ask(7, timeout=30)[0],
        "handled": accounts("note").handled,
        "only_ours": set(seen) == {os.getpid()},
    }
    start_response("200 OK", [("Content-Type", "application/json")])  # type: ignore[operator]
    return [json.dumps(found).encode()]
