"""The loop that trains on the lexicon: it learns, it reports each step, and the same seed gives the same run."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from app.training import cli
from app.training.loop import REGULARIZERS, train, train_until_interrupted
from app.training.outputs import CustomLossOutput
from app.training.regularizers import Regularizer, RegularizerError
from runtime.errors import InvalidValue
from tests.app.training.conftest import Captured


def test_model_learns_to_tell_positive_from_negative_tokens() -> None:
    training = train(40, track_grad_norms=False)

    assert training.correlation > 0.5
    assert training.mean_absolute_error < 0.8 * training.untrained_error


def test_each_step_emits_its_events_and_logs_one_output(captured: Captured) -> None:
    seen: list[tuple[int, CustomLossOutput]] = []
    lines: list[Any] = []
    logger.enable("app.training")
    sink = logger.add(lambda message: lines.append(message.record), level="INFO")
    try:
        training = train(3, batch_size=32, model_id="m1", on_step=lambda *step: seen.append(step))
    finally:
        logger.remove(sink)
        logger.disable("app.training")

    assert [step for step, _ in seen] == [1, 2, 3]
    assert training.last == seen[-1][1]
    assert [CustomLossOutput.from_json(line["message"]) for line in lines] == [output for _, output in seen]
    assert [line["extra"] for line in lines] == [{"model_id": "m1", "step": step} for step in (1, 2, 3)]
    steps = captured.of("tinkex.training.step.stop", model_id="m1")
    assert [event.metadata["step"] for event in steps] == [1, 2, 3]
    losses = captured.of("tinkex.custom_loss.stop", model_id="m1", data_count=32, regularizer_count=3)
    assert [event.measurements["loss_total"] for event in losses] == [output.loss_total for _, output in seen]
    assert len(captured.of("tinkex.regularizer.compute.stop", regularizer_name="entropy")) == 3
    assert captured.is_balanced()


def test_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, second, other = train(3, batch_size=32), train(3, batch_size=32), train(3, batch_size=32, seed=1)

    assert first == second
    assert first.last != other.last


def test_parallel_regularizers_give_the_same_run() -> None:
    assert train(3, batch_size=32, parallel=True) == train(3, batch_size=32)


def test_untracked_run_reports_no_gradients() -> None:
    last = train(1, batch_size=32, track_grad_norms=False).last

    assert last.total_grad_norm is None
    assert {each.grad_norm for each in last.regularizers.values()} == {None}


def test_heavier_weights_make_smaller_parameters() -> None:
    heavy = [Regularizer(each.fn, 100 * each.weight, each.name) for each in REGULARIZERS]

    assert train(8, regularizers=heavy).last.regularizers["l2"].value < train(8).last.regularizers["l2"].value


def test_regularizers_of_a_generator_are_those_of_every_step() -> None:
    assert train(2, batch_size=32, regularizers=(each for each in REGULARIZERS)) == train(2, batch_size=32)


def test_regularizer_may_be_async_and_return_no_metrics() -> None:
    async def plain(data: object, x: Any) -> Any:
        return (x**2).sum()

    awaited = train(2, batch_size=32, regularizers=[Regularizer(plain, 0.1, "l2", async_=True)])

    assert awaited.last.regularizers["l2"].grad_norm is not None
    assert awaited.last.total_grad_norm is not None


def test_failing_regularizer_ends_the_run_with_every_span_closed(captured: Captured) -> None:
    def boom(data: object, x: Any) -> Any:
        raise OSError("boom")

    with pytest.raises(RegularizerError, match="regularizer 'boom'"):
        train(3, batch_size=32, regularizers=[Regularizer(boom, 1.0, "boom")])

    assert len(captured.of("tinkex.training.step.exception")) == 1
    assert captured.is_balanced()


@pytest.mark.parametrize(("option", "count"), [("steps", 0), ("steps", 1.5), ("batch_size", -1), ("batch_size", True)])
def test_counts_must_be_whole_and_positive(option: str, count: Any) -> None:
    with pytest.raises(InvalidValue, match=f"expected {option} to be a whole number >= 1, got: {count}"):
        train(**{option: count})


# -- the command line --


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args(words)


def test_command_prints_steps_and_result_on_stdout_only(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(options("--steps", "2", "--batch-size", "32")) == 0

    out, err = capfd.readouterr()
    assert [line.partition(":")[0] for line in out.splitlines()] == ["step 1", "step 2", "held-out tokens", "events"]
    assert err == ""


@pytest.mark.parametrize("how", [(), ("--parallel",)])
def test_lines_say_what_the_events_say(how: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "steps.jsonl"

    cli.run(options("--steps", "2", "--batch-size", "32", "--jsonl", str(file), *how))

    line = capfd.readouterr().out.splitlines()[1]
    last = CustomLossOutput.from_json(file.read_text().splitlines()[1])
    assert last.base_loss is not None
    terms = " + ".join(f"{name} {each.contribution:.4f}" for name, each in sorted(last.regularizers.items()))
    assert line.startswith(
        f"step 2: loss {last.loss_total:.4f} = base {last.base_loss.value:.4f} + {terms}, "
        f"gradient {last.total_grad_norm:.4f}, "
    )


def test_result_as_json_is_all_that_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(options("--steps", "2", "--batch-size", "32", "--json")) == 0

    result = json.loads(capfd.readouterr().out)
    expected = train(2, batch_size=32)
    assert result["steps"] == 2
    assert result["interrupted"] is False
    assert result["last"] == json.loads(expected.last.to_json())
    assert result["mean_absolute_error"] == expected.mean_absolute_error
    assert result["events"]["emitted"] == result["events"]["handled"] == 10


def test_metrics_are_sent_where_they_are_wanted(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)

        cli.run(options("--steps", "1", "--batch-size", "8", "--statsd", f"127.0.0.1:{server.getsockname()[1]}"))

        address = f"127.0.0.1:{server.getsockname()[1]}"
        sent = server.recv(65_535).decode().split("\n")
    assert any(line.startswith("tinkex.custom_loss.loss_total:") for line in sent)
    assert re.search(rf"statsd: \d+ lines in \d+ packets to {address}\n$", capfd.readouterr().out)


def test_metrics_that_nobody_takes_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"

    cli.run(options("--steps", "1", "--batch-size", "8", "--statsd", address))

    assert re.search(rf"statsd: .* to {address}; \d+ sends failed: ", capfd.readouterr().out)


def test_stopped_run_concludes_with_the_steps_it_has_made(captured: Captured) -> None:
    seen: list[int] = []

    stopped = train(9, batch_size=32, on_step=lambda step, _: seen.append(step), stop=lambda: len(seen) == 2)

    assert seen == [1, 2]
    assert stopped.steps == 2
    assert stopped.last == train(2, batch_size=32).last
    assert captured.is_balanced()


def test_interrupt_ends_the_run_after_the_step_in_hand(captured: Captured) -> None:
    def interrupt(step: int, output: CustomLossOutput) -> None:
        if step == 2:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    stopped = train_until_interrupted(100_000, batch_size=8, on_step=interrupt)

    assert 2 <= stopped.steps < 100_000
    assert len(captured.of("tinkex.training.step.stop")) == stopped.steps
    assert captured.of("tinkex.training.step.exception") == []
    assert captured.is_balanced()


def test_error_of_a_step_comes_through_the_thread() -> None:
    with pytest.raises(InvalidValue, match="expected steps to be a whole number >= 1, got: 0"):
        train_until_interrupted(0)


def test_long_run_prints_some_twenty_lines(capfd: pytest.CaptureFixture[str]) -> None:
    cli.run(options("--steps", "41", "--batch-size", "8", "--no-grad-norms"))

    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["step 1", "step 3"]
    assert len(lines) == 17
    assert lines[-3].startswith("step 41: ")
    assert "gradient" not in lines[-3]
    assert lines[-1] == "events: 205 emitted = 205 handled + 0 dropped"


def test_each_step_becomes_a_line_of_json(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"

    cli.run(options("--steps", "2", "--batch-size", "32", "--parallel", "--jsonl", str(file)))

    lines = file.read_text().splitlines()
    assert [json.loads(line)["regularizers"].keys() for line in lines] == [{"l1", "l2", "entropy"}] * 2


@pytest.mark.parametrize(
    "words", [("--steps", "0"), ("--steps", "x"), ("--steps", "1e3"), ("--steps", "9" * 5000), ("--batch-size", "-1")]
)
def test_bad_options_are_refused(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(*words)

    said = capsys.readouterr().err
    assert f"argument {words[0]}: expected a whole number from 1, got: " in said
    assert len(said) < 1000
