"""multiprocessing, by fork or spawn, with a running application in the parent."""

import multiprocessing
import sys

from supervisors import Application
from tests.hosts.checks import in_threads, say, service


def child(results: object) -> None:
    results.put(service(in_threads))  # type: ignore[attr-defined]


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with Application("parent").running():
        results = context.SimpleQueue()
        process = context.Process(target=child, args=(results,))
        process.start()
        process.join()
        assert process.exitcode == 0, process.exitcode
        say(**results.get())
    say(**service(in_threads))
