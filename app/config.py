"""What may be configured, as types, and how it is read: `load(file)`.

The file that is shipped beside this module holds the defaults. Command-line options win over the file. Whatever is
wrong in a file is one sentence with the place (`InvalidValue`); nothing is started here.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from app.events import DECLARED
from runtime.config import TelemetryConfig, place
from runtime.config import load as load_toml
from runtime.errors import InvalidValue

DEFAULT = Path(__file__).with_name("config.toml")

_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class StatsdConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[statsd]`: see `reporters.Statsd`. Without host and port: to the listener of the main job."""

    host: _Text | None = None
    port: _Port | None = None
    formatter: Literal["datadog", "standard"] = "datadog"
    prefix: str = ""
    global_tags: dict[str, str | int | float | bool] = {}
    interval_s: Annotated[float, msgspec.Meta(gt=0)] = 1.0

    @property
    def address(self) -> tuple[str, int] | None:
        """Where to send, if the file says so.

        >>> StatsdConfig(port=9125).address
        ('127.0.0.1', 9125)
        """
        if self.host is None and self.port is None:
            return None
        return self.host or "127.0.0.1", self.port or 8125


class PrometheusConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[prometheus]`: an endpoint on 127.0.0.1, off by default. Port 0: any free one."""

    enabled: bool = False
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 9464


class FoundationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[foundation]`: forward metrics to a URL, http(s) or file:; off without one."""

    url: _Text | None = None
    spool: _Text = "var/spool/foundation"


class AITraceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[aitrace]`: write traces and lineage below a directory, or send the lineage to a URL; off without either."""

    directory: _Text | None = None
    url: _Text | None = None
    spool: _Text = "var/spool/aitrace"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Every table may be missing."""

    telemetry: TelemetryConfig = TelemetryConfig()
    statsd: StatsdConfig = StatsdConfig()
    prometheus: PrometheusConfig = PrometheusConfig()
    foundation: FoundationConfig = FoundationConfig()
    aitrace: AITraceConfig = AITraceConfig()


def load(file: str | os.PathLike[str] = DEFAULT) -> Config:
    """Read a configuration file; default: the one that is shipped. Errors: InvalidValue.

    Also refused is a sampling rate for something that nobody emits. A phase of a span (`….stop`) is: a span is kept
    as a whole or not at all.
    """
    config = load_toml(file, Config)
    known = [one.name for one in DECLARED.declared]
    for name in config.telemetry.sampling:
        if name not in known:
            span = DECLARED.get(name)
            near = [span.name] if span is not None else difflib.get_close_matches(name, known, n=1)
            fix = f". Did you mean {near[0]}?" if near else ". All are listed in docs/events.md"
            what = f"a declared event or span prefix at {place('telemetry', 'sampling')}"
            raise InvalidValue(f"{os.fspath(file)}: expected {what}, got: {name!r}{fix}")
    return config
