"""Spools on real files, closed behind each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reporters.spool import Spool

MakeSpool = Callable[..., Spool]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the test's spool lives; does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def make_spool(directory: Path) -> Iterator[MakeSpool]:
    """Start spools that are closed when the test is over."""
    started: list[Spool] = []

    def make(at: Path = directory, **options: Any) -> Spool:
        spool = Spool(at, **options)
        spool.start()
        started.append(spool)
        return spool

    yield make
    for spool in started:
        assert spool.close()
        assert spool.statistics().balanced
