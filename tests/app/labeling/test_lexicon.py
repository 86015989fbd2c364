import subprocess
import sys

import pytest

from app.labeling import lexicon


def test_the_lexicon_holds_7520_tokens_of_ten_ratings_from_minus_four_to_four() -> None:
    tokens = lexicon.load()

    # `wc -l` says 7,519: the last line has no newline, and is a token all the same.
    assert (len(tokens), tokens[-1].text) == (7520, "}:-)")
    assert {len(token.ratings) for token in tokens} == {10}
    assert {rating for token in tokens for rating in token.ratings} == set(range(-4, 5))


def test_tokens_come_in_file_order_with_their_line_numbers() -> None:
    tokens = lexicon.load(3)

    assert [(token.line, token.text) for token in tokens] == [(1, "$:"), (2, "%)"), (3, "%-)")]


def test_reading_the_lexicon_does_not_import_its_analyser() -> None:
    program = (
        "import sys; from app.labeling import lexicon; lexicon.load(1);"
        "print('vaderSentiment.vaderSentiment' in sys.modules)"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"


def test_a_missing_package_is_told_with_the_pip_line() -> None:
    program = (
        "import sys; sys.modules['vaderSentiment'] = None  # what an import finds of a package that is not there\n"
        "from app.labeling import lexicon\n"
        "try: lexicon.load()\n"
        "except lexicon.DatasetMissing as missing: print(missing)"
    )

    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert answer.stdout.startswith("expected the package vaderSentiment with its vader_lexicon.txt, got: ")
    assert answer.stdout.endswith(". Install it: pip install vaderSentiment\n")


@pytest.mark.parametrize(
    "line",
    ["token\t1.0\t0.5\t[1, 2]", "token\t1.0\t0.5\t__import__('os')", "token\t[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"],
    ids=["two ratings", "code", "too few columns"],
)
def test_a_line_that_is_not_a_token_with_ten_ratings_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(lexicon.DatasetMissing, match="expected line 7 "):
        lexicon._token(7, line)
