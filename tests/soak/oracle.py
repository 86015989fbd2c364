"""The judge of the proof: it knows the victim's notes and the endpoint's journal, and nothing of how either works.

every committed event has arrived
nothing has arrived that was not issued
what arrived more than once did so under one id and with one content
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec


class Verdict(NamedTuple):
    """What was found; `faults` is empty when the promise was kept."""

    issued: int
    committed: int
    arrived: int
    duplicates: int
    refused: list[str]
    faults: list[str]


def judge(notes: Path, journal: Path) -> Verdict:
    """Hold the notes against the journal."""
    noted: dict[str, set[str]] = {"issued": set(), "committed": set()}
    refused = []
    for line in notes.read_text().splitlines():
        what, _, key = line.partition(" ")
        noted.setdefault(what, set()).add(key)
        if what == "refused":
            refused.append(key)
    contents: dict[str, set[tuple[str, str]]] = {}
    arrivals = 0
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    for line in lines:
        event = msgspec.json.decode(line)
        arrivals += 1
        contents.setdefault(event["key"]["dimension"], set()).add((event["id"], event["digest"]))
    arrived = set(contents)
    faults = [f"committed and never arrived: {key}" for key in sorted(noted["committed"] - arrived)]
    faults += [f"arrived and never issued: {key}" for key in sorted(arrived - noted["issued"])]
    faults += [f"arrived in {len(found)} versions: {key}" for key, found in contents.items() if len(found) > 1]
    return Verdict(
        issued=len(noted["issued"]),
        committed=len(noted["committed"]),
        arrived=len(arrived),
        duplicates=arrivals - len(arrived),
        refused=refused,
        faults=faults,
    )
