"""The prompt in a real terminal, with prompt_toolkit, with readline alone, and on what it shares with them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

import pexpect
import pytest

from runtime.shell._prompt import Names
from runtime.shell._screen import Screen
from runtime.shell._shell import Shell
from tests.runtime.shell.conftest import Home, Node

Terminal = Callable[..., Any]
EDITORS = {"prompt_toolkit": (), "readline": ("prompt_toolkit", "rich")}


@pytest.fixture(params=EDITORS)
def prompt(request: pytest.FixtureRequest, node: Node, terminal: Terminal) -> Any:
    """A prompt on the node, as it is with the extra and without."""
    child = terminal(without=EDITORS[request.param])
    child.expect("demo>")
    return child


def leave(child: Any) -> int:
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    return int(child.exitstatus)


def test_commands_are_done_one_after_another_until_exit(prompt: Any) -> None:
    prompt.sendline("status")
    prompt.expect("healthy")
    prompt.expect("demo>")
    prompt.sendline("tree workers")
    prompt.expect("└─ export")
    prompt.expect("demo>")

    assert leave(prompt) == 0


def test_enter_repeats_the_last_command(prompt: Any) -> None:
    prompt.sendline("info ingest")
    prompt.expect("__main__.Worker")
    prompt.expect("demo>")

    prompt.sendline("")

    prompt.expect("__main__.Worker")
    leave(prompt)


def test_tab_completes_names_of_the_node(prompt: Any) -> None:
    prompt.send("info inge\t")
    prompt.expect("(?s)inge.*st")
    prompt.send("\r")

    prompt.expect("__main__.Worker")
    leave(prompt)


def test_mistake_is_told_and_the_prompt_goes_on(prompt: Any) -> None:
    mistakes = (("inof", "did you mean 'info'"), ("info", "required: ACTOR"), ("info 'x", "No closing quotation"))
    for line, told in mistakes:
        prompt.sendline(line)
        prompt.expect(told)
        prompt.expect("demo>")

    leave(prompt)


def test_interrupt_ends_a_trace_and_not_the_prompt(prompt: Any, node: Node) -> None:
    prompt.sendline("trace shop.* --for 600 -n 1000")
    # Until it listens there is nothing to be seen.
    for _ in range(600):
        node.do("emit 1")
        if prompt.expect(["country=NL", pexpect.TIMEOUT], timeout=0.1) == 0:
            break

    prompt.sendintr()

    prompt.expect("demo>")
    leave(prompt)


def test_change_is_confirmed_by_hand(prompt: Any) -> None:
    prompt.sendline("stop ingest")
    prompt.expect(r"stop ingest in demo \(pid \d+\)\? \[y/N\]")
    prompt.sendline("n")
    prompt.expect("nothing was changed")
    prompt.expect("demo>")
    prompt.sendline("stop ingest")
    prompt.expect(r"\[y/N\]")
    prompt.sendline("y")

    prompt.expect("→ down")
    leave(prompt)


def test_node_that_dies_leaves_the_prompt_alone(prompt: Any, node: Node) -> None:
    node.kill()

    prompt.sendline("ps")

    prompt.expect("has gone|no node answers|no running node")
    prompt.expect(r"\(no node\)>")
    leave(prompt)


def test_without_the_extra_it_says_how_to_get_more(node: Node, terminal: Terminal) -> None:
    child = terminal(without=EDITORS["readline"])

    child.expect(r"pip install 'beamstalk\[shell\]'")
    child.expect("demo>")
    leave(child)


def test_end_of_input_leaves(prompt: Any) -> None:
    prompt.sendeof()

    prompt.expect(pexpect.EOF)


def test_history_is_kept_for_the_user_alone(prompt: Any, home: Home) -> None:
    prompt.sendline("status")
    prompt.expect("healthy")
    prompt.expect("demo>")

    leave(prompt)

    history = home.path / "state" / "beamstalk" / "history"
    assert "status" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_top_takes_the_whole_terminal_and_gives_it_back(prompt: Any) -> None:
    prompt.sendline("top --interval 0.1")
    prompt.expect("\\[\\?1049h")
    prompt.expect("q quit")
    prompt.send("3")
    prompt.expect("by CARRIER")
    prompt.send("?")
    prompt.expect("COLUMNS AND KEYS")
    prompt.send("\x1b")
    prompt.send("/inge\r")
    prompt.expect("filter 'inge'")
    prompt.send("\r")
    prompt.expect(r"class +__main__\.Worker")
    prompt.send("q")
    prompt.expect("\\[\\?1049l")
    prompt.expect("demo>")

    assert leave(prompt) == 0


def test_top_gives_the_terminal_back_when_it_is_interrupted(prompt: Any) -> None:
    prompt.sendline("top")
    prompt.expect("q quit")

    prompt.sendintr()

    prompt.expect("\\[\\?1049l")
    prompt.expect("demo>")
    prompt.sendline("status")
    prompt.expect("healthy")
    leave(prompt)


def test_start_opens_the_prompt_on_the_tree_it_boots(terminal: Terminal) -> None:
    child = terminal("--start", "tests.runtime.shell.demo:application")

    child.expect("demo>")
    child.sendline("restart ingest --yes")
    child.expect("→ running")
    assert leave(child) == 0


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_tables_are_coloured_in_a_terminal_unless_that_is_not_wanted(
    node: Node, home: Home, terminal: Terminal, no_color: str | None, coloured: bool
) -> None:
    if no_color is not None:
        home.environment["NO_COLOR"] = no_color
    child = terminal("doctor")

    child.expect(pexpect.EOF)

    assert ("\x1b[32m" in child.before) == coloured


def test_node_is_not_changed_at_the_prompt(prompt: Any) -> None:
    prompt.sendline("ps --connect /nowhere")
    prompt.expect("unrecognized arguments: --connect")
    prompt.expect("demo>")

    leave(prompt)


def test_names_are_completed_by_any_part_and_quoted_where_that_is_needed() -> None:
    names = Names(Shell(Screen(), connect="/nowhere/at-all.sock"))
    names._known["actor"] = (float("inf"), ["pool", "workers/export to x", "workers/ingest"])

    assert names.after("info po") == ["pool"]
    assert names.after("info ing") == ["workers/ingest"]
    assert names.after("info 'exp") == ["'workers/export to x'"]


def test_names_are_those_of_commands_options_and_nodes() -> None:
    names = Names(Shell(Screen(), connect="/nowhere/at-all.sock"))

    assert names.after("sta") == ["status", "state"]
    assert names.after("ps --so") == ["--sort"]
    assert names.after("info ing") == []
    assert names.after("nonsense x") == []
    assert names.after("ps --conn") == []
    assert "status" in names.after("help ")
