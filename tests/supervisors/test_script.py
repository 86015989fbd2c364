"""The script runner, as an outside checker calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def child(child_id: str, **changes: Any) -> dict[str, Any]:
    fields = {"restart": "permanent", "shutdown": 5000, "type": "worker", "significant": False, "starts": ["ok"]}
    return {"id": child_id, **fields, **changes}


def script(name: str, children: list[dict[str, Any]], ops: list[Any], **changes: Any) -> dict[str, Any]:
    flags = {"strategy": "one_for_one", "max_restarts": 3, "max_seconds": 5, "auto_shutdown": "never"}
    return {"name": name, **flags, "children": children, "ops": ops, **changes}


def run(tmp_path: Path, *scripts: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the runner as a program of its own and return its lines."""
    path = tmp_path / "scripts.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in scripts), "utf-8")
    command = [sys.executable, "-m", "tests.supervisors.script", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_line_has_exactly_the_fields_of_the_format(tmp_path: Path) -> None:
    (line,) = run(tmp_path, script("one", [child("a"), child("s", type="supervisor")], []))

    assert line == {
        "name": "one",
        "op": 0,
        "result": "ok",
        "alive": True,
        "exit": None,
        "children": [["a", "running"], ["s", "running"]],
        "counts": [2, 2, 1, 1],
        "log": ["start:a", "start:s"],
    }


OPS: list[tuple[Any, str, list[str]]] = [
    (["exit", "a", "boom"], "ok", ["start:a"]),
    (["kill", "a"], "ok", ["start:a"]),
    (["exit", "t", "normal"], "ok", []),
    (["exit", "t", "boom"], "none", []),
    (["kill", "nobody"], "none", []),
    (["start_child", child("a")], "error:already_started", []),
    (["start_child", child("t")], "error:already_present", []),
    (["start_child", child("b", starts=["ignore", "ok"])], "ok:ignored", ["ignore:b"]),
    (["restart_child", "b"], "ok", ["start:b"]),
    (["restart_child", "b"], "error:running", []),
    (["delete_child", "b"], "error:running", []),
    (["terminate_child", "b"], "ok", ["stop:b"]),
    (["terminate_child", "b"], "ok", []),
    (["delete_child", "b"], "ok", []),
    (["delete_child", "b"], "error:not_found", []),
    (["restart_child", "b"], "error:not_found", []),
    (["terminate_child", "b"], "error:not_found", []),
    (["start_child", child("c", starts=["error"])], "error:start_failed", ["fail:c"]),
    (["exit", "t", ["shutdown", "x"]], "none", []),
    (["parent_exit", ["shutdown", "x"]], "ok", ["stop:a"]),
]


def test_every_operation_has_its_result_and_its_log(tmp_path: Path) -> None:
    children = [child("a"), child("t", restart="transient")]

    lines = run(tmp_path, script("all", children, [op for op, _, _ in OPS] + [["kill", "a"]]))

    assert [(line["result"], line["log"]) for line in lines[1:]] == [(result, log) for _, result, log in OPS]
    assert [line["op"] for line in lines] == list(range(len(OPS) + 1))
    last = lines[-1]
    assert (last["alive"], last["exit"], last["children"], last["counts"]) == (False, ["shutdown", "x"], [], [])


def test_the_nth_start_of_an_id_has_the_nth_outcome_and_the_last_repeats(tmp_path: Path) -> None:
    outcomes = child("a", starts=["ok", "error", "error", "ok"])

    lines = run(tmp_path, script("nth", [outcomes], [["exit", "a", "boom"], ["exit", "a", "boom"]], max_restarts=4))

    assert [line["log"] for line in lines] == [["start:a"], ["fail:a", "fail:a", "start:a"], ["start:a"]]


@pytest.mark.parametrize(
    "children",
    [
        [child("a"), child("b", starts=["error"])],
        [child("a", significant=True, restart="transient")],
        [child("a"), child("a")],
    ],
)
def test_a_supervisor_that_does_not_start_is_one_line_with_start_failed(
    tmp_path: Path, children: list[dict[str, Any]]
) -> None:
    (line,) = run(tmp_path, script("no", children, [["kill", "a"]]))

    assert (line["result"], line["alive"], line["exit"]) == ("error:start_failed", False, "start_failed")
    assert (line["children"], line["counts"]) == ([], [])


def test_a_supervisor_that_gives_up_ends_its_script_and_the_next_one_goes_on(tmp_path: Path) -> None:
    first = script("first", [child("a"), child("b")], [["kill", "a"], ["kill", "b"]], max_restarts=0)

    lines = run(tmp_path, first, script("second", [], []))

    assert [(line["name"], line["op"], line["exit"], line["log"]) for line in lines] == [
        ("first", 0, None, ["start:a", "start:b"]),
        ("first", 1, "shutdown", ["stop:b"]),
        ("second", 0, None, []),
    ]
