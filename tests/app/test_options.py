import socket
from pathlib import Path

import pytest

from app.options import Options, parse


def test_the_defaults_label_a_thousand_samples_at_five_hundred_a_second() -> None:
    assert parse([]) == Options(
        samples=1000,
        rate=500.0,
        statsd=None,
        export=None,
        duration_s=None,
        abandon=0.002,
        chaos=False,
        json=False,
        log=None,
        train=3,
    )


def test_every_option_is_read() -> None:
    numbers = "--samples 7 --rate 2.5 --duration 3 --abandon 0.5 --train 0"
    others = "--statsd 127.0.0.1:8125 --export out --log l --config c --chaos --json"

    assert parse(f"{numbers} {others}".split()) == Options(
        samples=7,
        rate=2.5,
        statsd=("127.0.0.1", 8125),
        export=Path("out"),
        duration_s=3.0,
        abandon=0.5,
        chaos=True,
        json=True,
        log=Path("l"),
        train=0,
        config=Path("c"),
    )


def test_all_and_max_have_no_bound() -> None:
    options = parse(["--samples", "all", "--rate", "max"])

    assert (options.samples, options.rate) == (None, None)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6 to look an IPv6 address up")
def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert parse(["--statsd", "[::1]:8125"]).statsd == ("::1", 8125)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bogus"], "expected one of --help, --samples, --rate,"),
        (["--sample", "5"], "got: '--sample'. Did you mean --samples?"),
        (["more"], "got: 'more'"),
        (["--samples"], "argument --samples: expected a value, got: nothing."),
        (["--samples", "0"], "expected a number of samples from 1, or 'all', got: '0'."),
        (["--samples", "1.5"], "got: '1.5'."),
        (["--samples", "²"], "got: '²'."),
        (["--rate", "0"], "expected labels per second above 0, or 'max', got: '0'."),
        (["--rate", "fast"], "got: 'fast'."),
        (["--rate", "nan"], "got: 'nan'."),
        (["--rate", "inf"], "got: 'inf'."),
        (["--statsd", "localhost"], "expected HOST:PORT with a port from 1 to 65535, got: 'localhost'."),
        (["--statsd", "localhost:0"], "got: 'localhost:0'."),
        (["--statsd", "localhost:65536"], "got: 'localhost:65536'."),
        (["--statsd", "localhost:http"], "got: 'localhost:http'."),
        (["--statsd", ":8125"], "got: ':8125'."),
        (["--statsd", "no such host:8125"], "expected a host that can be found, got: 'no such host' ("),
        (["--statsd", f"{'x' * 64}.example:8125"], "expected a host that can be found, got: 'xxx"),
        (["--duration", "-1"], "expected a number of seconds above 0, got: '-1'."),
        (["--abandon", "1"], "expected a share from 0 to below 1, got: '1'."),
        (["--train", "-1"], "expected a number of steps from 0, got: '-1'."),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)

    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert said.err.startswith("python -m app: ")
    assert sentence in said.err
    assert said.err.endswith(" See python -m app --help\n")
    assert said.err.count("\n") == 1
