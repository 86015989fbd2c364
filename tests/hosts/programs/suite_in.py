"""Run the kernel suite inside a host: `suite_in.py HOST PATH…`. The last line on standard output is the result."""

import sys

HOST, PATHS = sys.argv[1], sys.argv[2:]

# First of all, what decides about the imports that follow.
if HOST == "gevent_before":
    from gevent import monkey

    monkey.patch_all()
if HOST == "gevent_after":
    import supervisors.application  # noqa: F401, I001
    from gevent import monkey

    monkey.patch_all()

import asyncio  # noqa: E402
import multiprocessing  # noqa: E402
import os  # noqa: E402
import threading  # noqa: E402
from typing import Any  # noqa: E402

from tests.hosts.checks import say  # noqa: E402
from tests.hosts.suite import run  # noqa: E402


def in_a_thread() -> None:
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(run(HOST, PATHS)))
    thread.start()
    thread.join()
    say(**results[0])


async def beside_a_loop() -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.001)

    heart = asyncio.create_task(beat())
    found = await asyncio.to_thread(run, HOST, PATHS)
    heart.cancel()
    assert beats > 5, beats  # the loop has gone on
    say(**found)


async def in_a_loop() -> None:
    say(**run(HOST, PATHS))


def in_a_fork() -> None:
    """The parent has a running application, which the child inherits, stops and leaves behind."""
    from supervisors import Application

    application = Application("parent", fork="restart")
    with application.running():
        pid = os.fork()
        if pid == 0:
            assert application.is_running
            assert application.stop()
            say(**run(HOST, PATHS))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert application.is_running
    assert status == 0, status


def child(result: Any) -> None:
    result.send(run(HOST, PATHS))


def in_a_process(method: str) -> None:
    from supervisors import Application

    context = multiprocessing.get_context(method)
    with Application("parent").running():
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(sender,))
        process.start()
        sender.close()  # so that a child which dies ends the wait
        found = receiver.recv()
        process.join()
        receiver.close()
        assert process.exitcode == 0, process.exitcode
    say(**found)


if __name__ == "__main__":
    match HOST:
        case "plain" | "gevent_before" | "gevent_after":
            say(**run(HOST, PATHS))
        case "thread":
            in_a_thread()
        case "asyncio_beside":
            asyncio.run(beside_a_loop())
        case "asyncio_inside":
            asyncio.run(in_a_loop())
        case "fork":
            in_a_fork()
        case "multiprocessing_fork":
            in_a_process("fork")
        case "multiprocessing_spawn":
            in_a_process("spawn")
        case _:
            raise SystemExit(f"expected the name of a host, got: {HOST}")
