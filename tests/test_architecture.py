"""The plan of the house, checked: floors, no circles, public names, and what no package may ever do.

Everything is read from the source with `ast`, so an import inside a function counts like any other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"runtime": 1, "actors": 2, "supervisors": 3, "reporters": 4, "app": 5}
SHIPPED = ("runtime", "actors", "supervisors", "reporters")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in FLOORS for path in sorted((ROOT / package).rglob("*.py"))}
PUBLIC = [name for name in MODULES if name.split(".")[0] in SHIPPED and "._" not in name and "__main__" not in name]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(), MODULES[module])


def imported_modules(module: str, *, types_too: bool) -> Iterator[str]:
    """Every module of ours that this one names in an import; `from package import module` counts as that module."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in walk(tree(module), types_too=types_too):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            levels_up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*levels_up, *([node.module] if node.module else [])])
            names = [submodule if (submodule := f"{base}.{alias.name}") in MODULES else base for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in FLOORS)


def walk(node: ast.AST, *, types_too: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not types_too:
            continue
        yield child
        yield from walk(child, types_too=types_too)


def test_all_five_floors_have_modules() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_floors_below(module: str) -> None:
    own = module.split(".")[0]

    upwards = [
        name
        for name in imported_modules(module, types_too=True)
        if name.split(".")[0] != own and FLOORS[name.split(".")[0]] >= FLOORS[own]
    ]

    assert upwards == []


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_what_exists(module: str) -> None:
    assert [name for name in imported_modules(module, types_too=True) if name not in MODULES] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: set(imported_modules(module, types_too=False)) - {module} for module in MODULES}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"expected no circle of imports, got: {' -> '.join(reversed(error.args[1]))}")


def test_pytest_plugin_imports_nothing_of_ours_at_its_top() -> None:
    # It is loaded in every pytest run of whoever has beamstalk installed.
    top = ast.parse((ROOT / "pytest_beamstalk.py").read_text()).body
    imported = [node.names[0].name for node in top if isinstance(node, ast.Import)]
    imported += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]

    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"pytest"}


def exported_names(module: str) -> set[str]:
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def public_names(module: str) -> set[str]:
    """Names without underscore: those that the module makes, and those of ours that it hands on.

    A package hands on all of ours that it imports, since it does nothing else; a module those that it says.
    """
    made: set[str] = set()
    ours: set[str] = set()
    for node in tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            made.update(name.id for name in bound if isinstance(name.ctx, ast.Store))
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] in FLOORS):
            ours.update(alias.asname or alias.name for alias in node.names)
    is_package = MODULES[module].name == "__init__.py"
    handed_on = ours if is_package else ours & exported_names(module)
    return {name for name in made | handed_on if not name.startswith("_")}


@pytest.mark.parametrize("module", PUBLIC)
def test_all_equals_the_public_names(module: str) -> None:
    assert exported_names(module) == public_names(module)


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_owns(module: str) -> None:
    assert ast.get_docstring(tree(module))


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
HOST_IS_NOT_OURS = {"signal.signal", "sys.exit", "os._exit", "os.abort"}


def calls(module: str) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call))


@pytest.mark.parametrize("module", MODULES)
def test_module_neither_pickles_nor_evaluates(module: str) -> None:
    imports = {
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert {name.split(".")[0] for name in imports} & FORBIDDEN_IMPORTS == set()
    assert set(calls(module)) & FORBIDDEN_CALLS == set()


@pytest.mark.parametrize("module", MODULES)
def test_module_patches_nothing(module: str) -> None:
    assert [name for name in calls(module) if "monkey.patch" in name or name.startswith("patch_")] == []


# What ends in __main__ is a program of its own, not a guest in somebody else's process.
GUESTS = [name for name in MODULES if name.split(".")[0] in SHIPPED and not name.endswith("__main__")]


@pytest.mark.parametrize("module", GUESTS)
def test_shipped_module_leaves_the_host_process_alone(module: str) -> None:
    assert set(calls(module)) & HOST_IS_NOT_OURS == set()
