"""What the tests of AITrace share with those of the spool."""

from tests.reporters.spool.conftest import directory, make_spool

__all__ = ["directory", "make_spool"]
