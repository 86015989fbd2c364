"""The judge of the proof finds each kind of fault."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.soak.oracle import judge


def faults(directory: Path, notes: str, *arrivals: tuple[str, str, str]) -> list[str]:
    (directory / "notes").write_text(notes)
    lines = [{"id": id, "digest": digest, "key": {"dimension": key}} for key, id, digest in arrivals]
    (directory / "journal").write_bytes(msgspec.json.Encoder().encode_lines(lines))
    return judge(directory / "notes", directory / "journal").faults


def test_a_kept_promise_has_no_faults(tmp_path: Path) -> None:
    notes = "issued a\ncommitted a\nissued b\nissued c\n"

    assert faults(tmp_path, notes, ("a", "1", "x"), ("a", "1", "x"), ("b", "2", "y")) == []


def test_a_lost_event_is_found(tmp_path: Path) -> None:
    assert faults(tmp_path, "issued a\ncommitted a\n") == ["committed and never arrived: a"]


def test_an_invented_event_is_found(tmp_path: Path) -> None:
    assert faults(tmp_path, "issued a\n", ("b", "1", "x")) == ["arrived and never issued: b"]


def test_a_second_id_or_another_content_is_found(tmp_path: Path) -> None:
    notes = "issued a\nissued b\n"

    found = faults(tmp_path, notes, ("a", "1", "x"), ("a", "2", "x"), ("b", "3", "x"), ("b", "3", "y"))

    assert found == ["arrived in 2 versions: a", "arrived in 2 versions: b"]
