"""The shell's commands: their names and arguments, what each asks the node, and which view shows the answer.

The same commands are given on the command line and at the prompt. Each returns an exit code and raises ShellError.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runtime.shell import _arguments, _doctor, _top, _views, protocol
from runtime.shell._arguments import Parser, pair, per_second, positive, seconds
from runtime.shell._client import NOT_FOUND, OK
from runtime.shell._screen import Column
from runtime.shell._shell import Shell
from runtime.shell._views import View
from runtime.shell.protocol import Answer, NodeId

Run = Callable[[Shell, argparse.Namespace], int]
SORT = ("id", "actor", "kind", "state", "carrier", "mailbox", "messages_per_s", "handled", "failed", "dropped",
        "restarts", "uptime_ns", "busy_ns", "supervisor")  # fmt: skip
_TITLES = {
    **{title.lower(): name for column, name in zip(_views.PS_COLUMNS, _top.SORTS, strict=True)
       for title in (column.title, column.short or column.title)},
    "busy": "busy_ns",
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """One command; `completes` says of what its argument is a name."""

    name: str
    help: str
    run: Run
    arguments: Callable[[Parser], object] = field(default=lambda parser: None)
    aliases: tuple[str, ...] = ()
    completes: str = ""
    changes: bool = False


def parser_of(command: Command, prog: str = "") -> Parser:
    """Make the parser of a command's arguments; at the prompt, without `prog`, the node is chosen already."""
    parser = Parser(
        prog=f"{prog} {command.name}".strip(),
        description=command.help[0].upper() + command.help[1:] + ".",
        parents=[_arguments.common(with_defaults=False, with_node=bool(prog))],
        allow_abbrev=False,
    )
    command.arguments(parser)
    if command.changes:
        parser.add_argument("--yes", action="store_true", help="do not ask whether it is meant")
    return parser


def find(name: str) -> Command:
    """Return the command of a name or alias. Raises ShellError."""
    found = _by_name.get(name)
    if found is None:
        raise _arguments.unknown("command", name, _by_name)
    return found


# -- asking ----------------------------------------------------------------------------------------------------------


def _asking(verb: str, view: View, *arguments: str) -> Run:
    def run(shell: Shell, options: argparse.Namespace) -> int:
        shell.show(verb, {name: getattr(options, name) for name in arguments}, view)
        return OK

    return run


def _status(shell: Shell, options: argparse.Namespace) -> int:
    reply, line = shell.ask("status")
    shell.code = NOT_FOUND if options.check and not reply.data["healthy"] else OK
    shell.write(reply, line, _views.status)
    return shell.code


def _ps(shell: Shell, options: argparse.Namespace) -> int:
    args = {"sort": options.sort, "reverse": options.reverse, "match": options.match}

    def view(screen: Any, data: Any) -> None:
        _views.ps(screen, data, options.sort)

    if options.window is None:
        shell.show("ps", {**args, "limit": options.limit}, view)
        return OK
    first, _ = shell.ask("ps", args)
    time.sleep(options.window)
    second, _ = shell.ask("ps", args)
    _top.over_window(first, second)
    if options.sort == "messages_per_s":
        second.data["actors"].sort(key=lambda row: row["messages_per_s"], reverse=options.reverse)
    del second.data["actors"][options.limit :]
    shell.write(second, protocol.encode(Answer(second.v, second.at, second.node, second.data))[:-1], view)
    return OK


def _crashes(shell: Shell, options: argparse.Namespace) -> int:
    def view(screen: Any, data: Any) -> None:
        _views.crashes(screen, data, options.verbose)

    shell.show("crashes", {"limit": options.limit}, view)
    return OK


def _trace(shell: Shell, options: argparse.Namespace) -> int:
    args = {
        "event": options.event,
        "limit": options.limit,
        "for_s": options.for_s,
        "rate": options.rate,
        "where": dict(options.where),
    }
    for reply, line in shell.stream("trace", args, options.for_s):
        if reply.end is None:
            shell.write(reply, line, _views.trace, says_stale=False)
            continue
        shell.say_stale(reply)
        left_out = f", {reply.end['skipped']:,} more came too fast" if reply.end["skipped"] else ""
        why = "as many as asked for" if reply.end["why"] == "limit" else f"after {options.for_s:g} s"
        seen = reply.end["seen"]
        shell.screen.remark(f"{seen:,} event{'' if seen == 1 else 's'}, {why}{left_out}")
    return OK


def _doctor_run(shell: Shell, options: argparse.Namespace) -> int:
    return _doctor.run(shell)


# -- changing --------------------------------------------------------------------------------------------------------


def _changing(verb: str) -> Run:
    def run(shell: Shell, options: argparse.Namespace) -> int:
        if not shell.confirm(f"{verb} {options.target}", options.yes):
            shell.screen.remark("nothing was changed")
            return NOT_FOUND
        shell.show(verb, {"target": options.target, "yes": True}, _views.changed)
        return OK

    return run


def _emit(shell: Shell, options: argparse.Namespace) -> int:
    measurements: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for key, text in options.values:
        value = _value(text)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        (measurements if is_number else metadata)[key] = value
    if not shell.confirm(f"emit {options.event}", options.yes):
        shell.screen.remark("nothing was changed")
        return NOT_FOUND
    args = {"event": options.event, "measurements": measurements, "metadata": metadata, "yes": True}
    shell.show("emit", args, _views.changed)
    return OK


def _value(text: str) -> Any:
    """Read a value as JSON where it is some, as text otherwise."""
    try:
        return msgspec.json.decode(text.encode(errors="surrogateescape"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return text


# -- the shell itself ------------------------------------------------------------------------------------------------


def _help(shell: Shell, options: argparse.Namespace) -> int:
    one = find(options.command) if options.command else None
    if shell.screen.json:
        told = [one] if one is not None else COMMANDS
        data = [{"command": usage(one), "aliases": one.aliases, "help": one.help} for one in told]
        shell.screen.raw(protocol.encode(Answer(protocol.VERSION, time.time_ns(), NodeId("", 0), data))[:-1])
        return OK
    if one is not None:
        shell.screen.block(parser_of(one).format_help())
        return OK
    columns = [Column("COMMAND"), Column("ALIASES"), Column("WHAT IT DOES", how="wrap")]
    rows = [[usage(one), ", ".join(one.aliases), one.help] for one in COMMANDS]
    shell.screen.table(columns, rows)
    return OK


def usage(command: Command) -> str:
    """Write a command with its arguments, without its options."""
    actions = [action for action in parser_of(command)._actions if not action.option_strings]
    words = [str(action.metavar or action.dest.upper()) for action in actions]
    optional = [
        f"[{word}]" if action.nargs in ("?", "*") else word for word, action in zip(words, actions, strict=True)
    ]
    return " ".join([command.name, *optional])


def _exit(shell: Shell, options: argparse.Namespace) -> int:
    if shell.is_interactive:
        raise EOFError
    return OK


# -- arguments -------------------------------------------------------------------------------------------------------


def _one(name: str, metavar: str) -> Callable[[Parser], object]:
    return lambda parser: parser.add_argument(name, metavar=metavar)


def _prefix(parser: Parser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="whole segments of a name")


def _status_arguments(parser: Parser) -> None:
    parser.add_argument("--check", action="store_true", help="exit with 1 when the node is not healthy")


def _tree_arguments(parser: Parser) -> None:
    parser.add_argument("actor", metavar="ACTOR", nargs="?", default="", help="the tree below this one only")
    parser.add_argument("-n", "--children", type=positive, default=50, metavar="N", help="so many children each (50)")


def _column(text: str) -> str:
    """Read a column by its name or by its title."""
    name = _TITLES.get(text.lower(), text.lower())
    if name not in SORT:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(SORT)}, got: {text!r}")
    return name


def _ps_arguments(parser: Parser) -> None:
    parser.add_argument("match", metavar="TEXT", nargs="?", default="", help="those with this in a name only")
    parser.add_argument("--sort", type=_column, default="id", metavar="COLUMN", help=", ".join(SORT))
    parser.add_argument("-r", "--reverse", action="store_true", help="largest first")
    parser.add_argument("-n", "--limit", type=positive, default=100_000, metavar="N", help="so many at most")
    parser.add_argument(
        "--window", type=seconds, metavar="S", help="MSG/S over S seconds from now, not since the start"
    )


def _crashes_arguments(parser: Parser) -> None:
    parser.add_argument("-n", "--limit", type=positive, default=20, metavar="N", help="the last N (20)")
    parser.add_argument("-v", "--verbose", action="store_true", help="whole stacktraces")


def _trace_arguments(parser: Parser) -> None:
    parser.add_argument("event", metavar="EVENT[.*]", help="an event, a prefix and .*, or *")
    parser.add_argument("-n", "--limit", type=positive, default=10, metavar="N", help="end after N events (10)")
    parser.add_argument("--for", type=seconds, default=30.0, metavar="S", dest="for_s", help="end after S seconds (30)")
    parser.add_argument(
        "--where", type=pair, action="append", default=[], metavar="K=V", help="those with this value only"
    )
    parser.add_argument(
        "--rate", type=per_second, default=100.0, metavar="R", help="show R events a second at most (100)"
    )


def _emit_arguments(parser: Parser) -> None:
    parser.add_argument("event", metavar="EVENT")
    parser.add_argument(
        "values", metavar="K=V", nargs="*", type=pair, default=[], help="a number is a measurement, else metadata"
    )


def _help_arguments(parser: Parser) -> None:
    parser.add_argument("command", metavar="COMMAND", nargs="?", default="")


COMMANDS: Sequence[Command] = (
    Command("status", "how the node is", _status, _status_arguments, ("s",)),
    Command("tree", "the supervision tree", _asking("tree", _views.tree, "actor", "children"), _tree_arguments,
            ("t", "pstree"), "actor"),
    Command("ps", "the actors, one a line", _ps, _ps_arguments, ("p",)),
    Command("top", "the actors, again and again", _top.run, _top.arguments),
    Command("info", "all that is known of an actor", _asking("info", _views.info, "actor"), _one("actor", "ACTOR"),
            ("i",), "actor"),
    Command("where", "where an actor is, in the tree and in the code", _asking("where", _views.where, "actor"),
            _one("actor", "ACTOR"), ("w",), "actor"),
    Command("state", "an actor's state, which it is asked for", _asking("state", _views.state, "actor"),
            _one("actor", "ACTOR"), (), "actor"),
    Command("crashes", "what went wrong lately", _crashes, _crashes_arguments, ("cr",)),
    Command("events", "the events, and who hears them", _asking("events", _views.events, "prefix"), _prefix, ("e",),
            "event"),
    Command("handlers", "the attached handlers", _asking("handlers", _views.handlers, "prefix"), _prefix, (), "event"),
    Command("trace", "the next events of a name", _trace, _trace_arguments, (), "event"),
    Command("metrics", "the metrics and their series", _asking("metrics", _views.metrics, "prefix"), _prefix, ("m",),
            "metric"),
    Command("reporters", "what leaves the process, and what does not", _asking("reporters", _views.reporters)),
    Command("dead-letters", "the events that a handler failed on", _asking("dead-letters", _views.dead_letters,
    "handler"),
            _one("handler", "HANDLER"), (), "handler"),
    Command("doctor", "what may be wrong with this shell, the node and their surroundings", _doctor_run),
    Command("stop", "end an actor; it stays down", _changing("stop"), _one("target", "ACTOR"), (), "actor", True),
    Command("restart", "restart an actor, or start one that is down", _changing("restart"), _one("target", "ACTOR"), (),
            "actor", True),
    Command("detach", "detach a handler", _changing("detach"), _one("target", "HANDLER"), (), "handler", True),
    Command("reattach", "give a parked handler another chance", _changing("reattach"), _one("target", "HANDLER"), (),
            "handler", True),
    Command("emit", "emit an event", _emit, _emit_arguments, (), "event", True),
    Command("help", "this list, or a command's options", _help, _help_arguments, ("?",), "command"),
    Command("exit", "leave the prompt", _exit, aliases=("quit", "q")),
)  # fmt: skip

_by_name = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
NAMES = tuple(_by_name)
