"""Where sockets live, and who may be on the other end of one. Both ends use it; neither trusts the other's word.

A node's socket is `<directory>/<name>-<pid>.sock`, mode 0600, in a directory of mode 0700 that belongs to the user. The
directory is looked at with lstat, so that nobody can put a link of theirs in its place; who is connected is asked of
the kernel. A socket that nobody listens on any more is removed only if it is the user's own and refuses.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket as _socket
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime import _native
from runtime.errors import BeamstalkError

SUFFIX = ".sock"
_LONGEST_PATH = 100  # sun_path holds 104 bytes on some systems
_LONGEST_NAME = 40
_DARWIN_LOCAL_PEERCRED = 1


class UnsafePlace(BeamstalkError):
    """Say what is wrong with a directory or socket, and how to put it right."""


def directories() -> list[Path]:
    """Return where sockets may be, the best place first."""
    found = []
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(own) and os.path.isdir(own):
        found.append(Path(own) / "beamstalk")
    found.append(Path(tempfile.gettempdir()) / f"beamstalk-{os.geteuid()}")
    return found


def check_directory(path: Path) -> None:
    """Raise UnsafePlace unless the directory is one, is the user's own, and is open to nobody else."""
    try:
        found = os.lstat(path)
    except OSError as error:
        raise UnsafePlace(f"expected the directory {path} to be there, got: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafePlace(f"expected {path} to be a directory, got: {_kind(found.st_mode)}. Remove it")
    if found.st_uid != os.geteuid():
        raise UnsafePlace(f"expected {path} to belong to user {os.geteuid()}, got: user {found.st_uid}. Remove it")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise UnsafePlace(f"expected {path} to have mode 0700, got: {mode:04o}. Run: chmod 700 {path}")


def make_directory(path: Path) -> None:
    """Make the directory, unless it is there, and check it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    check_directory(path)


def socket_path(name: str, pid: int) -> Path:
    """Return where a node of this name and process puts its socket, in the first directory that can be made or is safe.

    Raises UnsafePlace when none is.
    """
    safe = safe_name(name)
    problems = []
    for directory in directories():
        path = directory / f"{safe}-{pid}{SUFFIX}"
        try:
            check_length(path)
            make_directory(directory)
        except (UnsafePlace, OSError) as error:
            problems.append(str(error))
        else:
            return path
    raise UnsafePlace("; ".join(problems))


def safe_name(name: str) -> str:
    """Return what of a node's name stands in the name of its socket.

    >>> safe_name("my shop/eu")
    'my_shop_eu'
    """
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:_LONGEST_NAME] or "node"


def check_length(path: Path) -> None:
    """Raise UnsafePlace for a path that is longer than a socket's may be."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UnsafePlace(f"expected a socket path of at most {_LONGEST_PATH} bytes, got: {path}. Choose a shorter one")


def owner(path: Path) -> tuple[str, int] | None:
    """Read name and pid of a node from the path of its socket.

    >>> owner(Path("/run/user/7/beamstalk/my-shop-42.sock"))
    ('my-shop', 42)
    """
    name, _, pid = path.name.removesuffix(SUFFIX).rpartition("-")
    return (name, int(pid)) if name and pid.isascii() and pid.isdigit() else None


def is_own_socket(path: Path) -> bool:
    """Tell whether this is a socket, no link to one, and belongs to the user."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid()


def refuses(path: Path, timeout_s: float = 1.0) -> bool:
    """Tell whether nobody listens on a socket any more; connects to it, at most for `timeout_s`."""
    with contextlib.closing(new_socket()) as probe:
        probe.settimeout(timeout_s)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def remove_if_stale(path: Path) -> bool:
    """Remove a socket that is the user's own and that nobody listens on; tell whether it is gone."""
    if not is_own_socket(path) or not refuses(path):
        return False
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return True


def sockets() -> Iterator[Path]:
    """Yield the sockets of the user's nodes; those of dead nodes are removed on the way."""
    for directory in directories():
        try:
            check_directory(directory)
            names = sorted(os.listdir(directory))
        except (UnsafePlace, OSError):
            continue
        for name in names:
            path = directory / name
            if name.endswith(SUFFIX) and is_own_socket(path) and not remove_if_stale(path):
                yield path


def new_socket() -> Any:
    """Make a Unix stream socket of the interpreter's own kind, also where the host has patched sockets."""
    return _native.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)


def peer_uid(connection: Any) -> int | None:
    """Ask the kernel who is on the other end; None where it cannot tell."""
    if hasattr(_socket, "SO_PEERCRED"):
        found = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", found)[1])
    if sys.platform == "darwin":
        # struct xucred: version, uid, and more that we need not know.
        return int(struct.unpack("2I", connection.getsockopt(0, _DARWIN_LOCAL_PEERCRED, 8))[1])
    return None


def is_trusted(uid: int | None) -> bool:
    """Tell whether a peer is the user, or root, who could look anyway."""
    return uid is not None and uid in (os.geteuid(), 0)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISREG, "a file"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in kinds if test(mode)), "something else")
