"""Header values that must not be seen, and header values that must not do harm.

A `Secret` prints as stars wherever it may turn up: in a repr, a log line, a traceback. Header names and values are
checked when a transport is built, because a line break in one would let whoever controls it write headers of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult

from runtime.errors import expected

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LOOKS_SECRET = re.compile(r"auth|cookie|credential|key|password|secret|signature|token", re.IGNORECASE)


class Secret:
    """Hold a text that prints as stars.

    >>> token = Secret("Bearer 0123456789")
    >>> token, f"{token}", token.reveal()
    (Secret('***'), '***', 'Bearer 0123456789')
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def masked_in(self, text: str) -> str:
        """Return somebody else's text without this one in it: an endpoint may quote what it did not like.

        >>> Secret("Bearer 0123456789").masked_in("unknown token 0123456789")
        'unknown token ***'
        """
        word = self._text.rpartition(" ")[2]  # what follows "Bearer", or all of it
        return text.replace(word, "***") if word else text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"


def checked_headers(headers: Mapping[str, str | Secret]) -> dict[str, str | Secret]:
    """Check header names and values; values of names that look secret become secrets.

    Errors: InvalidValue, which never quotes a value. A name may come once, whatever its case.

    >>> checked_headers({"X-Api-Key": "0123456789", "X-Site": "lab"})
    {'X-Api-Key': Secret('***'), 'X-Site': 'lab'}
    """
    checked: dict[str, str | Secret] = {}
    seen: set[str] = set()
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.match(name):
            raise expected("a header name of letters, digits and -_.", name)
        if name.lower() in seen:
            raise expected("each header once", name)
        seen.add(name.lower())
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or _FORBIDDEN.search(text) or not text.isascii():
            raise expected(f"the header {name} to be ASCII text without CR, LF or control characters", "another value")
        checked[name] = Secret(text) if _LOOKS_SECRET.search(name) else value
    return checked


def masked_url(url: SplitResult) -> str:
    """Return a URL fit for logs: a query may hold a token.

    >>> from urllib.parse import urlsplit
    >>> masked_url(urlsplit("https://foundation.example/ingest?token=0123456789"))
    'https://foundation.example/ingest?***'
    """
    return url._replace(query="***" if url.query else "", fragment="").geturl()
