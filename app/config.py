"""What may be configured, as types, and how it is read: `load(file)`.

The file that is shipped beside this module holds the defaults. Command-line options win over the file. Whatever is
wrong in a file is one sentence with the place (`InvalidValue`); nothing is started here.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from app.events import DECLARED
from runtime.config import TelemetryConfig, place
from runtime.config import load as load_toml
from runtime.errors import InvalidValue, expected

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


_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class _EndpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an endpoint wants to know of us, by the names of environment variables: a file is no place for secrets.

    `token_env` holds a token that is sent as `Authorization: Bearer …`; `headers_env` maps names of headers to the
    variables that hold their values.
    """

    url: _Text | None = None
    token_env: str | None = None
    headers_env: dict[str, str] = {}

    def __post_init__(self) -> None:
        given = {f"headers_env.{name}": variable for name, variable in self.headers_env.items()}
        for setting, variable in {"token_env": self.token_env, **given}.items():
            if variable is not None and not _VARIABLE.fullmatch(variable):
                # Not quoted: it may be the secret itself.
                what = f"{setting} to be the name of an environment variable (A-Z, 0-9, _)"
                raise expected(what, "another text", "The secret itself stays out of the file.")
        if self.token_env is not None and "authorization" in map(str.lower, self.headers_env):
            raise expected("either token_env or headers_env.Authorization", "both")


class FoundationConfig(_EndpointConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[foundation]`: forward metrics to a URL, http(s) or file:; off without one."""

    spool: _Text = "var/spool/foundation"


class AITraceConfig(_EndpointConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[aitrace]`: write traces and lineage below a directory, or send the lineage to a URL; off without either."""

    directory: _Text | None = None
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
