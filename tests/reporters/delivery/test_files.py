"""Lines in a file: whole ones only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reporters.delivery import FileTransport, Verdict


def test_bodies_are_appended_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    transport = FileTransport(path)

    verdicts = [transport.send(b'{"n": 1}\n', "1").verdict, transport.send(b'{"n": 2}\n{"n": 3}\n', "2").verdict]

    assert verdicts == [Verdict.DELIVERED] * 2
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n{"n": 3}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_torn_by_a_crash_is_taken_back_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2, "text": "' + b"x" * 200_000)

    FileTransport(path).send(b'{"n": 2}\n', "2")

    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n'


def test_a_whole_line_that_lacks_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"n": 1}')

    FileTransport(path).send(b'{"n": 2}\n', "2")

    assert path.read_bytes() == b'{"n": 1}\n{"n": 2}\n'


def test_a_file_that_cannot_be_written_is_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "file" / "metrics.jsonl", tmp_path):
        answer = FileTransport(path).send(b"{}\n", "1")
        assert answer.verdict is Verdict.RETRY


def test_a_full_device_is_tried_again_later() -> None:
    answer = FileTransport("/dev/full").send(b"{}\n", "1")

    assert answer.verdict is Verdict.RETRY
    assert os.strerror(28) in answer.reason
