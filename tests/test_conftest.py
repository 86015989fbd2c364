"""The leak checks find what they are for: each kind of leak fails its own test and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

LEAKS = """
import socket, subprocess, sys, threading
import runtime
from actors import Actor

kept = []
release = threading.Event()

def test_thread():
    kept.append(threading.Thread(target=release.wait, name="left-behind"))
    kept[-1].start()

def test_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_socket_in_a_reference_cycle():
    class Holder: ...
    holder = Holder()
    holder.me, holder.socket = holder, socket.socket()

def test_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE))

def test_actor():
    kept.append(Actor.start())

def test_handler():
    runtime.attach("left-behind", "a.b", print)

def test_clean():
    with socket.create_server(("127.0.0.1", 0)):
        subprocess.run([sys.executable, "-c", ""], check=True)
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()
    Actor.start().stop()
    runtime.attach("cleaned-up", "a.b", print)
    runtime.detach("cleaned-up")

def test_frees_what_the_others_kept():
    release.set()
    for each in kept:
        if isinstance(each, subprocess.Popen):
            each.communicate()
        elif isinstance(each, threading.Thread):
            each.join()
        elif hasattr(each, "close"):
            each.close()
"""


def run_pytest(directory: Path, source: str) -> str:
    (directory / "conftest.py").write_text(re.sub(r"GRACE_S = .*", "GRACE_S = 0.2", CONFTEST.read_text()))
    (directory / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-rA", "-W", "error", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["--rootdir", ".", "."]
    environment = os.environ | {"PYTHONPATH": str(CONFTEST.parents[1])}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def test_each_kind_of_leak_fails_the_test_that_left_it(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, LEAKS)

    failed = set(re.findall(r"^(?:ERROR|FAILED) test_it.py::test_(\w+)", output, re.MULTILINE))
    assert failed == {"thread", "socket", "socket_in_a_reference_cycle", "process", "actor", "handler"}, output
    assert re.search(r"expected to leave nothing behind, got: thread 'left-behind'", output)
    assert re.search(r"expected to leave nothing behind, got: socket AF_INET SOCK_STREAM \('127.0.0.1', \d+\)", output)
    assert re.search(
        r"expected to leave nothing behind, got: process \d+: \S+ -c import sys; sys.stdin.read\(\)", output
    )


def test_missing_peer_skips_here_and_fails_where_peers_are_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "def test_peer(peer):\n    peer('no-such-program')\n"

    monkeypatch.delenv("REQUIRE_PEERS", raising=False)
    relaxed = run_pytest(tmp_path, source)
    monkeypatch.setenv("REQUIRE_PEERS", "1")
    strict = run_pytest(tmp_path, source)

    assert "1 skipped" in relaxed
    assert "expected no-such-program on PATH, got: nothing. .ci/run gets it" in relaxed
    assert "1 failed" in strict
