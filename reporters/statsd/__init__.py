"""StatsD: metrics out over UDP or a Unix datagram socket."""

from reporters.statsd.reporter import Statsd, StatsdReporter, StatsdStatistics

__all__ = ["Statsd", "StatsdReporter", "StatsdStatistics"]
