"""What README.md and CONTRIBUTING.md show is true: programs run, outputs are real, links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # The packages are found whether or not they are installed; the program itself stays exactly as shown.
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); exec(compile({program!r}, 'README.md', 'exec'))"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", start]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_readme_shows_programs() -> None:
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_program_in_the_readme_runs_and_prints_what_stands_below_it(number: int, tmp_path: Path) -> None:
    program = blocks("python")[number]
    shown = README.split(program, 1)[1].split("```python", 1)[0]
    output = re.search(r"^```text\n(.*?)^```$", shown, re.MULTILINE | re.DOTALL)

    done = run(program, tmp_path)

    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == (output[1] if output else "")


def test_quickstart_example_is_the_first_program_of_the_readme() -> None:
    source = (ROOT / "examples" / "quickstart.py").read_text()
    docstring = ast.get_source_segment(source, ast.parse(source).body[0])

    assert blocks("python")[0] == source.removeprefix(f"{docstring}\n\n")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"])
def test_relative_links_lead_to_files(name: str) -> None:
    page = ROOT / name

    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]

    assert missing == []


def test_every_make_word_that_the_pages_mention_exists() -> None:
    words = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()

    # In code only: prose "makes" nothing.
    lines = re.findall(r"`make ([^`]+)`|^\$ make ([^#\n]+)", pages, re.MULTILINE)
    mentioned = {word for pair in lines for word in re.findall(r"^[a-z -]+", "".join(pair))[0].split()}

    assert mentioned
    assert mentioned <= words


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 150
