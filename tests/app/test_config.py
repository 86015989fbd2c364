from pathlib import Path

import pytest

from app.config import DEFAULT, Config, StatsdConfig, load
from app.reporting import declare
from reporters import Prometheus
from reporters.aitrace import AITrace
from reporters.foundation import Foundation
from runtime.errors import InvalidValue


def test_the_shipped_file_says_what_holds_without_one() -> None:
    shipped = load()

    assert shipped.telemetry.sampling == {"anvil.agreement.low_score": 1.0, "anvil.auth.access_denied": 1.0}
    assert (shipped.statsd, shipped.prometheus, shipped.foundation, shipped.aitrace) == (
        Config().statsd,
        Config().prometheus,
        Config().foundation,
        Config().aitrace,
    )


def test_what_the_shipped_file_proposes_in_comments_can_be_switched_on(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    lines = DEFAULT.read_text().splitlines()
    proposals = [line.removeprefix("# ") if line.startswith("# ") and " = " in line else line for line in lines]
    file.write_text("\n".join(proposals))

    config = load(file)

    assert config.telemetry.sampling["anvil.label.submit"] == 0.1
    assert config.statsd.address == ("127.0.0.1", 8125)
    assert config.statsd.global_tags == {"env": "development"}
    assert config.foundation.url == config.aitrace.url == "http://127.0.0.1:4319/"
    assert config.aitrace.directory == "var/aitrace"
    assert (config.foundation.token_env, config.aitrace.token_env) == ("FOUNDATION_TOKEN", "AITRACE_TOKEN")
    assert config.foundation.headers_env == {"X-Tenant": "FOUNDATION_TENANT"}


@pytest.mark.parametrize(
    ("name", "meant"), [("anvil.label.sumbit", "anvil.label.submit"), ("anvil.label.submit.stop", "anvil.label.submit")]
)
def test_a_rate_for_what_nobody_emits_as_a_whole_is_refused(tmp_path: Path, name: str, meant: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[telemetry.sampling]\n"{name}" = 0.5')

    with pytest.raises(InvalidValue) as caught:
        load(file)

    assert str(caught.value) == (
        f"{file}: expected a declared event or span prefix at telemetry.sampling, got: '{name}'. Did you mean {meant}?"
    )


def test_an_address_may_be_given_in_part() -> None:
    assert StatsdConfig().address is None
    assert StatsdConfig(host="h").address == ("h", 8125)
    assert StatsdConfig(port=1).address == ("127.0.0.1", 1)


def test_without_configuration_there_is_statsd_alone() -> None:
    made = declare(Config())

    assert made.children() == [made.statsd]
    assert (made.statsd.host, made.statsd.port, made.durable) == ("127.0.0.1", 8125, [])


def test_what_is_configured_is_declared_and_statsd_stops_first(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[statsd]\nhost = "127.0.0.2"\nport = 1\nformatter = "standard"\ninterval_s = 2\n[prometheus]\nenabled = true\n'
        '[foundation]\nurl = "file:f.jsonl"\n[aitrace]\ndirectory = "traces"\n'
    )

    made = declare(load(file), statsd=("127.0.0.3", 2))

    assert [type(child) for child in made.children()][:3] == [AITrace, Foundation, Prometheus]
    assert made.children()[-1] is made.statsd
    assert (made.statsd.host, made.statsd.port, made.statsd.interval_s) == ("127.0.0.3", 2, 2.0)
    assert made.statsd.formatter.name == "standard"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[statsd]\nprefix = "a..b"', "expected prefix to be a name .*, got: 'a..b' .at statsd."),
        ('[foundation]\nurl = "ftp://x"', "expected an http or https URL with a host, got: 'ftp://x' .at foundation."),
        ('[aitrace]\nurl = "x"', "expected an http or https URL with a host, got: 'x' .at aitrace."),
    ],
)
def test_what_a_reporter_does_not_take_is_said_with_its_table(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    config = load(file)

    with pytest.raises(InvalidValue, match=sentence):
        declare(config)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('token_env = "Bearer hunter2"', "expected token_env to be the name of an environment variable"),
        (
            'headers_env = { X-Api-Key = "hunter2" }',
            "expected headers_env.X-Api-Key to be the name of an environment v",
        ),
        ('token_env = "A"\nheaders_env = { authorization = "B" }', "expected either token_env or headers_env.Authoriz"),
        ("token_env = 7", "expected a string at foundation.token_env, got: 7"),
    ],
)
def test_what_is_no_name_of_a_variable_is_refused_and_not_quoted(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[foundation]\nurl = "http://127.0.0.1:1/"\n{text}')

    with pytest.raises(InvalidValue) as caught:
        load(file)

    assert str(caught.value).startswith(f"{file}: {sentence}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("table", ["foundation", "aitrace"])
@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "expected the environment variable ANVIL_TOKEN to be set, got: nothing (at {})"),
        ({"ANVIL_TOKEN": ""}, "expected the environment variable ANVIL_TOKEN to be set, got: nothing (at {})"),
        (
            {"ANVIL_TOKEN": "hunter2\r\nX-Evil: 1"},
            "expected the header Authorization to be ASCII text without CR, LF or control characters, "
            "got: 'another value' (at {})",
        ),
    ],
)
def test_a_variable_that_cannot_be_sent_is_told_with_its_table_and_not_quoted(
    tmp_path: Path, table: str, environ: dict[str, str], sentence: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[{table}]\nurl = "http://127.0.0.1:1/"\ntoken_env = "ANVIL_TOKEN"')

    with pytest.raises(InvalidValue) as caught:
        declare(load(file), environ=environ)

    assert str(caught.value) == sentence.format(table)


def test_a_token_for_a_file_means_nothing_and_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for table in ('[foundation]\nurl = "file:f.jsonl"', '[aitrace]\ndirectory = "traces"'):
        file.write_text(f'{table}\ntoken_env = "ANVIL_TOKEN"')

        with pytest.raises(InvalidValue, match="expected headers"):
            declare(load(file), environ={"ANVIL_TOKEN": "hunter2"})
