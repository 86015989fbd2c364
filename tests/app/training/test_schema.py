"""The published schema files are what the code says, and a published version never changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def problems(content: Any, schema: Any, root: Any, at: str = "$") -> list[str]:
    """Check JSON against the part of JSON Schema that our files use, and refuse to overlook any other part."""
    known = {"$schema", "$id", "$defs", "$ref", "title", "description", "default", "anyOf", "type", "properties"}
    assert schema.keys() <= known | {"additionalProperties", "required"}, "the schema says more than is checked here"
    if "$ref" in schema:
        return problems(content, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    if "anyOf" in schema:
        found = [problems(content, each, root, at) for each in schema["anyOf"]]
        return [] if [] in found else [problem for each in found for problem in each]
    kind = {dict: "object", str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}.get(
        type(content)
    )
    if kind != schema["type"] and (kind, schema["type"]) != ("integer", "number"):
        return [f"{at} is {kind}, not {schema['type']}"]
    if kind != "object":
        return []
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    wrong = [f"{at} has no {name}" for name in schema.get("required", []) if name not in content]
    for name, value in content.items():
        if name in properties:
            wrong += problems(value, properties[name], root, f"{at}.{name}")
        elif others is None:
            wrong.append(f"{at} has {name}, of which the schema says nothing")
        else:
            wrong += problems(value, others, root, f"{at}.{name}")
    return wrong


def published(name: str, content: bytes) -> list[str]:
    schema = json.loads((PUBLISHED / f"{name}.v{SCHEMA_VERSION}.json").read_text(encoding="utf-8"))
    return problems(json.loads(content), schema, schema)


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
        (b'{"loss_total":1,"regularizers":{}}', "$ has no regularizer_total"),
        (b'{"loss_total":null,"regularizers":{},"regularizer_total":0}', "$.loss_total is null, not number"),
        (b'{"loss_total":1,"regularizers":{},"regularizer_total":0,"more":1}', "$ has more, of which"),
        (b'{"loss_total":1,"regularizers":{"l1":{}},"regularizer_total":0}', "$.regularizers.l1 has no value"),
    ],
)
def test_what_is_not_as_published_is_found(content: bytes, problem: str) -> None:
    assert any(problem in found for found in published("custom_loss_output", content))
