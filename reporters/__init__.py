"""Reporters: everything that leaves the process."""

from loguru import logger as _logger

from reporters._extras import MissingExtra
from reporters.console import Console
from reporters.prometheus import Prometheus, PrometheusStatistics
from reporters.statsd import Statsd, StatsdStatistics

__all__ = ["Console", "MissingExtra", "Prometheus", "PrometheusStatistics", "Statsd", "StatsdStatistics"]

_logger.disable("reporters")
