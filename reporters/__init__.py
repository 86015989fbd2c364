"""Reporters: everything that leaves the process."""

from loguru import logger as _logger

from reporters.statsd import Statsd, StatsdStatistics

__all__ = ["Statsd", "StatsdStatistics"]

_logger.disable("reporters")
