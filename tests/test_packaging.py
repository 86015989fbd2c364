"""The wheel, built for real: exactly the four packages and the pytest plugin, typed, and usable once installed.

Builds a copy of the tree without isolation, so it needs no network and leaves nothing in the checkout.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtime", "actors", "supervisors", "reporters")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
GROUPS = PYPROJECT["dependency-groups"]


def names(requirements: Iterable[str | dict[str, str]]) -> set[str]:
    """Return what the requirements name, those of included groups too."""
    found: set[str] = set()
    for requirement in requirements:
        if isinstance(requirement, dict):
            found |= names(GROUPS[requirement["include-group"]])
        else:
            found.add(normalized(re.split(r"[^\w.-]", requirement)[0]))
    return found


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


CORE = names(PROJECT["dependencies"]) | {"greenlet"}  # what gevent runs on; its types are part of gevent's own API
EXTRAS = names(requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra)
DIST_INFO = f"beamstalk-{PROJECT['version']}.dist-info"


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, out: Path, *what: str) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", out, source, cwd=out.parent)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout with everything in it that must not be shipped."""
    copy = tmp_path_factory.mktemp("checkout") / "beamstalk"
    not_source = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=not_source)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel") / "dist", "--wheel")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{DIST_INFO}/METADATA").decode())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, and it alone, into a directory of its own."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel, cwd=target)
    return target


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_exactly_the_four_packages_and_the_plugin(wheel: Path) -> None:
    modules = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    typed = {f"{package}/py.typed" for package in PACKAGES}
    about = {
        f"{DIST_INFO}/{name}"
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    }

    assert files(wheel) == modules | typed | about | {"pytest_beamstalk.py"}


def test_checkout_has_what_must_not_be_shipped(source: Path) -> None:
    # Otherwise the exact list above would prove nothing.
    assert all(any((source / name).rglob("*.py")) for name in ("app", "tests", "examples", "benchmarks"))


def test_wheel_by_way_of_the_source_distribution_is_the_same(wheel: Path, source: Path, tmp_path: Path) -> None:
    by_sdist = build(source, tmp_path / "dist")

    assert files(by_sdist) == files(wheel)


def test_wheel_is_pure_python_and_named_after_the_project(wheel: Path) -> None:
    assert wheel.name == f"beamstalk-{PROJECT['version']}-py3-none-any.whl"


def test_metadata_says_what_is_needed(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])
    core = {requirement.split(">=")[0] for requirement in requirements if "extra ==" not in requirement}

    assert metadata["Requires-Python"] == ">=3.11"
    assert core == {"ddsketch", "gevent", "loguru", "msgspec", "pykka", "statsd", "tenacity"}
    assert set(metadata.get_all("Provides-Extra", [])) == {"all", "prometheus", "shell"}


def test_metadata_says_whose_rules_hold(metadata: Message, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = archive.read(f"{DIST_INFO}/licenses/LICENSE").decode()

    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in shipped
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


def test_installed_packages_import_from_there_and_without_any_extra(installed: Path, tmp_path: Path) -> None:
    # Isolated (-I) from the checkout; the core dependencies come from the interpreter that runs the suite.
    program = f"""
import importlib, json, sys
sys.path.insert(0, {str(installed)!r})
sys.modules.update(dict.fromkeys({sorted(name.replace("-", "_") for name in EXTRAS)!r}))
modules = {(*PACKAGES, "pytest_beamstalk")!r}
print(json.dumps({{name: importlib.import_module(name).__file__ for name in modules}}))
"""

    places = json.loads(run(sys.executable, "-I", "-W", "error", "-c", program, cwd=tmp_path))

    expected = {name: str(installed / name / "__init__.py") for name in PACKAGES}
    assert places == {**expected, "pytest_beamstalk": str(installed / "pytest_beamstalk.py")}


def test_pytest_finds_the_plugin_of_the_installed_package(installed: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from importlib.metadata import distribution
sys.path.insert(0, {str(installed)!r})
[plugin] = distribution("beamstalk").entry_points.select(group="pytest11")
print(plugin.name, plugin.load().__name__)
"""

    assert run(sys.executable, "-I", "-c", program, cwd=tmp_path).split() == ["beamstalk", "pytest_beamstalk"]


def test_setup_cfg_holds_package_discovery_and_nothing_else() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")

    sections = {name: set(parser[name]) for name in parser.sections()}
    assert sections == {
        "options": {"packages", "py_modules", "include_package_data"},
        "options.packages.find": {"include"},
        "options.package_data": set(PACKAGES),
    }


def test_project_is_static() -> None:
    assert "dynamic" not in PROJECT


def imports(*places: str) -> dict[str, set[str]]:
    """Return what the modules there import, except the standard library and ourselves: {module: its distributions}."""
    ours = {*PACKAGES, "app", "benchmarks", "examples", "tests", "pytest_beamstalk"}
    by_module = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in (path for place in places for path in sorted(ROOT.glob(place))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            else:
                continue
            for top in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - ours:
                found[top] = {normalized(name) for name in by_module.get(top, [top])}
    return found


@pytest.mark.parametrize(
    ("places", "declared"),
    [
        ([f"{package}/**/*.py" for package in PACKAGES], CORE | EXTRAS),
        (["pytest_beamstalk.py"], CORE | {"pytest"}),
        (["app/**/*.py", "examples/*.py"], CORE | EXTRAS | names(GROUPS["app"])),
        (["tests/**/*.py"], CORE | EXTRAS | names(GROUPS["test"])),
        (["benchmarks/**/*.py"], CORE | EXTRAS | names(GROUPS["bench"])),
    ],
    ids=["packages", "plugin", "application", "suite", "benchmarks"],
)
def test_every_import_is_of_a_declared_dependency(places: list[str], declared: set[str]) -> None:
    assert [module for module, distributions in imports(*places).items() if not distributions & declared] == []


def test_every_core_dependency_is_imported_by_a_package() -> None:
    imported = imports(*(f"{package}/**/*.py" for package in PACKAGES))

    assert set().union(*imported.values()) >= CORE
