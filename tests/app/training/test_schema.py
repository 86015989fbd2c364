"""The published schema files are what the code says, and a published version never changes."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.training.catalogue import SCHEMA_VERSION
from app.training.loop import train
from app.training.outputs import BaseLossOutput, CustomLossOutput, RegularizerOutput
from app.training.schema import schemas, write

PUBLISHED = Path(__file__).parents[3] / "docs" / "schemas"

# Of each file without its prose. Never edit a line: a changed structure gets a new version, new files, new lines here.
DIGESTS = {
    "custom_loss_output.v1.json": "0afa129aca3fc132",
    "regularizer_output.v1.json": "326ada3c9cd26f01",
}


def test_files_in_docs_are_what_the_code_generates() -> None:
    for name, text in schemas().items():
        assert (PUBLISHED / name).read_text(encoding="utf-8") == text, "run: python -m app.training.schema"


def test_writing_again_gives_the_same_files(tmp_path: Path) -> None:
    write(tmp_path)

    assert {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()} == schemas()


@pytest.mark.parametrize("name", sorted(file.name for file in PUBLISHED.glob("*.json")))
def test_published_version_never_changes(name: str) -> None:
    schema = without_prose(json.loads((PUBLISHED / name).read_text(encoding="utf-8")))

    digest = hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]

    assert digest == DIGESTS[name], "a changed structure needs a new catalogue.SCHEMA_VERSION and its own files"


def without_prose(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_prose(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: without_prose(each) for key, each in schema.items() if key not in ("title", "description")}


def test_schema_of_a_custom_loss_allows_and_demands_the_right_keys() -> None:
    schema = json.loads(schemas()["custom_loss_output.v1.json"])["$defs"]["CustomLossOutput"]

    assert schema["required"] == ["loss_total", "regularizers", "regularizer_total"]
    assert {"type": "null"} in schema["properties"]["base_loss"]["anyOf"]
    assert {"type": "null"} in schema["properties"]["total_grad_norm"]["anyOf"]


# -- what the code writes is what the schema says --


def published(name: str, content: bytes) -> list[str]:
    """Say what is wrong with JSON by its published schema, and each key of which that says nothing."""
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(json.loads(content))]


@functools.cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((PUBLISHED / f"{name}.v{SCHEMA_VERSION}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(closed(schema))


def closed(schema: Any) -> Any:
    """Leave no object of a schema open."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    of_objects = {"additionalProperties": False} if schema.get("type") == "object" else {}
    return of_objects | {key: closed(each) for key, each in schema.items()}


@pytest.mark.parametrize("track_grad_norms", [False, True])
def test_output_of_the_training_loop_is_as_published(track_grad_norms: bool) -> None:
    last = train(1, batch_size=16, track_grad_norms=track_grad_norms).last

    assert published("custom_loss_output", last.to_json()) == []


@given(
    st.none() | st.floats(0, 1e100),
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats(-1e100, 1e100) | st.text()),
)
def test_every_output_is_as_published(grad_norm: float | None, custom: dict[str, Any]) -> None:
    term = RegularizerOutput.compute("l1", 2.0, 0.5, custom, grad_norm)
    whole = CustomLossOutput.compose(BaseLossOutput(value=1.0, grad_norm=grad_norm, custom=custom), [term], grad_norm)

    assert published("regularizer_output", term.to_json()) == []
    assert published("custom_loss_output", whole.to_json()) == []
    assert published("custom_loss_output", CustomLossOutput.compose(None, [term]).to_json()) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"loss_total":1,"regularizers":{}}', "$: 'regularizer_total' is a required property"),
        (b'{"loss_total":null,"regularizers":{},"regularizer_total":0}', "$.loss_total: None is not of type 'number'"),
        (b'{"loss_total":1,"regularizers":{},"regularizer_total":0,"more":1}', "$: Additional properties are not"),
        (
            b'{"loss_total":1,"regularizers":{"l1":{}},"regularizer_total":0}',
            "$.regularizers.l1: 'value' is a required",
        ),
        (
            b'{"loss_total":1,"base_loss":{"value":1,"custom":{},"more":1},"regularizers":{},"regularizer_total":0}',
            "$.base_loss: ",
        ),
    ],
)
def test_what_is_not_as_published_is_found(content: bytes, problem: str) -> None:
    assert any(found.startswith(problem) for found in published("custom_loss_output", content))
