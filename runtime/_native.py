"""The interpreter's own threads, locks, sleep and processes, also in a process whose host has monkey-patched them.

The runtime's threads must be OS threads: in a gevent-patched host `threading.Thread` is a greenlet of the host's hub,
and our scheduler would share the fate of the host's handlers. Nothing here patches anything; it only asks gevent for
what was there before.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from collections.abc import Callable
from typing import Any

from gevent import monkey

start_new_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
allocate_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
sleep: Callable[[float], None] = monkey.get_original("time", "sleep")
RLock: Callable[[], Any] = monkey.get_original("_thread", "RLock")
patched_at_import: bool = monkey.is_module_patched("threading")
poll: Callable[[], Any] = monkey.get_original("select", "poll")
socket: Callable[..., Any] = monkey.get_original("socket", "socket")
waitpid: Callable[[int, int], tuple[int, int]] = monkey.get_original("os", "waitpid")


@functools.cache
def subprocess() -> Any:
    """Return a copy of the standard library's module of that name.

    The one that everybody shares can start no process in a patched host but through gevent's own Popen, which needs the
    hub of the host's main thread: gevent takes the rest of it apart.
    """
    spec = importlib.util.find_spec("subprocess")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interrupt(thread_id: int, error: type[BaseException]) -> None:
    """Raise an exception in another thread, at its next bytecode; a thread that waits in C does not notice.

    A last resort for a thread of ours that has to end. Never to be used on a thread of the host.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))
