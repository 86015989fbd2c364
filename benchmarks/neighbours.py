"""Handlers that are bad company. A module of their own, because another interpreter imports them."""

from __future__ import annotations

import time
from typing import Any


def sleep_100_ms(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
    """Block."""
    time.sleep(0.1)


def burn(event: str, measurements: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
    """Use a core for 100 ms."""
    until = time.perf_counter() + 0.1
    while time.perf_counter() < until:
        pass
