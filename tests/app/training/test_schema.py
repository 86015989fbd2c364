"""The published schema files are what the code says, and a published version never changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from app.training.schema import schemas, write

PUBLISHED = Path(__file__).parents[3] / "docs" / "schemas"

# Of each file without its prose. Never edit a line: a changed structure gets a new version, new files, new lines here.
DIGESTS = {
    "custom_loss_output.v1.json": "0afa129aca3fc132",
    "regularizer_output.v1.json": "326ada3c9cd26f01",
}


def test_files_in_docs_are_what_the_code_generates() -> None:
    for name, text in schemas().items():
        assert (PUBLISHED / name).read_text(encoding="utf-8") == text, "run: python -m app.training.schema docs/schemas"


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
