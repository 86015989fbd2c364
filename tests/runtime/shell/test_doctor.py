"""What `doctor` makes of what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.shell._doctor import node_checks, own_checks, package_check
from runtime.shell.protocol import NodeId

HOME = Path(runtime.__file__).parents[1]


def health(**more: Any) -> dict[str, Any]:
    packages = {name: str(HOME / name / "__init__.py") for name in ("runtime", "actors", "supervisors", "reporters")}
    known = {"packages": packages, "versions": {"python": "0.0.0"}, "patched": [], "patched_before_import": False}
    return {**known, "socket": "/x.sock", "control": False, "parked": [], **more}


def results(stale_ns: int = 0, **more: Any) -> dict[str, tuple[str, str]]:
    checks = node_checks(NodeId("demo", 1, stale_ns), health(**more))
    return {one.check: (one.result, one.found + one.fix) for one in checks}


def test_own_packages_are_in_order() -> None:
    found = {one.check: one.result for one in own_checks(HOME, [str(HOME)])}

    assert [found[f"package {name}"] for name in ("runtime", "actors", "supervisors", "reporters")] == ["ok"] * 4
    assert found["python"] == "ok"


@pytest.mark.parametrize("as_package", [True, False])
def test_foreign_package_further_down_the_path_is_a_warning(tmp_path: Path, as_package: bool) -> None:
    foreign = tmp_path / "runtime" / "__init__.py" if as_package else tmp_path / "runtime.py"
    foreign.parent.mkdir(exist_ok=True)
    foreign.touch()

    check = package_check("runtime", HOME, [str(HOME), str(tmp_path)])

    assert check.result == "warn"
    assert str(foreign) in check.found


def test_foreign_package_that_was_imported_is_a_failure(tmp_path: Path) -> None:
    check = package_check("runtime", tmp_path, [str(HOME)])

    assert check.result == "fail"
    assert str(HOME) in check.found
    assert str(tmp_path) in check.fix


def test_nodes_foreign_package_is_a_failure(tmp_path: Path) -> None:
    packages = {"runtime": str(HOME / "runtime" / "__init__.py"), "actors": str(tmp_path / "actors" / "__init__.py")}

    assert results(packages=packages)["node's package actors"][0] == "fail"
    assert results()["node's packages"][0] == "ok"


@pytest.mark.parametrize(
    ("patched", "before", "result"),
    [
        ([], False, "ok"),
        (["threading", "socket", "time"], True, "ok"),
        (["threading", "socket", "time"], False, "warn"),
        (["socket"], True, "warn"),
    ],
)
def test_patches_are_judged_by_order_and_completeness(patched: list[str], before: bool, result: str) -> None:
    found = results(patched=patched, patched_before_import=before)["monkey-patching"]

    assert found[0] == result
    assert ("patch_all" in found[1]) == (result == "warn")


def test_parked_handler_and_blocked_hub_are_failures_with_a_fix() -> None:
    found = results(stale_ns=5_000_000_000, parked=["audit"])

    assert found["handler"][0] == found["node"][0] == "fail"
    assert "reattach audit" in found["handler"][1]
    assert "5 s" in found["node"][1]


def test_other_python_of_the_node_is_a_warning() -> None:
    assert results()["node's python"][0] == "warn"
