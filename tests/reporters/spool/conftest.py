"""Spools on real files, closed behind each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reporters.spool import Spool
from tests.runtime.meeting import PATIENCE_S

MakeSpool = Callable[..., Spool]


class PatientSpool(Spool):
    """A spool whose callers wait for a slow disk: a fsync takes seconds where many processes want one."""

    def commit(
        self, payload: bytes, *, id: str | None = None, record_class: str = "", timeout_s: float = PATIENCE_S
    ) -> str:
        return super().commit(payload, id=id, record_class=record_class, timeout_s=timeout_s)

    def flush(self, timeout_s: float = PATIENCE_S) -> bool:
        return super().flush(timeout_s)

    def close(self, timeout_s: float = PATIENCE_S) -> bool:
        return super().close(timeout_s)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the test's spool lives; does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def make_spool(directory: Path) -> Iterator[MakeSpool]:
    """Start spools that are closed when the test is over."""
    started: list[Spool] = []

    def make(at: Path = directory, **options: Any) -> Spool:
        spool = PatientSpool(at, **options)
        spool.start()
        started.append(spool)
        return spool

    yield make
    for spool in started:
        assert spool.close()
        assert spool.statistics().balanced
