"""The shell as a program, against a service that runs: one command, its output, its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.shell.__main__ import main
from runtime.shell._commands import COMMANDS
from tests.runtime.meeting import PATIENCE_S, until
from tests.runtime.shell.conftest import PATIENT, ROOT, Done, Home, Node

Run = Callable[..., Done]

ASKING = [
    ("status",),
    ("tree",),
    ("ps",),
    ("info", "ingest"),
    ("where", "ingest"),
    ("state", "ingest"),
    ("crashes",),
    ("events",),
    ("handlers",),
    ("metrics",),
    ("reporters",),
    ("doctor",),
    ("top", "--interval", "0.01"),
    ("trace", "shop.order", "--for", "0.01"),
]


@pytest.mark.parametrize("arguments", ASKING, ids=lambda arguments: arguments[0])
def test_command_writes_a_table_and_json_and_nothing_else(look: Run, arguments: tuple[str, ...]) -> None:
    text, frames = (
        look(*arguments),
        look("--json", *arguments, "--count", "1") if arguments[0] == "top" else look("--json", *arguments),
    )

    assert (text.code, frames.code) == (0, 0), (text, frames)
    assert "Traceback" not in text.errors + frames.errors
    assert "\x1b" not in text.out
    for frame in frames.frames:
        assert frame.keys() == {"v", "at", "node", "data"}
        assert frame["node"]["name"] == "demo"
    assert len(frames.frames) == (0 if arguments[0] == "trace" else 1)


def test_every_alias_does_what_its_command_does(look: Run) -> None:
    aliases = {
        "s": "healthy",
        "t": "ingest",
        "pstree": "ingest",
        "p": "SUPERVISOR",
        "cr": "",
        "e": "EVENT",
        "m": "METRIC",
    }

    for alias, shown in aliases.items():
        done = look(alias)
        assert done.code == 0, done
        assert shown in done.out

    assert set(aliases) | {"i", "w", "?", "quit", "q"} == {alias for command in COMMANDS for alias in command.aliases}


def test_tree_shows_strategy_intensity_and_the_last_failure(node: Node, shell: Run) -> None:
    node.do("crash")
    until(lambda: any("no good" in str(line.get("last_failure")) for line in shell("tree", "--json").data))

    done = shell("tree", "workers")

    first, second, third = done.out.splitlines()[1:]
    assert "one_for_one" in first
    assert "1/100 in 1 h" in first
    assert second.startswith("├─ ingest")
    assert "ValueError('no good')" in second
    assert third.startswith("└─ export\\x1b[31m")


def test_control_characters_of_a_name_reach_no_terminal(look: Run) -> None:
    text, json_text = look("ps"), look("ps", "--json")

    assert "export\\x1b[31m" in text.out
    assert "\x1b" not in text.out + json_text.out
    assert "workers/export\x1b[31m" in [row["actor"] for row in json_text.data["actors"]]


def test_check_says_by_its_code_whether_the_node_is_healthy(node: Node, shell: Run, home: Home) -> None:
    until(lambda: shell("status", "--check").code == 0)
    node.do("attach")
    node.do("emit 1")
    until(lambda: shell("handlers", "--json").data[0]["state"] == "gave_up")
    unhealthy = shell("status", "--check", "--json")

    assert (unhealthy.code, unhealthy.data["healthy"]) == (1, False)
    assert shell("status").code == 0
    assert shell("doctor").code == 1
    assert [in_bash(home, f"{command} | true").returncode for command in ("status --check", "doctor", "ps")] == [
        1,
        1,
        0,
    ]


def test_unknown_name_is_told_with_what_was_meant(look: Run) -> None:
    done = look("info", "ingset")

    assert (done.code, done.out) == (1, "")
    assert "no actor named 'ingset'; did you mean 'ingest'?" in done.errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("inof",), "did you mean 'info'?"),
        (("info",), "required: ACTOR"),
        (("ps", "--sort", "colour"), "got: 'colour'"),
        (("--timeout", "0", "ps"), "expected a number of seconds"),
        (("trace", "a.b", "--where", "x"), "expected KEY=VALUE"),
        (("ps", "--unknown"), "unrecognized arguments"),
        (("trace", "a.b", "--rate", "0"), "expected a number of events a second"),
        (("emit",), "required: EVENT. See"),
        (("trace", "a..b"), "expected a pattern"),
        (("--start", "nothing", "ps"), "module:attribute"),
        (("--start", "no.such:thing", "ps"), "can be imported"),
    ],
)
def test_mistake_on_the_command_line_is_one_sentence(look: Run, arguments: tuple[str, ...], told: str) -> None:
    done = look(*arguments)

    assert (done.code, done.out) == (2, "")
    assert told in done.errors
    assert len(done.errors.splitlines()) == 1


def test_options_may_stand_before_and_after_the_command(node: Node, shell: Run) -> None:
    before, after = (
        shell("--json", "--connect", str(node.path), "ps"),
        shell("ps", "--connect", str(node.path), "--json"),
    )

    assert before.frames[0].keys() == after.frames[0].keys()


def test_help_names_every_command(shell: Run) -> None:
    done = shell("--help")

    assert done.code == 0
    assert all(command.name in done.out for command in COMMANDS)
    assert shell("help", "trace").code == shell("trace", "--help").code == 0
    assert "--where" in shell("help", "trace").out


# -- which node ------------------------------------------------------------------------------------------------------


def test_without_a_node_the_code_is_three_and_says_what_to_do(shell: Run) -> None:
    done = shell("ps")

    assert (done.code, done.out) == (3, "")
    assert "introspect=True" in done.errors


def test_several_nodes_are_listed_and_one_is_chosen(start_node: Callable[..., Node], shell: Run) -> None:
    nodes = [start_node(), start_node()]

    unsure = shell("ps")
    chosen = [shell("status", "--json", "--node", str(node.process.pid)) for node in nodes]
    by_path = shell("status", "--json", "--connect", str(nodes[0].path))

    assert unsure.code == 2
    assert all(str(node.path) in unsure.errors for node in nodes)
    assert [done.data["pid"] for done in chosen] == [node.process.pid for node in nodes]
    assert by_path.data["pid"] == nodes[0].process.pid


def test_node_is_chosen_by_the_name_that_it_goes_by(home: Home, shell: Run) -> None:
    (home.path / "mine.py").write_text("from supervisors import Application\napplication = Application('höst eu')\n")
    home.environment["PYTHONPATH"] += f":{home.path}"
    command = [sys.executable, "-m", "runtime.shell", "--start", "mine:application", "trace", "a.b", "--for", "86400"]
    with subprocess.Popen(command, cwd=ROOT, env=home.environment, stdin=subprocess.DEVNULL) as process:
        try:
            until(lambda: home.sockets.exists() and shell("status").code == 0)
            done = shell("--node", "höst eu", "status", "--json")
        finally:
            process.kill()

    assert done.data["name"] == "höst eu"


def test_names_that_are_no_utf8_are_a_mistake_of_the_command_line(look: Run) -> None:
    done = look("info", os.fsdecode(b"\xff"))

    assert (done.code, done.out) == (2, "")
    assert "to be UTF-8" in done.errors


def test_dead_node_is_no_node_and_its_socket_goes(node: Node, shell: Run) -> None:
    node.kill()
    assert node.path.exists()

    named, found = shell("ps", "--connect", str(node.path)), shell("ps")

    assert (named.code, found.code) == (3, 3)
    assert not node.path.exists()


def test_stopped_process_is_a_timeout(node: Node, shell: Run) -> None:
    node.process.send_signal(signal.SIGSTOP)
    try:
        done = shell("ps", "--timeout", "0.2")
    finally:
        node.process.send_signal(signal.SIGCONT)

    assert (done.code, done.out) == (4, "")
    assert "within 0.2 s" in done.errors


def test_trace_of_a_stopped_process_is_a_timeout_too(node: Node, shell: Run) -> None:
    node.process.send_signal(signal.SIGSTOP)
    try:
        trace, doctor = (
            shell("trace", "shop.*", "--for", "86400", "--timeout", "0.2"),
            shell("doctor", "--timeout", "0.2"),
        )
    finally:
        node.process.send_signal(signal.SIGCONT)

    assert (trace.code, trace.out) == (4, "")
    assert doctor.code == 1
    assert "fail    node" in doctor.out


def test_sockets_in_a_directory_that_others_may_write_are_not_used(node: Node, shell: Run, home: Home) -> None:
    home.sockets.chmod(0o777)

    listed, doctor = shell("ps"), shell("doctor")

    assert listed.code == 3
    assert doctor.code == 1
    assert f"chmod 700 {home.sockets}" in doctor.out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_users_shell_sees_nothing(node: Node, home: Home, tmp_path: Path) -> None:
    home.path.chmod(0o755)
    home.sockets.parent.chmod(0o755)
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        # Another user may not be able to run this interpreter; a forked child of ours can become that user.
        child = os.fork()
        if child == 0:
            code = 99
            try:
                sys.stdout, sys.stderr = out, err
                os.setuid(65534)
                code = main(["ps", "--connect", str(node.path)])
            finally:
                out.flush()
                err.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)

    assert (os.waitstatus_to_exitcode(status), (tmp_path / "out").read_text()) == (3, "")
    assert "Permission denied" in (tmp_path / "err").read_text()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"nonsense\n", 3),
        (b'{"v":2,"at":0,"node":{"name":"x","pid":1},"data":1}\n', 3),
        (b"", 3),
        (b"x" * 1000, 3),
        (b'{"v":1,"at":0,"node":{"name":"x","pid":1},"error":{"kind":"busy","message":"full"}}\n', 4),
    ],
)
def test_node_that_talks_nonsense_is_told_in_one_sentence(home: Home, shell: Run, said: bytes, code: int) -> None:
    home.sockets.mkdir(0o700)
    path = home.sockets / "odd-1.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "runtime.shell", *PATIENT, "ps", "--connect", str(path)],
            cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(said)
        out, errors = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, out) == (code, ""), errors
    assert len(errors.splitlines()) == 1


# -- stuck, gone, interrupted ----------------------------------------------------------------------------------------


def test_stuck_node_is_listed_with_how_stale_it_is(node: Node, shell: Run) -> None:
    node.do("block")
    until(lambda: shell("ps", "--json").frames[0]["node"]["stale_ns"] > 0)

    listed, where = shell("ps"), shell("where", "ingest")
    traced = shell("trace", "shop.*", "--for", "0.01")
    late = [shell("state", "ingest", "--timeout", "0.3")]
    # The shell has half a second of patience beyond that; on a busy machine, the node's reason may come later.
    until(lambda: "no answer from" not in late[-1].errors or late.append(shell("state", "ingest", "--timeout", "0.3")))

    assert traced.errors.startswith("stale ")
    assert (listed.code, where.code, *{state.code for state in late}) == (0, 0, 4)
    assert listed.errors.startswith("stale ")
    assert "stale" not in listed.out
    assert "time.sleep(600)" in where.out
    assert "the hub has been blocked" in late[-1].errors


def in_bash(home: Home, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell with what bash does to its streams."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m runtime.shell {' '.join(PATIENT)} {command}"],
        cwd=ROOT,
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )


def test_reader_that_goes_early_costs_no_traceback(node: Node, home: Home) -> None:
    node.do("spawn 3000")

    done = in_bash(home, "ps | head -n 2")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "code", "told"), [("tree > /dev/full", 1, "No space"), ("tree >&-", 0, ""), ("nothing 2>&-", 2, "")]
)
def test_output_that_cannot_be_written_costs_no_traceback(
    node: Node, home: Home, command: str, code: int, told: str
) -> None:
    done = in_bash(home, command)

    assert done.returncode == code, done
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == bool(told)


@pytest.mark.parametrize("command", ["", "top --interval 0.01", "stop ingest"])
def test_closed_input_costs_no_traceback(node: Node, home: Home, command: str) -> None:
    done = in_bash(home, f"{command} <&-")

    assert done.returncode == (2 if command.startswith("stop") else 0), done
    assert "Traceback" not in done.stderr


def test_terminal_without_the_letters_gets_plainer_ones(node: Node, home: Home, shell: Run) -> None:
    home.environment["PYTHONIOENCODING"] = "ascii"

    done = shell("tree", "workers")

    assert (done.code, done.errors) == (0, "")
    assert done.out.splitlines()[2].startswith("|- ingest")


def test_interrupt_ends_a_trace_with_130(node: Node, home: Home) -> None:
    command = [sys.executable, "-m", "runtime.shell", *PATIENT, "trace", "shop.*", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None

        def heard() -> bool:
            node.do("emit 1")
            return select_readable(process.stdout)

        until(heard)
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, errors) == (130, "")
    assert first["data"]["metadata"] == {"country": "NL", "token": "***"}


def select_readable(stream: Any) -> bool:
    import select

    return bool(select.select([stream], [], [], 0.05)[0])


# -- changing --------------------------------------------------------------------------------------------------------


def test_control_verbs_change_the_node(node: Node, shell: Run) -> None:
    before = shell("info", "ingest", "--json").data["id"]

    done = [
        shell("restart", "ingest", "--yes"),
        shell("stop", "ingest", "--yes"),
        shell("restart", "ingest", "--yes"),
        shell("emit", "shop.order", "amount=3", "country=NL", "note=text", "--yes"),
    ]

    assert [one.code for one in done] == [0] * 4, done
    assert shell("info", "ingest", "--json").data["id"] != before
    until(lambda: shell("metrics", "--json").data[0]["series"] == [{"tags": {"country": "NL"}, "value": 1}])


def test_node_that_allows_no_control_refuses(start_node: Callable[..., Node], shell: Run) -> None:
    start_node()

    done = shell("stop", "ingest", "--yes")

    assert done.code == 1
    assert "control=True" in done.errors
    assert shell("info", "ingest").code == 0


def test_change_is_to_be_confirmed_where_it_is_allowed(node: Node, shell: Run) -> None:
    done = shell("stop", "ingest")

    assert (done.code, done.out) == (2, "")
    assert "Say --yes" in done.errors
    assert shell("info", "ingest").code == 0


def test_nobody_is_told_to_confirm_what_will_be_refused(look: Run) -> None:
    done = look("stop", "ingest")

    assert done.code == 1
    assert "control=True" in done.errors


def test_exit_is_no_mistake_outside_the_prompt(look: Run) -> None:
    done = look("exit")

    assert (done.code, done.out, done.errors) == (0, "", "")


def test_help_is_json_where_that_is_asked_for(look: Run) -> None:
    listed, one = look("help", "--json"), look("help", "ps", "--json")

    assert "tree [ACTOR]" in [line["command"] for line in listed.data]
    assert [line["aliases"] for line in one.data] == [["p"]]


def test_actors_are_sorted_by_what_a_column_is_called_in_the_table(look: Run) -> None:
    by_title, by_name = look("ps", "--sort", "UPTIME", "--json"), look("ps", "--sort", "uptime_ns", "--json")

    assert [row["actor"] for row in by_title.data["actors"]] == [row["actor"] for row in by_name.data["actors"]]


def test_what_actors_are_sorted_by_is_shown(look: Run) -> None:
    for column, title in {"busy": "BUSY", "dropped": "DROPPED", "kind": "KIND", "rst": "RESTARTS"}.items():
        assert title in look("ps", "--sort", column).out.splitlines()[0].split()


def test_busiest_of_a_window_is_chosen_by_that_window(node: Node, home: Home, shell: Run) -> None:
    node.do("emit 1000")
    arguments = ["ps", "--sort", "msg/s", "-r", "-n", "1", "--json"]
    until(lambda: shell(*arguments).data["actors"][0]["actor"] == "telemetry.aggregator")

    command = [sys.executable, "-m", "runtime.shell", *PATIENT, *arguments, "--window", "0.5"]
    with subprocess.Popen(command, cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            node.do("work")
        out, _ = process.communicate(timeout=PATIENCE_S)

    (row,) = json.loads(out)["data"]["actors"]
    assert (row["actor"], row["messages_per_s"] > 0) == ("ingest", True)


# -- other ways in ---------------------------------------------------------------------------------------------------


def test_start_boots_a_tree_and_looks_into_it(shell: Run) -> None:
    done = shell("--start", "tests.runtime.shell.demo:application", "ps", "--json")

    assert done.code == 0, done
    assert "ingest" in [row["actor"] for row in done.data["actors"]]


def test_reference_application_that_is_started_leaves_nothing_behind(shell: Run, home: Home) -> None:
    before = sorted(home.path.rglob("*anvil*"))

    done = shell("--start", "app.application:application", "tree", cwd=home.path)

    assert done.code == 0, done
    assert "anvil" in done.out
    assert sorted(home.path.rglob("*anvil*")) == before == []


def test_start_makes_an_application_of_a_class(shell: Run) -> None:
    done = shell("--start", "tests.runtime.shell.demo:Demo", "status", "--check")

    assert done.code == 0, done


def test_console_script_finds_applications_in_the_working_directory(shell: Run, home: Home) -> None:
    # What an installed script does: its own directory is on the path, the working directory is not.
    script = home.path / "bin" / "beamstalk"
    script.parent.mkdir()
    script.write_text(
        f"import sys\nsys.path.append({str(ROOT)!r})\nfrom runtime.shell.__main__ import main\nsys.exit(main())\n"
    )
    (home.path / "mine.py").write_text("from tests.runtime.shell.demo import Demo\napplication = Demo()\n")
    home.environment.pop("PYTHONPATH")

    done = shell(
        "--start", "mine:application", "status", "--json", cwd=home.path, program=[sys.executable, str(script)]
    )

    assert done.code == 0, done
    assert done.data["name"] == "demo"


def test_commands_may_come_from_a_pipe(node: Node, shell: Run) -> None:
    done = shell("--json", input="status\nps ingest\n\ninfo nobody\n")

    assert [sorted(frame["data"])[0] for frame in done.frames] == ["actors", "actors", "actors"]
    assert "no actor named 'nobody'" in done.errors
    assert done.code == 1


def test_reference_application_is_looked_into(home: Home, shell: Run) -> None:
    command = [sys.executable, "-m", "app", "--samples", "all", "--rate", "20", "--train", "0", "--json"]
    with subprocess.Popen(command, cwd=ROOT, env=home.environment, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: home.sockets.exists() and shell("status").code == 0)
            status = shell("status", "--json").data
            actors = {row["actor"] for row in shell("ps", "--json").data["actors"]}
            events = {row["event"]: row for row in shell("events", "anvil", "--json").data}
        finally:
            process.kill()

    assert status["name"] == "anvil"
    assert {"anvil", "telemetry", "reporters", "introspector"} <= actors
    assert events["anvil.label.submit.stop"]["declared"]


def test_own_packages_shadowed_by_foreign_ones_are_told(node: Node, shell: Run, home: Home) -> None:
    (home.path / "actors").mkdir()
    (home.path / "actors" / "__init__.py").touch()

    done = shell("doctor", "--json", cwd=home.path)

    check = next(one for one in done.data if one["check"] == "package actors")
    assert (done.code, check["result"]) == (1, "fail")
    assert str(home.path) in check["found"]
    assert "rename" in check["fix"]


def test_nothing_of_the_upper_floors_is_imported(node: Node, shell: Run) -> None:
    program = [
        sys.executable,
        "-c",
        "import sys; from runtime.shell.__main__ import main; code = main(sys.argv[1:]); "
        "print([n for n in sys.modules if n.split('.')[0] in ('actors', 'supervisors', 'reporters', 'app')]); "
        "sys.exit(code)",
    ]

    done = shell("status", program=program)

    assert done.out.splitlines()[-1] == "[]"


def test_sockets_are_the_users_own(node: Node, home: Home) -> None:
    modes = [stat.S_IMODE(os.lstat(path).st_mode) for path in (node.path, home.sockets)]

    assert modes == [0o600, 0o700]
    assert node.path == home.sockets / f"demo-{node.process.pid}.sock"


@pytest.mark.parametrize(("when", "result"), [("before", "ok"), ("after", "warn")])
def test_gevent_host_is_looked_into_while_its_own_hub_is_busy(home: Home, shell: Run, when: str, result: str) -> None:
    patch = "from gevent import monkey; monkey.patch_all()"
    program = f"""
{patch if when == "before" else ""}
import sys, time
from tests.runtime.shell.demo import Demo
{patch if when == "after" else ""}
with Demo().running():
    print("runs", flush=True)
    while True:
        sum(range(100_000))
"""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=home.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as host:
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == "runs\n"
            listed, state, doctor = shell("ps"), shell("state", "ingest"), shell("doctor", "--json")
        finally:
            host.kill()

    assert (listed.code, state.code) == (0, 0), (listed, state)
    assert next(one["result"] for one in doctor.data if one["check"] == "monkey-patching") == result
