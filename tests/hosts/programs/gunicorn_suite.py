"""A WSGI service under gunicorn whose workers run the kernel suite when asked: GET / with the files as the query.

The application starts in the master (preload) and again in every worker. The suite wants the process for itself, so the
worker stops its application meanwhile, and serves on with it afterwards.
"""

import json
import os
from urllib.parse import parse_qs

from gevent import monkey

from supervisors import Application
from tests.hosts.suite import run

service = Application("host", fork="restart")
service.start()
master = os.getpid()


def application(environ: dict[str, str], start_response: object) -> list[bytes]:
    assert os.getpid() != master
    assert monkey.is_module_patched("threading")
    assert service.is_running
    assert service.stop()
    found = run("gunicorn", parse_qs(environ["QUERY_STRING"])["path"])
    service.start()
    start_response("200 OK", [("Content-Type", "application/json")])  # type: ignore[operator]
    return [json.dumps(found).encode()]
