import pytest

from app.labeling.pii import detect


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to ada.l+x@mail.example.org", ("email",)),
        ("123-45-6789", ("ssn",)),
        ("555-123-4567", ("phone",)),
        ("(555) 123-4567", ("phone",)),
        ("+1 555.123.4567", ("phone",)),
        ("4111-1111-1111-1111", ("card",)),
        ("378282246310005", ("card",)),
        ("ada@example.org, 123-45-6789", ("email", "ssn")),
    ],
)
def test_personal_data_are_named_by_kind(text: str, found: tuple[str, ...]) -> None:
    assert detect(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "great",
        ":@",
        "--<--<@",
        "@>-->--",
        "a@b",
        "1234-56-7890",
        "12345",
        "4111-1111-1111-1112",
        "2025-01-01",
        "1" * 25,
    ],
)
def test_what_only_resembles_them_is_left_alone(text: str) -> None:
    assert detect(text) == ()


def test_no_token_of_the_lexicon_is_taken_for_personal_data() -> None:
    from app.labeling import lexicon

    assert [token.text for token in lexicon.load() if detect(token.text)] == []
