"""From the configuration to the reporters that it asks for: StatsD always, the others when they are configured.

Declares and nothing more; the application's tree starts them. They start from left to right and stop in reverse: StatsD
stops first, so that its last flush does not have to share the time to stop with an endpoint that is away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from app.config import AITraceConfig, Config, FoundationConfig
from reporters import Prometheus, Statsd
from reporters.aitrace import AITrace
from reporters.delivery import Secret
from reporters.foundation import Foundation
from runtime.errors import InvalidValue
from runtime.metrics import Metric
from supervisors.child_spec import SpecLike

_LOCAL = ("127.0.0.1", 8125)


@dataclass(frozen=True)
class Reporters:
    """The reporters of an application, whether or not they run."""

    statsd: Statsd
    prometheus: Prometheus | None = None
    foundation: Foundation | None = None
    aitrace: AITrace | None = None

    @property
    def durable(self) -> list[Foundation | AITrace]:
        """Those that lose nothing."""
        return [one for one in (self.aitrace, self.foundation) if one is not None]

    def children(self) -> list[SpecLike]:
        """Return them in start order."""
        served = [] if self.prometheus is None else [self.prometheus]
        return [*self.durable, *served, self.statsd]


def declare(
    config: Config,
    statsd: tuple[str, int] | None = None,
    metrics: Iterable[Metric] = (),
    span_prefixes: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Reporters:
    """Declare the reporters of a configuration; `statsd` wins over the address that it names.

    `metrics`: of which those marked for it are forwarded to Foundation. `environ`: where the secrets are that the
    configuration names. Raises InvalidValue with the table that is to blame, MissingExtra where a library is not
    installed.
    """
    host, port = statsd or config.statsd.address or _LOCAL
    prometheus, foundation, aitrace = config.prometheus, config.foundation, config.aitrace
    with _blaming("statsd"):
        about = config.statsd
        made = Statsd(
            host=host,
            port=port,
            formatter=about.formatter,
            prefix=about.prefix,
            global_tags=about.global_tags,
            interval_s=about.interval_s,
        )
    with _blaming("prometheus"):
        served = Prometheus(port=prometheus.port) if prometheus.enabled else None
    with _blaming("foundation"):
        forwarding = (
            Foundation(
                foundation.url,
                headers=_headers(foundation, environ),
                spool=foundation.spool,
                metrics=metrics,
                span_prefixes=span_prefixes,
            )
            if foundation.url is not None
            else None
        )
    with _blaming("aitrace"):
        registering = (
            AITrace(
                aitrace.directory or "var/aitrace",
                url=aitrace.url,
                headers=_headers(aitrace, environ),
                spool=aitrace.spool,
            )
            if aitrace.directory is not None or aitrace.url is not None
            else None
        )
    return Reporters(made, served, forwarding, registering)


def _headers(about: FoundationConfig | AITraceConfig, environ: Mapping[str, str]) -> dict[str, Secret]:
    """Take what an endpoint wants from the environment. Errors: InvalidValue, which names variables and no values."""
    headers = {name: Secret(_value(environ, variable)) for name, variable in about.headers_env.items()}
    if about.token_env is not None:
        headers["Authorization"] = Secret(f"Bearer {_value(environ, about.token_env)}")
    return headers


def _value(environ: Mapping[str, str], variable: str) -> str:
    value = environ.get(variable)
    if not value:
        raise InvalidValue(f"expected the environment variable {variable} to be set, got: nothing")
    return value


@contextmanager
def _blaming(table: str) -> Iterator[None]:
    try:
        yield
    except InvalidValue as mistake:
        raise InvalidValue(f"{mistake} (at {table})") from None
