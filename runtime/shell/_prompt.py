"""The prompt: the same commands, one line after another, with history and completion; Enter alone repeats the last one.

prompt_toolkit does the editing where it is installed, readline where Python has it; without a terminal the lines are
simply read. What a line does wrong is said and forgotten: only leaving ends the prompt.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime.shell import _commands
from runtime.shell._arguments import Told
from runtime.shell._client import INTERRUPTED, OK, ShellError
from runtime.shell._screen import MORE
from runtime.shell._shell import Shell
from runtime.shell._text import duration, printable

_NAMES_FOR_S = 2.0
_ASK_NAMES_S = 0.5
_ASKS = {
    "actor": ("ps", "actor", {"limit": 1_000}),
    "handler": ("handlers", "handler", {}),
    "event": ("events", "event", {}),
    "metric": ("metrics", "metric", {}),
}
"""What is asked for the names of a kind, and which key of the answer's lines holds them."""


def run(shell: Shell) -> int:
    """Read commands and do them until the end of input; returns the exit code of the last."""
    shell.is_interactive = True
    code = OK
    last = ""
    with _reader(shell) as read:
        while True:
            try:
                line = read(_question(shell)).strip() or last
                if line:
                    last = line
                    code = perform(shell, line)
            except KeyboardInterrupt:
                shell.close()  # an answer may be under way
                shell.screen.remark("")
                code = INTERRUPTED
            except EOFError:
                return code


def perform(shell: Shell, line: str) -> int:
    """Do one line; say what is wrong with it. Raises EOFError when it says to leave."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        shell.screen.remark(f"expected a command line, got: {error}")
        return 2
    if not words:
        return OK
    as_asked = shell.screen.json, shell.timeout_s
    try:
        command = _commands.find(words[0])
        options = _commands.parser_of(command).parse_args(words[1:])
        shell.screen.json = getattr(options, "json", shell.screen.json)
        shell.timeout_s = getattr(options, "timeout", shell.timeout_s)
        return command.run(shell, options)
    except Told:
        return OK
    except ShellError as error:
        shell.screen.remark(str(error))
        return error.code
    finally:
        shell.screen.json, shell.timeout_s = as_asked


def _question(shell: Shell) -> str:
    try:
        reply, _ = shell.ask("hello", timeout_s=_ASK_NAMES_S)
    except ShellError:
        return "(no node)> "
    stale = f" (stale {duration(reply.node.stale_ns)})" if reply.node.stale_ns else ""
    return f"{printable(reply.node.name)}{stale}> "


# -- what can be meant -----------------------------------------------------------------------------------------------


class Names:
    """The names that may come next on a line; asked from the node now and then, left out when it does not answer."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._known: dict[str, tuple[float, list[str]]] = {}

    def after(self, line: str) -> list[str]:
        """Return what may follow, or complete, the last word of a line."""
        words = line.split()
        if line.endswith(" ") or not words:
            words.append("")
        if len(words) == 1:
            found = [command.name for command in _commands.COMMANDS]
        else:
            found = self._arguments(words[0], words[-1])
        word = words[-1].strip("'\"")
        begins = [name for name in found if name.startswith(word)]
        # The last part of a label will do, and is what one knows; what holds a space has to be quoted.
        return [shlex.quote(name) for name in begins or [name for name in found if word in name]]

    def _arguments(self, name: str, word: str) -> list[str]:
        try:
            command = _commands.find(name)
        except ShellError:
            return []
        if word.startswith("-"):
            actions = _commands.parser_of(command)._actions
            return [option for action in actions for option in action.option_strings if option.startswith("--")]
        if command.completes == "command":
            return list(_commands.NAMES)
        return self._of(command.completes) if command.completes else []

    def _of(self, kind: str) -> list[str]:
        asked_at, names = self._known.get(kind, (0.0, []))
        if time.monotonic() - asked_at > _NAMES_FOR_S:
            verb, key, args = _ASKS[kind]
            with contextlib.suppress(ShellError):
                reply, _ = self._shell.ask(verb, args, timeout_s=_ASK_NAMES_S)
                lines = reply.data["actors"] if kind == "actor" else reply.data
                names = [line[key] for line in lines]
            self._known[kind] = (time.monotonic(), names)
        return names


# -- reading lines ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reader(shell: Shell) -> Iterator[Callable[[str], str]]:
    """Yield what reads a line: with prompt_toolkit, with readline, or plainly."""
    if not (sys.stdin.isatty() and shell.screen.is_terminal):
        yield _read_plainly
    elif importlib.util.find_spec("prompt_toolkit") is not None:
        yield _prompt_toolkit(shell)
    else:
        shell.screen.remark(MORE)
        with _readline(shell):
            yield input


def _read_plainly(question: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _prompt_toolkit(shell: Shell) -> Callable[[str], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion, ThreadedCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    # A shell is not thread-safe, and names are asked for in a thread so that typing never waits for the node.
    names = Names(Shell(shell.screen, connect=str(shell.path), timeout_s=_ASK_NAMES_S))

    class Completing(Completer):
        def get_completions(self, document: Any, _: Any) -> Iterator[Completion]:
            before = document.text_before_cursor
            word = "" if before.endswith(" ") else (before.split() or [""])[-1]
            for name in names.after(before):
                yield Completion(name, start_position=-len(word))

    path = history_path()
    history = FileHistory(str(path)) if path is not None else InMemoryHistory()
    session: PromptSession[str] = PromptSession(
        history=history, completer=ThreadedCompleter(Completing()), complete_while_typing=False
    )
    return lambda question: session.prompt(question)


@contextlib.contextmanager
def _readline(shell: Shell) -> Iterator[None]:
    try:
        import readline
    except ImportError:
        yield
        return
    names = Names(shell)
    path = history_path()

    def complete(text: str, number: int) -> str | None:
        found = names.after(readline.get_line_buffer()[: readline.get_endidx()])
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
    if path is not None:
        with contextlib.suppress(OSError):
            readline.read_history_file(path)
    try:
        yield
    finally:
        if path is not None:
            with contextlib.suppress(OSError):
                readline.write_history_file(path)


def history_path() -> Path | None:
    """Return the file of the history, made for the user's eyes only; None where there is no place for one."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    directory = Path(state) / "beamstalk"
    path = directory / "history"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    except OSError:
        return None
    return path
