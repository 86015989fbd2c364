"""The spool in somebody else's process: gevent-patched, busy, or about to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run(program: str, directory: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


def test_greenlets_of_a_patched_host_commit_while_others_run(directory: Path) -> None:
    program = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
from reporters.spool import Settlement, Spool
spool = Spool(sys.argv[1]); spool.start()
turns, done = 0, False
def other():
    global turns
    while not done:
        turns += 1
        gevent.sleep(0.001)
def commit():
    committed = 0
    while committed < 25 or turns <= 10:  # a fast disk is done with 25 before the other has had that many
        spool.commit(b"x")
        committed += 1
watcher = gevent.spawn(other)
workers = [gevent.spawn(commit) for _ in range(8)]
gevent.joinall(workers, raise_error=True)
done = True
watcher.join()
lease = spool.lease("default", max_rows=1_000_000)
spool.settle(lease, Settlement(delivered=[one.id for one in lease.records]))
told = spool.statistics().classes["default"]
print(told.committed >= 200, told.delivered == told.committed, spool.close())
"""
    assert run(program, directory) == "True True True"


def test_a_thread_that_computes_does_not_starve_the_spool(directory: Path) -> None:
    program = """
import sys, threading
from reporters.spool import Settlement, Spool
sys.setswitchinterval(0.02)  # greedier than usual: a row at a time would take minutes
stop = False
def compute():
    while not stop:
        sum(range(1000))
thread = threading.Thread(target=compute); thread.start()
spool = Spool(sys.argv[1]); spool.start()
for number in range(5000):
    assert spool.offer(b"x" * 300)
assert spool.flush(60)
delivered = 0
while (lease := spool.lease("default")).records:
    spool.settle(lease, Settlement(delivered=[one.id for one in lease.records]))
    delivered += len(lease.records)
stop = True
thread.join()
print(delivered, spool.close())
"""
    assert run(program, directory) == "5000 True"


def test_an_interpreter_ends_at_once_with_a_spool_that_nobody_closed(directory: Path) -> None:
    program = """
import sys
from reporters.spool import Spool
spool = Spool(sys.argv[1]); spool.start()
spool.commit(b"x")
for _ in range(1000):
    spool.offer(b"y")
print("ends")
"""
    assert run(program, directory) == "ends"
    assert run(program.replace('print("ends")', "print(spool.statistics().set_aside)"), directory) == "0"


def test_a_reporter_delivers_from_a_patched_host(directory: Path) -> None:
    program = """
from gevent import monkey; monkey.patch_all()
import sys, threading, http.server
import runtime
from reporters.foundation import Foundation
from reporters.delivery import Batching
from supervisors import Application
got = threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202); self.end_headers()
        got.set()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()  # a greenlet of the host, as everything here
url = f"http://127.0.0.1:{server.server_port}/"
foundation = Foundation(url, spool=sys.argv[1], batching=Batching(max_age_s=0.01))
application = Application("shop", children=[foundation]).start()
runtime.commit("anvil.agreement.low_score", {"value": 0.5}, {})
assert got.wait(30)
stopped = application.stop()
print(stopped, foundation.statistics().outbox.spool.classes["metric"].delivered)
server.shutdown(); server.server_close()
"""
    assert run(program, directory) == "True 1"


def test_each_child_of_a_preforking_host_reports_from_a_spool_of_its_own(directory: Path) -> None:
    program = """
import os, sys, time
import runtime
from reporters.foundation import Foundation
from supervisors import Application
foundation = Foundation(f"file:{sys.argv[1]}-out.jsonl", spool=sys.argv[1])
application = Application("shop", children=[foundation], fork="restart").start()
runtime.commit("anvil.agreement.low_score", {"value": 0.0}, {"dimension": "parent"})
pids = []
for number in range(2):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        runtime.commit("anvil.agreement.low_score", {"value": 1.0}, {"dimension": f"child {number}"})
        told = foundation.statistics().outbox.spool
        os.write(write, f"{os.path.basename(os.path.dirname(told.path))} {told.state}".encode())
        os._exit(0)  # as workers end that are killed: what it committed stays in its spool
    os.close(write)
    pids.append(pid)
    print(os.read(read, 1000).decode())
    os.waitpid(pid, 0)
runtime.commit("anvil.agreement.low_score", {"value": 0.0}, {"dimension": "parent again"})
print(application.stop(), foundation.statistics().outbox.spool.classes["metric"].committed)
"""
    ended = run(program, directory).splitlines()

    assert ended == [f"{directory.name}-1 ready", f"{directory.name}-1 ready", "True 2"]
