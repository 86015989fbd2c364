from concurrent.futures import ThreadPoolExecutor

import pytest

from actors import whereis
from app import job
from app.options import parse
from app.screen import Screen
from runtime.errors import BeamstalkError
from runtime.testing import Capture
from tests.runtime.meeting import PATIENCE_S


def test_a_run_whose_tree_gives_up_fails_and_says_so(emitted: Capture) -> None:
    options = parse(["--samples", "all", "--rate", "100", "--train", "0"])
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(job.run, options, Screen(quiet=True))
        emitted.wait_for("anvil.label.submit.stop", timeout_s=PATIENCE_S)
        top = whereis("anvil")
        assert top is not None
        top.kill()

        with pytest.raises(BeamstalkError, match="expected the application to run to the end, got: its tree gave up"):
            running.result(timeout=PATIENCE_S)
