"""Personal data that must not leave unseen: e-mail addresses, US social security numbers, phone and card numbers.

Pure detection: nothing is changed or emitted here; the export reports what it meets. Patterns have no nested
repetition, so hostile text costs linear time; a card number must also pass its check digit, which keeps order numbers
out.
"""

from __future__ import annotations

import functools
import re

_PATTERNS = {
    "email": re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}\b"),
    "ssn": re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
    "phone": re.compile(r"(?<![\d-])(?:\+?1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\d-])"),
    "card": re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])"),
}


@functools.lru_cache(maxsize=4096)  # an export meets each sample's text once per labeler
def detect(text: str) -> tuple[str, ...]:
    """Name the kinds of personal data found in a text: any of email, ssn, phone, card.

    >>> detect("mail ada@example.org or call 555-123-4567")
    ('email', 'phone')
    >>> detect("4111 1111 1111 1111"), detect("4111 1111 1111 1112")
    (('card',), ())
    """
    return tuple(
        name
        for name, pattern in _PATTERNS.items()
        if any(name != "card" or _passes_luhn(match.group()) for match in pattern.finditer(text))
    )


def _passes_luhn(number: str) -> bool:
    """Tell whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
