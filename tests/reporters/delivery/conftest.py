"""Spools to deliver from."""

from tests.reporters.spool.conftest import directory, make_spool

__all__ = ["directory", "make_spool"]
