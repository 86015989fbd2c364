"""Prometheus: metrics for whoever comes and asks."""

from reporters.prometheus.reporter import Prometheus, PrometheusReporter, PrometheusStatistics

__all__ = ["Prometheus", "PrometheusReporter", "PrometheusStatistics"]
