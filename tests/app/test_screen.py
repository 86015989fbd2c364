import contextlib
import os
import pty
import subprocess
import sys

import pytest

from app.screen import Screen

PROGRAM = """
import threading
from app.screen import Screen
screen = Screen()
done = iter(range(0, 1000, 100))
drawn = threading.Event()
def count():
    number = next(done, 900)
    if number >= 400:
        drawn.set()
    return number
with screen.progress(count, 1000):
    drawn.wait(30)
    screen.line("a line")
screen.line("the end")
"""


def test_lines_go_to_stdout_and_there_is_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    with screen.progress(lambda: 1, 2):
        screen.line("a line")

    assert capsys.readouterr() == ("a line\n", "")


def test_a_quiet_screen_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=True).line("a line")

    assert capsys.readouterr() == ("", "")


def read_all(terminal: int) -> str:
    """Read what was written to a terminal whose other end is closed; it comes in pieces."""
    pieces = []
    with contextlib.suppress(OSError):  # how Linux says that it is at its end
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    return b"".join(pieces).decode()


def test_a_terminal_sees_progress_that_is_gone_at_the_end() -> None:
    terminal, theirs = pty.openpty()
    try:
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
        os.close(theirs)
        drawn = read_all(terminal)
    finally:
        os.close(terminal)

    assert done.stdout == "a line\nthe end\n"
    assert "of 1,000 labels (" in drawn
    assert drawn.endswith("\r\x1b[K")


def test_a_reader_who_has_gone_costs_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = (
        "from app.screen import Screen\nscreen = Screen()\nscreen.line('a')\nscreen.line('b')\nimport os; os._exit(7)"
    )

    ended = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (7, b"")
