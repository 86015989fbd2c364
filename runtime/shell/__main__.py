"""`python -m runtime.shell`, and the console script `beamstalk`: look into a running node.

python -m runtime.shell                    a prompt on the node that runs
python -m runtime.shell status --check     one command; exit code 0 ok, 1 not found or failed check, 2 usage,
                                           3 no node, 4 timeout, 130 interrupted
python -m runtime.shell ps --json          one JSON object; stdout is data only
python -m runtime.shell --start app.application:application
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from runtime.shell import _arguments, _commands, _prompt, _start
from runtime.shell._arguments import Told
from runtime.shell._client import INTERRUPTED, NOT_FOUND, OK, ShellError
from runtime.shell._screen import Screen
from runtime.shell._shell import Shell


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    # A script's own directory comes first on the path, not the one it is called in, and --start means the latter.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    # Python leaves None where the caller has closed them (`>&-`).
    sys.stdin, sys.stdout, sys.stderr = (one or io.StringIO() for one in (sys.stdin, sys.stdout, sys.stderr))
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except Told:
        return OK
    except ShellError as error:
        Screen().remark(f"{_PROG}: {error}")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _write_no_more()
        return OK
    except OSError as error:
        _write_no_more()
        Screen().remark(f"{_PROG}: {error.strerror or error}")  # the disk is full, say
        return NOT_FOUND
    return code


def _write_no_more() -> None:
    """Let what is still to be written vanish: Python would stumble over it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_PROG = "python -m runtime.shell" if sys.argv[0].endswith("__main__.py") else "beamstalk"


def _run(arguments: list[str]) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    options = given
    command = None
    if given.command is not None:
        command = _commands.find(given.command)
        options = _commands.parser_of(command, _PROG).parse_args(given.arguments, namespace=given)
    with contextlib.ExitStack() as stack:
        connect = options.connect
        if given.start is not None:
            connect = str(stack.enter_context(_start.started(given.start)))
        screen = Screen(json=options.json)
        shell = Shell(screen, connect=connect, node=options.node, timeout_s=options.timeout)
        stack.callback(shell.close)
        if command is not None:
            try:
                return command.run(shell, options)
            except BrokenPipeError:
                _write_no_more()
                return shell.code  # whoever read our output has gone, as `head` does
        _ = shell.path  # with no node there is nothing to prompt for
        return _prompt.run(shell)


def _parser() -> _arguments.Parser:
    listed = "\n".join(f"  {_commands.usage(one):<28}{one.help}" for one in _commands.COMMANDS)
    parser = _arguments.Parser(
        prog=_PROG,
        description="Look into a running beamstalk node. Without a command: a prompt.",
        epilog=f"commands:\n{listed}",
        formatter_class=_arguments.RawDescription,
        parents=[_arguments.common(with_defaults=True)],
        allow_abbrev=False,
    )
    parser.add_argument("--start", metavar="MODULE:NAME", help="start this application here, and look into it")
    parser.add_argument("command", nargs="?", metavar="COMMAND")
    parser.add_argument("arguments", nargs="...", metavar="…")
    return parser


if __name__ == "__main__":
    sys.exit(main())
