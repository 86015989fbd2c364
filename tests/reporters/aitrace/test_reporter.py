"""The AITrace reporter in a running application, with real files and a real endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tenacity

import runtime
from reporters.aitrace import AITrace, Artifact, Edge, Evidence, LineageBatch, LineageEvent, check_pair
from reporters.aitrace._files import LineageFiles, TraceFiles
from reporters.aitrace._lineage import lineage_events, read_manifest
from reporters.delivery import Batching, RetryPolicy, Verdict
from runtime.errors import InvalidValue, NotCommitted
from runtime.testing import Capture, capture_events
from supervisors import Application
from tests.reporters.aitrace.test_lineage import MANIFEST, NOON
from tests.reporters.delivery.endpoint import answer, endpoint
from tests.runtime.meeting import until


@pytest.fixture
def aitrace(tmp_path: Path) -> Callable[..., AITrace]:
    """Declare a reporter that writes below the test's directory."""
    return lambda **options: AITrace(
        **{
            "dir": tmp_path / "aitrace",
            "spool": tmp_path / "spool",
            "batching": Batching(max_age_s=0.01),
            "retry": RetryPolicy(wait=tenacity.wait_fixed(0.01)),
            **options,
        }
    )


def export(tmp_path: Path, export_id: str, *, manifest: bool = True, **extra: Any) -> None:
    """Do what an export does: a file, a manifest beside it, a span with progress in it."""
    path = tmp_path / f"{export_id}.csv"
    about = {"export_id": export_id, "queue_id": "queue-1", "format": "csv"}
    with runtime.span("anvil.export.generate", about) as span:
        path.write_bytes(b"a,b\n1,2\n")
        runtime.execute("anvil.export.progress", {"rows_processed": 1}, {"export_id": export_id, "progress_pct": 100.0})
        if manifest:
            content = {**MANIFEST, "export_id": export_id, "output_path": str(path)}
            Path(f"{path}.manifest.json").write_bytes(msgspec.json.encode(content))
        span.metadata.update(output_path=str(path), file_size_bytes=8, **extra)


def registered(captured: Capture, number: int = 1) -> list[runtime.Event]:
    return captured.wait_for("aitrace.artifact.registered", number, 30)


def test_an_export_is_registered_in_files_that_validate(aitrace: Callable[..., AITrace], tmp_path: Path) -> None:
    with capture_events("aitrace.*") as captured, Application("shop", children=[aitrace()]).running():
        export(tmp_path, "e1")
        told = registered(captured)

    files = sorted((tmp_path / "aitrace" / "lineage").iterdir())
    events = [msgspec.json.decode(file.read_bytes(), type=LineageEvent) for file in files]
    assert {file.name for file in files} == {f"{event.id}.json" for event in events}
    assert sorted(type(event.payload).__name__ for event in events) == ["Artifact", "Edge", "Edge"]
    (artifact,) = (event.payload for event in events if isinstance(event.payload, Artifact))
    edges = [event.payload for event in events if isinstance(event.payload, Edge)]
    assert {edge.target_id for edge in edges} == {artifact.id}
    assert artifact.size_bytes == 8
    assert told[0].metadata == {"artifact_id": str(artifact.id), "export_id": "e1", "name": "anvil_export_e1"}
    (created,) = captured.of("aitrace.artifact.created")
    assert (created.metadata["type"], created.metadata["name"]) == ("dataset", "anvil_export_e1")


def test_registering_the_same_export_again_leaves_one(aitrace: Callable[..., AITrace], tmp_path: Path) -> None:
    with capture_events("aitrace.*") as captured, Application("shop", children=[aitrace()]).running():
        export(tmp_path, "e1")
        registered(captured)
        before = {path: path.read_bytes() for path in (tmp_path / "aitrace" / "lineage").iterdir()}

        export(tmp_path, "e1")
        registered(captured, 2)

    assert {path: path.read_bytes() for path in (tmp_path / "aitrace" / "lineage").iterdir()} == before
    assert len(before) == 3


def test_a_trace_is_a_pair_of_files_that_agree_by_name_hash_and_size(
    aitrace: Callable[..., AITrace], tmp_path: Path
) -> None:
    declared = aitrace(release_manifest_ref="release:1", evidence_owner_ref="owner:1")
    with Application("shop", children=[declared]).running():
        export(tmp_path, "e1", trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
        until(lambda: list((tmp_path / "aitrace" / "traces").glob("*.evidence.json")))

    receipt, path = sorted((tmp_path / "aitrace" / "traces").iterdir())
    evidence = msgspec.json.decode(receipt.read_bytes(), type=Evidence)
    content = path.read_bytes()
    assert path.name == evidence.trace_artifact_ref
    assert path.name.removesuffix(".json").startswith("4bf92f3577b34da6a3ce929d0e0e4736_")
    assert receipt.name == path.name.replace(".json", ".evidence.json")
    assert evidence.trace_artifact_sha256 == hashlib.sha256(content).hexdigest()
    assert evidence.trace_artifact_bytes == len(content)
    assert (evidence.release_manifest_ref, evidence.evidence_owner_ref) == ("release:1", "owner:1")
    trace = check_pair(path)
    assert [(span.name, span.status, len(span.events)) for span in trace.spans] == [("anvil.export.generate", "ok", 1)]
    assert sorted(msgspec.json.decode(content)) == ["created_at", "metadata", "spans", "trace_id"]


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_pair_that_does_not_agree_is_found_out(
    aitrace: Callable[..., AITrace], tmp_path: Path, damage: bytes | None
) -> None:
    with Application("shop", children=[aitrace()]).running():
        export(tmp_path, "e1")
        until(lambda: list((tmp_path / "aitrace" / "traces").glob("*.evidence.json")))
    (path,) = (one for one in (tmp_path / "aitrace" / "traces").iterdir() if ".evidence." not in one.name)
    check_pair(path)

    path.write_bytes(path.read_bytes().replace(b'"ok"', b'"error"') if damage is None else damage)

    with pytest.raises((ValueError, msgspec.DecodeError)):
        check_pair(path)


def test_lineage_goes_to_an_endpoint_in_valid_batches(aitrace: Callable[..., AITrace], tmp_path: Path) -> None:
    with endpoint(answer(503), answer(202)) as there, capture_events("aitrace.*") as captured:
        with Application("shop", children=[aitrace(url=there.url)]).running():
            export(tmp_path, "e1")
            told = registered(captured)

    batches = [msgspec.json.decode(request.unpacked(), type=LineageBatch) for request in there.requests]
    assert [len(batch.events) for batch in batches] == [3, 3]
    assert batches[0].events == batches[1].events
    assert told[0].measurements == {"attempts": 2}


def test_a_registration_that_is_refused_for_good_is_told(aitrace: Callable[..., AITrace], tmp_path: Path) -> None:
    with endpoint(answer(422, b"no such tenant")) as there, capture_events("aitrace.*") as captured:
        with Application("shop", children=[aitrace(url=there.url)]).running():
            export(tmp_path, "e1")
            (failed,) = captured.wait_for("aitrace.artifact.failed", 1, 30)

    assert (failed.metadata["export_id"], failed.metadata["kind"]) == ("e1", "rejected")
    assert failed.metadata["reason"] == "422 Said: no such tenant"


def test_an_export_without_a_manifest_is_traced_and_not_registered(
    aitrace: Callable[..., AITrace], tmp_path: Path
) -> None:
    declared = aitrace()
    with capture_events("aitrace.*") as captured, Application("shop", children=[declared]).running():
        export(tmp_path, "e1", manifest=False)
        until(lambda: list((tmp_path / "aitrace" / "traces").glob("*.evidence.json")))

    assert captured.events == []
    assert declared.statistics().skipped == {"no_manifest": 1}


def test_a_bad_manifest_is_told_with_the_reason(aitrace: Callable[..., AITrace], tmp_path: Path) -> None:
    declared = aitrace()
    with capture_events("aitrace.*") as captured, Application("shop", children=[declared]).running():
        export(tmp_path, "e1", manifest=False, sha256_hash="short", row_count=1, schema_version_id="v1")
        (failed,) = captured.wait_for("aitrace.artifact.failed", 1, 30)

    assert "sha256_hash" in failed.metadata["reason"]
    assert declared.statistics().skipped == {"bad_manifest": 1}


def test_the_event_itself_may_hold_what_a_manifest_says(aitrace: Callable[..., AITrace], tmp_path: Path) -> None:
    with capture_events("aitrace.*") as captured, Application("shop", children=[aitrace()]).running():
        export(tmp_path, "e1", manifest=False, sha256_hash="ab" * 32, row_count=1, schema_version_id="v1")

        assert registered(captured)[0].metadata["export_id"] == "e1"


def test_a_registration_can_be_committed(aitrace: Callable[..., AITrace]) -> None:
    declared = aitrace()
    with Application("shop", children=[declared]).running():
        runtime.commit("anvil.export.generate.stop", {"duration": 1}, {"export_id": "3f0c", "manifest": MANIFEST})
        told = declared.statistics().outbox.spool
        with pytest.raises(NotCommitted, match="it has no manifest"):
            runtime.commit("anvil.export.generate.stop", {"duration": 1}, {"export_id": "3f0c"})

    assert told is not None
    assert told.classes["lineage"].committed == 1


@pytest.mark.parametrize("transport", [LineageFiles, TraceFiles])
def test_a_disk_that_cannot_be_written_is_tried_again_later(transport: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    head = b'{"batch_id": "b", "source": "s", "sent_at": "2026-01-02T03:04:05Z", "events": '
    events = msgspec.json.encode(lineage_events(read_manifest(MANIFEST), {}, NOON))
    body = head + events + b"}" if transport is LineageFiles else b"[]"

    told = transport(tmp_path / "file" / "below").send(body, "b")

    assert told.verdict is Verdict.RETRY


def test_misuse_is_an_error_at_the_call() -> None:
    with pytest.raises(InvalidValue, match="expected dir to be a path, got: 7"):
        AITrace(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="expected an http or https URL"):
        AITrace(url="aitrace.example")
