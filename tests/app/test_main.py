"""The main job as its user runs it: a process of its own, a raw UDP socket for a StatsD server, its output."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.labeling.export import read_manifest
from app.labeling.metrics import METRICS
from app.training.outputs import CustomLossOutput
from tests.runtime.meeting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
LINE = re.compile(
    r"(?P<name>[a-z_.]+):(?P<value>-?\d+(?:\.\d+)?)\|(?P<kind>c|ms|g|d|h)(?:\|@(?P<rate>[\d.]+))?(?:\|#(?P<tags>[^|#]+))?"
)
SMALL = ("--samples", "30", "--rate", "max", "--abandon", "0", "--train", "0", "--json")
LABELS = 300


class Server:
    """A UDP socket on which everything that was sent waits until it is read."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.option = ("--statsd", f"127.0.0.1:{self.socket.getsockname()[1]}")

    def lines(self) -> list[str]:
        """Return all lines that have come."""
        self.socket.setblocking(False)
        lines = []
        while True:
            try:
                lines += self.socket.recv(65_536).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.socket.close()


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "app", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    )


def run(*arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == code, err
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def summary_of(*arguments: str, code: int = 0, **options: Any) -> dict[str, Any]:
    done = run(*arguments, code=code, **options)
    assert done.stderr == ""
    summary: dict[str, Any] = msgspec.json.decode(done.stdout)
    return summary


def accounts_of(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the accounts by listener, having checked every sum."""
    accounts = {account["listener"]: account for account in [*summary["listeners"], summary["events"]]}
    columns = ("handled", "dropped", "failed", "discarded", "waiting")
    for account in accounts.values():
        assert account["emitted"] == sum(account[column] for column in columns)
    for column in ("emitted", *columns):
        assert summary["events"][column] == sum(account[column] for account in summary["listeners"])
    return accounts


def test_a_statsd_server_receives_what_the_summary_says(server: Server) -> None:
    summary = summary_of(*SMALL, "--abandon", "0.02", *server.option)

    lines = server.lines()
    matches = [match for line in lines if (match := LINE.fullmatch(line))]
    sums: Counter[str] = Counter()
    for match in matches:
        if match["kind"] == "c":
            sums[match["name"]] += int(match["value"])
    assert len(matches) == len(lines) == summary["statsd"]["lines"]
    assert sums["anvil.label.submit.count"] == summary["labels"]["submitted"] == LABELS
    assert sums["anvil.assignment.timed_out.count"] == summary["labels"]["abandoned"] > 0
    assert "anvil.queue.created.count:1|c" in lines


def test_the_lines_have_the_form_that_the_decision_record_shows(server: Server) -> None:
    summary_of(*SMALL, "--abandon", "0.02", *server.option)

    lines = server.lines()
    for form in (
        r"anvil\.queue\.created\.count:1\|c",
        r"anvil\.label\.submit\.count:\d+\|c\|#queue_id:vader-lexicon,schema_version_id:v2",
        r"anvil\.assignment\.dispatch\.duration:[\d.]+\|ms\|#policy_type:redundancy",
        r"anvil\.label\.submit\.duration:[\d.]+\|ms\|#queue_id:vader-lexicon",
        r"anvil\.agreement\.low_score\.value:[\d.-]+\|g\|#dimension:valence",
    ):
        assert any(re.fullmatch(form, line) for line in lines), form
    names = {line.split(":")[0] for line in lines}
    assert names == {metric.name for metric in METRICS} - {"anvil.export.generate.exception.count"}


def test_the_sums_of_a_run_add_up() -> None:
    summary = summary_of(*SMALL)

    accounts = accounts_of(summary)
    labels = summary["labels"]
    assert summary["adds_up"] is True
    assert labels["submitted"] == labels["heard"] == labels["exported"] == LABELS
    assert labels["samples"] == summary["agreement"]["samples"] == 30
    assert 0 < summary["agreement"]["alpha"]["valence"] < 1
    assert accounts["ledger"]["handled"] == accounts["ledger"]["emitted"] > LABELS
    assert accounts["telemetry.aggregator"]["handled"] > LABELS
    statsd = summary["statsd"]
    assert (statsd["lines_received"], statsd["packets_received"]) == (statsd["lines"], statsd["packets"])
    assert statsd["labels_received"] == LABELS
    assert summary["restarts"] == 0


def test_chaos_changes_nothing_for_those_who_work_and_listen(server: Server) -> None:
    summary = summary_of("--chaos", *SMALL, *server.option)

    accounts = accounts_of(summary)
    sums = Counter(int(line.split(":")[1].split("|")[0]) for line in server.lines() if "submit.count" in line)
    assert summary["adds_up"] is True
    assert summary["labels"]["submitted"] == summary["labels"]["heard"] == LABELS
    assert sum(value * times for value, times in sums.items()) == LABELS
    heard = 2 * LABELS + summary["labels"]["rejected"]
    assert accounts["chaos-sleeper"]["emitted"] == accounts["chaos-raiser"]["emitted"] == heard
    assert accounts["chaos-sleeper"]["waiting"] > 0
    assert accounts["chaos-raiser"]["failed"] > 0
    assert summary["restarts"] > 0


def test_exports_are_kept_with_manifests_that_prove_them(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there" / "yet"

    summary = summary_of("--export", str(directory), *SMALL)

    assert sorted(path.name for path in directory.iterdir()) == [
        "labels.csv",
        "labels.csv.manifest.json",
        "labels.jsonl",
        "labels.jsonl.manifest.json",
    ]
    for format in ("csv", "jsonl"):
        written = (directory / f"labels.{format}").read_bytes()
        manifest = read_manifest(directory / f"labels.{format}.manifest.json")
        assert manifest.sha256_hash == hashlib.sha256(written).hexdigest()
        assert (manifest.row_count, manifest.output_path) == (LABELS, str(directory / f"labels.{format}"))
        assert written.count(b"\n") == LABELS + (format == "csv")
    assert [one["sha256_hash"] for one in summary["exports"]] == [
        read_manifest(directory / f"labels.{format}.manifest.json").sha256_hash for format in ("csv", "jsonl")
    ]


def test_nothing_still_waits_to_be_checked_when_the_sums_are_made(server: Server) -> None:
    accounts = accounts_of(summary_of(*SMALL, *server.option))

    assert accounts["telemetry.validator"]["waiting"] == 0
    assert accounts["telemetry.validator"]["handled"] > LABELS


def test_sampled_spans_carry_their_rate_and_the_sums_still_add_up(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    sampling = '"anvil.label.submit" = 0.5\n"anvil.assignment.completed" = 0.1\n'
    config.write_text(f'[telemetry.sampling]\n{sampling}[statsd]\nprefix = "x"\n')

    summary = summary_of(*SMALL, "--config", str(config), *server.option)

    counted = [line for line in server.lines() if line.startswith("x.anvil.label.submit.count:")]
    kept = sum(int(line.split(":")[1].split("|")[0]) for line in counted)
    assert counted
    assert all("|c|@0.5|#queue_id:" in line for line in counted)
    assert LABELS / 5 < kept < LABELS * 4 / 5  # ten standard deviations to either side of the half
    assert 0 < summary["labels"]["heard"] < LABELS == summary["labels"]["submitted"]
    assert summary["adds_up"] is True


def test_what_is_forwarded_arrives_at_the_endpoint_beside(tmp_path: Path) -> None:
    with start("--sink", "--port", "0") as endpoint:
        assert endpoint.stdout is not None
        url = endpoint.stdout.readline().removeprefix("listening at ").strip()
        config = tmp_path / "config.toml"
        config.write_text(
            f'[foundation]\nurl = "{url}"\nspool = "{tmp_path}/f"\n[aitrace]\nurl = "{url}"\n'
            f'directory = "{tmp_path}/aitrace"\nspool = "{tmp_path}/a"\n'
        )

        summary = summary_of(*SMALL, "--config", str(config))
        endpoint.send_signal(signal.SIGINT)
        out, err = endpoint.communicate(timeout=PATIENCE_S)

    received = msgspec.json.decode(out.splitlines()[-1])
    foundation, aitrace = sorted(summary["forwarded"], key=lambda one: one["reporter"], reverse=True)
    assert (endpoint.returncode, err) == (0, "")
    assert received["conflicts"] == received["invalid"] == 0
    # A slow machine may run out of time to stop in: what is not delivered by then is in the spool.
    assert foundation["delivered"] + foundation["waiting"] == accounts_of(summary)["foundation"]["handled"] > LABELS
    assert aitrace["delivered"] + aitrace["waiting"] == 2 * len(summary["exports"])
    assert received["names"].keys() >= {"anvil.label.submit.duration", "artifact", "edge"}
    assert received["events"] - received["names"]["artifact"] - received["names"]["edge"] >= foundation["delivered"] > 0
    assert summary["adds_up"] is True


def test_a_spool_that_cannot_be_written_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = tmp_path / "config.toml"
    config.write_text(f'[foundation]\nurl = "http://127.0.0.1:1/"\nspool = "{tmp_path}/file/spool"\n')

    summary = summary_of(*SMALL, "--config", str(config))

    (forwarded,) = summary["forwarded"]
    assert forwarded["refused"] == accounts_of(summary)["foundation"]["handled"] > LABELS
    assert forwarded["problem"] == f"cannot_open: [Errno 17] File exists: '{tmp_path}/file'"
    assert summary["adds_up"] is True


@pytest.mark.parametrize(("sent", "accepted"), [("hunter2", True), ("hunter3", False)])
def test_an_endpoint_that_asks_for_a_token_gets_it_and_nobody_else_sees_it(
    tmp_path: Path, sent: str, accepted: bool
) -> None:
    config, log = tmp_path / "config.toml", tmp_path / "log"
    environ = {**os.environ, "ANVIL_TOKEN": sent}
    with start("--sink", "--port", "0", "--token-env", "TOKEN", env={**os.environ, "TOKEN": "hunter2"}) as endpoint:
        assert endpoint.stdout is not None
        url = endpoint.stdout.readline().removeprefix("listening at ").strip()
        config.write_text(
            f'[foundation]\nurl = "{url}"\ntoken_env = "ANVIL_TOKEN"\nspool = "{tmp_path}/f"\n'
            f'[aitrace]\nurl = "{url}"\ntoken_env = "ANVIL_TOKEN"\nspool = "{tmp_path}/a"\n'
            f'directory = "{tmp_path}/aitrace"\n'
        )

        # Two seconds, so that the first batch goes out long before the end.
        done = run(*SMALL, "--rate", "150", "--config", str(config), "--log", str(log), env=environ)
        endpoint.send_signal(signal.SIGINT)
        out, err = endpoint.communicate(timeout=PATIENCE_S)

    received, summary = msgspec.json.decode(out.splitlines()[-1]), msgspec.json.decode(done.stdout)
    lineage, metrics = summary["forwarded"]
    assert (received["unauthorized"] == 0, received["events"] > 0) == (accepted, accepted)
    assert received["requests"] > 0
    assert (metrics["delivered"] > 0, metrics["dead"] > 0) == (accepted, not accepted)
    assert lineage["delivered"] + lineage["dead"] + lineage["waiting"] == 2 * len(summary["exports"])
    assert lineage["dead"] == 0 or not accepted
    assert "hunter" not in f"{done.stdout}{done.stderr}{out}{err}{log.read_text()}"
    assert ("401 Unauthorized" in log.read_text()) is not accepted
    assert summary["adds_up"] is True


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[foundation]\nurl = "http://h/"\ntoken_env = "NOT_SET"',
            "expected the environment variable NOT_SET to be set",
        ),
        ("[statds]", "expected one of telemetry, statsd, prometheus, foundation, aitrace at the top, got: 'statds'"),
        ('[statsd]\nprefix = "."', "expected prefix to be a name without leading, trailing or double dots, got: '.'"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_sentence_and_2(tmp_path: Path, text: str, sentence: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)

    done = run("--config", str(config), code=2)

    assert done.stdout == ""
    assert done.stderr.startswith(f"python -m app: {config}: {sentence}")
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence_and_1(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(f"[prometheus]\nenabled = true\nport = {port}")

        done = run("--config", str(config), code=1)

    assert done.stderr.startswith(f"python -m app: expected 127.0.0.1:{port} to be free for Prometheus, got: ")
    assert done.stderr.count("\n") == 1


def test_a_refusing_endpoint_costs_nothing_and_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.connect(("127.0.0.1", 9))  # so that the system refuses what anybody else sends there
        port = taken.getsockname()[1]

        summary = summary_of("--statsd", f"127.0.0.1:{port}", *SMALL)

    assert summary["adds_up"] is True
    assert summary["labels"]["submitted"] == LABELS
    assert "refused" in summary["statsd"]["problem"]
    assert summary["statsd"]["failed_sends"] > 0
    assert summary["statsd"]["lines"] == 0


def test_a_duration_ends_the_labelling_and_the_sums_still_add_up() -> None:
    summary = summary_of("--samples", "all", "--rate", "200", "--duration", "1", "--train", "0", "--json")

    assert summary["adds_up"] is True
    assert 0 < summary["labels"]["submitted"] < 1000
    assert summary["interrupted"] is False


@pytest.mark.parametrize("chaos", [(), ("--chaos",)], ids=["calm", "chaos"])
def test_an_interrupt_ends_the_labelling_with_a_summary_and_130(server: Server, chaos: tuple[str, ...]) -> None:
    process = start("--samples", "all", *chaos, *server.option, "--json")
    with process:
        server.socket.recv(65_536)  # under way
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)

    summary = msgspec.json.decode(out)
    accounts_of(summary)
    assert (process.returncode, err) == (130, "")
    assert summary["interrupted"] is True
    assert summary["adds_up"] is True
    assert 0 < summary["labels"]["submitted"] < 75_200


def test_a_second_interrupt_ends_the_run_without_a_traceback(server: Server, tmp_path: Path) -> None:
    process = start("--samples", "all", "--chaos", "--export", str(tmp_path), *server.option, "--json")
    with process:
        server.socket.recv(65_536)
        process.send_signal(signal.SIGINT)
        # Once the last file is there, the handlers are drained, which the sleeper makes as long as it may be.
        deadline_s = time.monotonic() + PATIENCE_S
        while not (tmp_path / "labels.jsonl.manifest.json").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_the_summary_for_people_is_printed_without_json() -> None:
    done = run("--samples", "5", "--rate", "max", "--train", "2")

    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert any(line.startswith("labels     50 submitted for 5 samples") for line in said)
    assert any(line.endswith("it all adds up") for line in said)
    assert said[-1].startswith("training   2 steps, loss ")


def test_a_live_summary_of_what_arrives_is_printed_meanwhile() -> None:
    with start("--samples", "all", "--rate", "300", "--train", "0") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)

    assert re.fullmatch(
        r"statsd     [\d,]+ lines in [\d,]+ packets so far; anvil\.label\.submit\.count [\d,]+\n", first
    )


def test_an_interrupt_while_it_imports_ends_it_at_once_and_quietly(tmp_path: Path) -> None:
    (tmp_path / "krippendorff.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(60)\n")

    with start(env=os.environ | {"PYTHONPATH": str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_who_has_gone_ends_the_run_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start("--samples", "5", "--rate", "max", "--train", "0", stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bogus"], "got: '--bogus'"),
        (["--samples", "9999"], "expected --samples to be 'all' or at most 7520, the tokens that there are, got: "),
        (["--statsd", "localhost:none"], "expected HOST:PORT"),
        (["--chaos=1"], "expected no value, got: '1'"),
        (["train", "--steps", "0"], "expected a whole number from 1, got: '0'"),
        (["train", "--steps", "few"], "expected a whole number from 1, got: 'few'"),
        (["train", "--seed", "-1"], "expected a whole number from 0, got: '-1'"),
        (["--sink", "--token-env", "NOT_SET"], "expected the environment variable NOT_SET to be set, got: nothing"),
        (["--sink", "--port", "65536"], "expected a port from 0 to 65535, got: '65536'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_and_2(arguments: list[str], sentence: str) -> None:
    done = run(*arguments, code=2)

    assert done.stdout == ""
    assert done.stderr.startswith("python -m app")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_directory_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run("--export", str(tmp_path / "file" / "exports"), code=1)

    assert done.stdout == ""
    assert done.stderr == (
        f"python -m app: expected a directory that exports can be written to, got: '{tmp_path}/file/exports' "
        "(Not a directory). Choose another with --export DIR\n"
    )


def test_the_log_tells_of_crashes_and_nothing_is_said_elsewhere(tmp_path: Path) -> None:
    summary = summary_of("--chaos", "--log", str(tmp_path / "log"), *SMALL)

    assert summary["adds_up"] is True
    assert "Mischief" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = run("--log", str(tmp_path), *SMALL, code=1)

    assert done.stderr.startswith(f"python -m app: expected a log file that can be written, got: '{tmp_path}' (")
    assert done.stderr.count("\n") == 1


def test_a_missing_data_set_is_told_with_the_pip_line() -> None:
    program = "import runpy, sys; sys.modules['vaderSentiment'] = None; runpy.run_module('app', run_name='__main__')"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("python -m app: expected the package vaderSentiment")
    assert done.stderr.endswith("Install it: pip install vaderSentiment\n")


@pytest.mark.parametrize("arguments", [("train", "--steps", "1", "--jsonl"), ("--sink", "--journal")])
def test_a_file_that_cannot_be_written_is_told(arguments: tuple[str, ...], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing" / "file")

    done = run(*arguments, missing, code=1)

    assert done.stderr == (
        f"python -m app: expected a file or directory that can be used, got: {missing!r} (No such file or directory)\n"
    )


def test_help_names_every_option() -> None:
    done = run("--help")

    for option in ("--samples", "--rate", "--statsd", "--export", "--duration", "--abandon", "--chaos", "--json"):
        assert option in done.stdout


@pytest.mark.parametrize("other", ["train", "--sink"])
def test_the_other_programs_have_options_of_their_own(other: str) -> None:
    done = run(other, "--help")
    mistaken = run(other, "--bogus", code=2)

    assert f"usage: python -m app {other}" in done.stdout
    assert mistaken.stderr == (
        f"python -m app {other}: expected options that there are, got: '--bogus'. See python -m app {other} --help\n"
    )


def test_training_runs_alone() -> None:
    done = run("train", "--steps", "1")

    assert done.stderr == ""
    assert done.stdout.startswith("step 1: loss ")


def test_training_alone_is_interrupted_after_a_step_and_says_what_it_has() -> None:
    with start("train", "--steps", "100000", "--batch-size", "8") as process:
        assert process.stdout is not None
        process.stdout.readline()  # it comes at once, also into a pipe
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err) == (130, "")
    told, *rest = out.splitlines()[-3:]
    assert re.fullmatch(r"interrupted after [\d,]+ of 100,000 steps", told)
    assert [line.partition(":")[0] for line in rest] == ["held-out tokens", "events"]


def test_training_whose_reader_has_gone_ends_quietly() -> None:
    with start("train", "--steps", "200", "--batch-size", "8") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()

    assert (process.returncode, err) == (1, "")


def test_interrupted_training_after_the_labelling_still_concludes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ("--samples", "5", "--rate", "max", "--train", "100000", "--log", str(log), "--json")
    with start(*arguments) as process:
        until(lambda: log.exists() and "regularizer_total" in log.read_text())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, err) == (130, "")
    summary = msgspec.json.decode(out)
    assert (summary["interrupted"], summary["adds_up"]) == (True, True)
    assert 0 < summary["training"]["steps"] < 100_000


def test_the_log_has_each_training_step_as_json(tmp_path: Path) -> None:
    run("--samples", "5", "--rate", "max", "--train", "2", "--log", str(tmp_path / "log"), "--json")

    lines = [line.partition(" - ")[2] for line in (tmp_path / "log").read_text().splitlines() if "loss_total" in line]
    assert len([CustomLossOutput.from_json(line) for line in lines]) == 2
