from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from runtime.config import TelemetryConfig, load, place
from runtime.errors import InvalidValue


class Door(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str


class Shop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, msgspec.Meta(ge=1)] | None = None
    currency: Literal["EUR", "JPY"] = "EUR"
    labels: dict[str, str | int] = {}
    shelves: list[int] = []
    door: Door | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    telemetry: TelemetryConfig = TelemetryConfig()
    shop: Shop = Shop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_an_empty_file_is_the_defaults(file: Path) -> None:
    file.touch()

    assert load(file, Settings) == Settings()


def test_settings_are_read_with_their_types(file: Path) -> None:
    file.write_text(
        '[telemetry.sampling]\n"anvil.label.submit" = 0.1\n"anvil.agreement.low_score" = 1\n'
        '[shop]\nport = 80\ncurrency = "JPY"\nlabels = { floor = 2, "a.b" = "c" }\nshelves = [1, 2]\ndoor.key = "k"\n'
    )

    assert load(str(file), Settings) == Settings(
        TelemetryConfig({"anvil.label.submit": 0.1, "anvil.agreement.low_score": 1.0}),
        Shop(80, "JPY", {"floor": 2, "a.b": "c"}, [1, 2], Door("k")),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[telemetry.sampling]\n"a.b" = "all"', "expected a number at telemetry.sampling.\"a.b\", got: 'all'"),
        ('[telemetry.sampling]\n"a.b" = true', 'expected a number at telemetry.sampling."a.b", got: True'),
        ('[telemetry.sampling]\n"a.b" = 2', 'expected a number <= 1.0 at telemetry.sampling."a.b", got: 2'),
        ('[telemetry.sampling]\n"a.b" = nan', 'expected a number >= 0.0 at telemetry.sampling."a.b", got: nan'),
        (
            '[telemetry.sampling]\n"x.y" = 1\n"a.b" = -1',
            'expected a number >= 0.0 at telemetry.sampling."a.b", got: -1',
        ),
        (
            "[telemetry.sampling]\na.b = 1",
            "expected a number at telemetry.sampling.a, got: {'b': 1}. Put a name with dots in quotes: \"a.b\" = …",
        ),
        (
            '[telemetry.sampling]\n"a..b" = 1',
            "expected an event name of non-empty segments without dots, spaces or control characters at telemetry, "
            "got: 'a..b'. Write it as 'domain.action.stop'",
        ),
        ("telemetry = 1", "expected a table at telemetry, got: 1"),
        ("[telemetri]", "expected one of telemetry, shop at the top, got: 'telemetri'. Did you mean telemetry?"),
        (
            "[shop]\nprot = 1",
            "expected one of port, currency, labels, shelves, door at shop, got: 'prot'. Did you mean port?",
        ),
        ("[shop]\nx = 1", "expected one of port, currency, labels, shelves, door at shop, got: 'x'"),
        ("[shop]\nport = '1'", "expected a whole number at shop.port, got: '1'"),
        ("[shop]\nport = 0", "expected a whole number >= 1 at shop.port, got: 0"),
        ("[shop]\ncurrency = 'USD'", "expected one of 'EUR', 'JPY' at shop.currency, got: 'USD'"),
        ("[shop]\ncurrency = 1", "expected one of 'EUR', 'JPY' at shop.currency, got: 1"),
        ("[shop]\nlabels.floor = 1.5", "expected a whole number or a string at shop.labels.floor, got: 1.5"),
        ("[shop]\nshelves = [1, 'x']", "expected a whole number at shop.shelves[1], got: 'x'"),
        ("[shop.door]", "expected shop.door.key, got: nothing"),
        ("[shop]\ndoor.key = 'a'\ndoor.kee = 'b'", "expected one of key at shop.door, got: 'kee'. Did you mean key?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(file: Path, text: str, sentence: str) -> None:
    file.write_text(text)

    with pytest.raises(InvalidValue) as caught:
        load(file, Settings)

    assert str(caught.value) == f"{file}: {sentence}"


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"[shop", "expected TOML, got: Expected ']' at the end of a table declaration"),
        (b"a = 1\na = 2", "expected TOML, got: Cannot overwrite a value"),
        (b"x = " + b"[" * 5000, "expected TOML, got: "),
        (b'x = "\xff"', "expected text in UTF-8, got: invalid start byte"),
    ],
    ids=["unfinished", "twice", "too deep", "not UTF-8"],
)
def test_what_is_no_toml_is_said(file: Path, content: bytes, start: str) -> None:
    file.write_bytes(content)

    with pytest.raises(InvalidValue) as caught:
        load(file, Settings)

    assert str(caught.value).startswith(f"{file}: {start}")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    for file, why in ((tmp_path / "none.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidValue) as caught:
            load(file, Settings)

        assert str(caught.value) == f"expected a configuration file that can be read, got: '{file} ({why})'"


def test_a_place_is_written_as_in_the_file() -> None:
    assert place("shop", "labels", "a.b", 3) == 'shop.labels."a.b"[3]'
    assert place("größe", 'a"b', "") == '"größe"."a\\"b".""'


def test_rates_made_in_code_are_checked_as_well() -> None:
    with pytest.raises(InvalidValue, match="expected the sampling rate of a.b to be a number from 0 to 1, got: 2"):
        TelemetryConfig({"a.b": 2})
