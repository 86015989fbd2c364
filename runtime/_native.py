"""The interpreter's own threads, locks and sleep, also in a process whose host has monkey-patched them.

The runtime's threads must be OS threads: in a gevent-patched host `threading.Thread` is a greenlet of the host's hub,
and our scheduler would share the fate of the host's handlers. Nothing here patches anything; it only asks gevent for
what was there before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import monkey

start_new_thread: Callable[..., int] = monkey.get_original("_thread", "start_new_thread")
allocate_lock: Callable[[], Any] = monkey.get_original("_thread", "allocate_lock")
get_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
sleep: Callable[[float], None] = monkey.get_original("time", "sleep")
RLock: Callable[[], Any] = monkey.get_original("_thread", "RLock")
