"""The two streams of the main job: lines for people on stdout, and on a terminal a line of progress on stderr.

The progress line is rewritten in place, so everybody who prints goes through here. Without a terminal there is no
progress at all, and a pipe or a log sees whole lines only.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_REDRAW_EVERY_S = 0.2
_CLEAR = "\r\x1b[K"


class Screen:
    """Prints for several threads. `quiet` prints no lines; progress is shown only if stderr is a terminal.

    `is_deserted` tells whether whoever read the lines has gone.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self.is_deserted = False
        self._lock = threading.Lock()
        self._is_terminal = sys.stderr.isatty()

    def line(self, text: str) -> None:
        """Print a line on stdout, now."""
        with self._lock:
            self._clear()
            if not self._quiet:
                try:
                    print(text, flush=True)
                except BrokenPipeError:
                    # Nobody reads any more; whoever prints the summary will find out.
                    self._quiet = self.is_deserted = True

    @contextmanager
    def progress(self, done: Callable[[], int], total: int, what: str = "labels") -> Iterator[None]:
        """Show how many of `total` things are done while the block runs."""
        if not self._is_terminal:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._redraw, args=[done, total, what, over])
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with self._lock:
                self._clear()

    def _redraw(self, done: Callable[[], int], total: int, what: str, over: threading.Event) -> None:
        started_s = time.monotonic()
        while not over.wait(_REDRAW_EVERY_S):
            rate = done() / (time.monotonic() - started_s)
            with self._lock:
                sys.stderr.write(f"{_CLEAR}{done():,} of {total:,} {what} ({done() / total:.0%}), {rate:,.0f}/s")
                sys.stderr.flush()

    def _clear(self) -> None:
        if self._is_terminal:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
