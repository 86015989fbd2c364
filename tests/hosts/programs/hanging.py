"""A handler that never returns, for an interpreter of its own to import."""

import time


def hang(*event: object) -> None:
    """Stay."""
    while True:
        time.sleep(3600)
