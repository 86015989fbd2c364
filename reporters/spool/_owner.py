"""One owner per spool: the directory, the lock file, and what a fork must not inherit.

`claim` makes sure of the directory (0700, ours) and takes an exclusive `flock` on `spool.lock` in it. The kernel frees
the lock when the owner's process ends, however it ends, so no lock is ever stale. Only the spool's writer calls this.

Fork: a child shares the parent's open file, and with it the lock; it closes its copy at once (which frees nothing), or
the lock would outlive the parent. Before a fork the writers are brought to rest between two transactions, so that the
child finds SQLite's own locks open and can use a spool of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import Any

from runtime import _native
from runtime._fork import in_child
from runtime.errors import expected

_FORK_WAIT_S = 1.0

_claims: weakref.WeakSet[Claim] = weakref.WeakSet()
_resting: list[Any] = []


class Taken(Exception):
    """Another process owns the spool."""


class Claim:
    """The ownership of one spool directory. `at_work` is held by the writer while it is inside SQLite."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self.pid = os.getpid()
        self.at_work = _native.allocate_lock()
        _claims.add(self)

    def release(self) -> None:
        """Let others claim the directory; harmless when done before."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def claim(directory: Path) -> Claim:
    """Become the owner of a spool directory.

    Errors: Taken when somebody else is; OSError when the directory cannot be used; InvalidValue when it is not private.
    """
    private_directory(directory)
    descriptor = os.open(directory / "spool.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise Taken(f"{directory} belongs to process {owner or 'unknown'}") from None
        raise
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the note
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return Claim(descriptor)


def private_directory(directory: Path) -> None:
    """Create a directory of mode 0700, or check that an existing one is ours alone.

    Errors: OSError when it cannot be made; InvalidValue when it is open to others.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"expected {directory} to be a directory, got: something else")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise expected(
            f"{directory} to be a directory of mode 0700 that belongs to user {os.geteuid()}",
            f"mode {stat.S_IMODE(found.st_mode):04o}, user {found.st_uid}",
            "Name a directory that does not exist yet; it is created as needed.",
        )


def _rest() -> None:
    for one in list(_claims):
        if one.at_work.acquire(True, _FORK_WAIT_S):
            _resting.append(one.at_work)


def _resume() -> None:
    while _resting:
        _resting.pop().release()


@in_child
def _resume_in_child() -> None:
    _resume()
    for one in list(_claims):
        if one.pid != os.getpid():  # the child may have claimed a directory of its own already
            one.release()
            _claims.discard(one)


os.register_at_fork(before=_rest, after_in_parent=_resume)
