"""kill -9 at random moments: what was committed arrives, nothing else does, and once is once.

Twenty rounds are part of the suite; `make soak` runs five hundred of each kind. A failing run says its seed.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.soak.proving import Proof


def assert_kept(proof: Proof, drained: tuple[bool, int, int]) -> None:
    balanced, dead_letters, _ = drained
    verdict = proof.verdict()
    print(f"seed {proof.seed}: {verdict._replace(refused=verdict.refused[:3], faults=[])}, drained: {drained}")
    assert verdict.faults == [], f"seed {proof.seed}"
    assert verdict.refused == [], f"seed {proof.seed}"
    assert (balanced, dead_letters) == (True, 0)
    assert verdict.committed > 0


def prove(directory: Path, rounds: int, fail: float) -> None:
    """Kill the victim so many times while the endpoint is there, well or failing."""
    proof = Proof(directory, fail=fail)
    with proof.endpoint() as url:
        for number in range(rounds):
            proof.kill_one(url, number)
        drained = proof.drain(url)
    assert_kept(proof, drained)


def prove_absent(directory: Path, rounds: int) -> None:
    """Kill the victim so many times while the endpoint comes and goes; it is there at the end."""
    proof = Proof(directory)
    numbers = iter(range(rounds))
    for number in numbers:
        with proof.endpoint() as url:
            proof.kill_one(url, number)
        for another in islice(numbers, proof.random.randrange(4)):
            proof.kill_one(url, another)
    with proof.endpoint() as url:
        drained = proof.drain(url)
    assert_kept(proof, drained)


KINDS = pytest.mark.parametrize("fail", [0.0, 0.7], ids=["endpoint well", "endpoint failing 70 %"])


@KINDS
def test_everything_committed_survives_twenty_kills(tmp_path: Path, fail: float) -> None:
    prove(tmp_path, 20, fail)


@pytest.mark.soak
@KINDS
def test_everything_committed_survives_five_hundred_kills(tmp_path: Path, fail: float) -> None:
    prove(tmp_path, 500, fail)


@pytest.mark.soak
def test_everything_committed_survives_five_hundred_kills_while_the_endpoint_comes_and_goes(tmp_path: Path) -> None:
    prove_absent(tmp_path, 500)
