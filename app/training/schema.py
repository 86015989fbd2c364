"""The published JSON Schema of the training telemetry's structures.

Owns the files in `docs/schemas`: one per structure and version, written by `python -m app.training.schema` (or into the
directory that it is given) and never by hand; a test compares them with what the code says. A change of a structure
gets a new `catalogue.SCHEMA_VERSION` and with it new files; old files stay, for the readers of old data.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from app.training.catalogue import SCHEMA_VERSION
from app.training.outputs import CustomLossOutput, RegularizerOutput

__all__ = ["schemas", "write"]

_DOCS = Path(__file__).parents[2] / "docs" / "schemas"

_PUBLISHED: dict[str, type[msgspec.Struct]] = {
    "custom_loss_output": CustomLossOutput,
    "regularizer_output": RegularizerOutput,
}


def schemas() -> dict[str, str]:
    """Return the text of each schema file by its name.

    >>> sorted(schemas())
    ['custom_loss_output.v1.json', 'regularizer_output.v1.json']
    """
    return {f"{name}.v{SCHEMA_VERSION}.json": _text(name, structure) for name, structure in _PUBLISHED.items()}


def write(directory: Path) -> None:
    """Write the schema files into a directory, over those of the same version."""
    for name, text in schemas().items():
        (directory / name).write_text(text, encoding="utf-8")


def _text(name: str, structure: type[msgspec.Struct]) -> str:
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:beamstalk:training:{name}:{SCHEMA_VERSION}",
        **msgspec.json.schema(structure),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else _DOCS)
