"""The interpreter's own threads, locks, sleep and processes, also in a process whose host has monkey-patched them.

The runtime's threads must be OS threads: in a gevent-patched host `threading.Thread` is a greenlet of the host's hub,
and our scheduler would share the fate of the host's handlers. Nothing here patches anything; it only asks gevent for
what was there before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from gevent import monkey

start_new_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
allocate_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
sleep: Callable[[float], None] = monkey.get_original("time", "sleep")
RLock: Callable[[], Any] = monkey.get_original("_thread", "RLock")
poll: Callable[[], Any] = monkey.get_original("select", "poll")
Popen: Callable[..., Any] = monkey.get_original("subprocess", "Popen")


def interrupt(thread_id: int, error: type[BaseException]) -> None:
    """Raise an exception in another thread, at its next bytecode; a thread that waits in C does not notice.

    A last resort for a thread of ours that has to end. Never to be used on a thread of the host.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))
