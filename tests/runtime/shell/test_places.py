"""Where sockets may be, and which are left alone."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.shell import _places
from runtime.shell._places import UnsafePlace


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own."""
    with tempfile.TemporaryDirectory(prefix="bs-", dir="/tmp") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


def bound(path: Path, listens: bool) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    if listens:
        found.listen()
    return found


def test_first_safe_directory_is_taken(place: Path) -> None:
    assert _places.socket_path("my shop/é", 7) == place / "beamstalk" / "my_shop__-7.sock"

    (place / "beamstalk").chmod(0o770)

    assert _places.socket_path("shop", 7) == place / f"beamstalk-{os.geteuid()}" / "shop-7.sock"


def test_where_no_directory_is_safe_all_reasons_are_told(place: Path) -> None:
    for directory in _places.directories():
        directory.mkdir(0o755)
        directory.chmod(0o755)

    with pytest.raises(UnsafePlace, match=r"chmod 700 .*; .*chmod 700"):
        _places.socket_path("shop", 7)


def test_only_living_sockets_are_listed_and_dead_ones_removed(place: Path) -> None:
    directory = place / "beamstalk"
    directory.mkdir(0o700)
    (directory / "file-1.sock").touch()
    with bound(directory / "alive-2.sock", listens=True), bound(directory / "dead-3.sock", listens=False):
        (directory / "link-4.sock").symlink_to(directory / "alive-2.sock")

        found = list(_places.sockets())

    assert found == [directory / "alive-2.sock"]
    assert sorted(path.name for path in directory.iterdir()) == ["alive-2.sock", "file-1.sock", "link-4.sock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_somebody_else_is_left_alone(place: Path) -> None:
    directory = place / "beamstalk"
    directory.mkdir(0o700)
    with bound(directory / "theirs-1.sock", listens=False):
        os.chown(directory / "theirs-1.sock", 65534, -1)
        assert list(_places.sockets()) == []
        assert _places.remove_if_stale(directory / "theirs-1.sock") is False
    assert (directory / "theirs-1.sock").exists()
    os.chown(directory, 65534, -1)

    with pytest.raises(UnsafePlace, match="belong to user"):
        _places.check_directory(directory)


def test_peer_is_who_the_kernel_says() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert _places.peer_uid(ours) == os.geteuid()

    assert _places.is_trusted(os.geteuid())
    assert _places.is_trusted(0)
    assert not _places.is_trusted(os.geteuid() + 1)
    assert not _places.is_trusted(None)
