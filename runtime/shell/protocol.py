"""The introspection protocol: what a shell and a node say to each other, one JSON object a line.

A shell sends a `Request` and gets one `Answer` or one `Refusal`; a trace is any number of answers and then an `End`.
Both ends hold themselves to the limits below and trust nothing that the other says: a line is decoded into these types
or refused. What an answer's `data` holds is plain JSON, made by the node, in which secrets are masked already.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "ANSWER_BYTES",
    "REQUEST_BYTES",
    "SESSIONS",
    "TIMEOUT_NS",
    "TIMEOUT_NS_MOST",
    "VERSION",
    "Answer",
    "End",
    "Failure",
    "FailureKind",
    "NodeId",
    "Refusal",
    "Reply",
    "Request",
    "decode_reply",
    "decode_request",
    "encode",
]

VERSION = 1
REQUEST_BYTES = 64 * 1024
"""The longest request line that a node reads."""
ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer line that a shell reads, and that a node sends."""
SESSIONS = 64
"""How many shells a node serves at a time."""
TIMEOUT_NS = 2_000_000_000
"""How long a node may take for an answer unless the request says otherwise."""
TIMEOUT_NS_MOST = 600_000_000_000

FailureKind = Literal["not_found", "usage", "timeout", "refused", "failed", "busy", "version"]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Ask a node for something: `verb` with `args`, to be answered within `timeout_ns`."""

    v: int
    verb: str
    args: dict[str, Any] = {}
    timeout_ns: int = TIMEOUT_NS


class NodeId(msgspec.Struct, frozen=True):
    """Say who answers; `stale_ns` is how long the node's hub has been blocked, 0 while all is well."""

    name: str
    pid: int
    stale_ns: int = 0


class Failure(msgspec.Struct, frozen=True):
    """Say why there is no answer; `near` holds names that may have been meant."""

    kind: FailureKind
    message: str
    near: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """Answer a request; `at` is calendar time (ns)."""

    v: int
    at: int
    node: NodeId
    data: Any


class Refusal(msgspec.Struct, frozen=True):
    """Answer a request with a failure."""

    v: int
    at: int
    node: NodeId
    error: Failure


class End(msgspec.Struct, frozen=True):
    """End a stream of answers; `end` says why and what was left out."""

    v: int
    at: int
    node: NodeId
    end: dict[str, Any]


class Reply(msgspec.Struct, frozen=True):
    """Hold any of the three, as a shell reads it."""

    v: int
    at: int
    node: NodeId
    data: Any = None
    error: Failure | None = None
    end: dict[str, Any] | None = None


_reply = msgspec.json.Decoder(Reply)
_request = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def encode(message: Request | Answer | Refusal | End) -> bytes:
    r"""Write a message as one line.

    >>> encode(Request(VERSION, "status"))
    b'{"v":1,"verb":"status"}\n'
    """
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a request. Raises msgspec.DecodeError (ValidationError among them) for anything else, RecursionError too."""
    return _request.decode(line)


def decode_reply(line: bytes) -> Reply:
    """Read a reply. Raises msgspec.DecodeError for anything else.

    >>> decode_reply(b'{"v":1,"at":0,"node":{"name":"shop","pid":7},"data":[]}').node
    NodeId(name='shop', pid=7, stale_ns=0)
    """
    return _reply.decode(line)
