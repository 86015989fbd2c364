"""An application with a Foundation reporter, and an endpoint for it."""

from tests.reporters.spool.conftest import directory, make_spool

__all__ = ["directory", "make_spool"]
