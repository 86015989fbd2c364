"""Every program in `examples/` runs as a user would run it, says what it should, and says nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAMS = {
    "quickstart.py": """\
anvil.label.submit.stop in queue q1: 0 validation errors
""",
    "crashing_handler.py": """\
brittle handled 1
brittle handled 3
neighbour handled [1, 2, 3]
brittle failed on shop.order.placed: ValueError('two is too much')
kept among the dead letters: {'amount': 2}
""",
    "regularizer_logger.py": """\
DEBUG   Regularizer l1: value=4.000 contribution=0.500
DEBUG   Regularizer l2: value=5.500 contribution=0.344
INFO    Custom loss: total=1.844 regs=2 duration=<some>ms
""",
    "supervised_worker.py": """\
paid in: 5 12
the asker is told: expected a payment, got: -1
till is another actor: True
paid in: 3
""",
}


def test_every_example_is_listed_here() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_says_what_it_should_and_nothing_else(name: str, tmp_path: Path) -> None:
    # Elsewhere than in the checkout, with every warning an error, as careful users have it.
    command = [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "examples" / name)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    said = re.sub(r"duration=\d+ms", "duration=<some>ms", done.stdout)
    assert (said, done.stderr, done.returncode) == (PROGRAMS[name], "", 0)
    assert list(tmp_path.iterdir()) == []
