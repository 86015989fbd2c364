"""Reporters: everything that leaves the process."""

from loguru import logger as _logger

from reporters._extras import MissingExtra
from reporters.aitrace import AITrace
from reporters.console import Console
from reporters.foundation import Foundation
from reporters.prometheus import Prometheus, PrometheusStatistics
from reporters.statsd import Statsd, StatsdStatistics

__all__ = [
    "AITrace",
    "Console",
    "Foundation",
    "MissingExtra",
    "Prometheus",
    "PrometheusStatistics",
    "Statsd",
    "StatsdStatistics",
]

_logger.disable("reporters")
