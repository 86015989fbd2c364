"""`doctor`: what may be wrong with this shell, the node it finds, and their surroundings; each line with its fix.

The four packages have generic names, so the first question is always whose `runtime/` was imported. The node is asked
for what only it knows; without one the other checks are made all the same.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

import runtime
from runtime.errors import BeamstalkError
from runtime.shell import _places, _views, protocol
from runtime.shell._client import NOT_FOUND, OK, TIMEOUT, ShellError
from runtime.shell._shell import Shell
from runtime.shell._text import duration
from runtime.shell.protocol import Answer, NodeId

_PACKAGES = ("runtime", "actors", "supervisors", "reporters")
_EXTRA = {"rich": "colours", "prompt_toolkit": "completion and history at the prompt"}
_LEAST_PYTHON = (3, 11)
_NEEDED_PATCHES = frozenset({"threading", "socket", "time"})


class Check(msgspec.Struct, frozen=True):
    """One line: what was looked at, ok, warn or fail, what was found, and how to put it right."""

    check: str
    result: str
    found: str
    fix: str = ""


def run(shell: Shell) -> int:
    """Check everything and show it; the exit code says whether anything failed."""
    node, health, trouble = None, None, None
    try:
        reply, _ = shell.ask("health")
        node, health = reply.node, reply.data
    except ShellError as error:
        trouble = error
    checks = list(own_checks(Path(runtime.__file__).parents[1], sys.path))
    checks += [_node_missing(trouble)] if node is None or health is None else node_checks(node, health)
    data = [msgspec.structs.asdict(check) for check in checks]
    shell.code = NOT_FOUND if any(check.result == "fail" for check in checks) else OK
    if shell.screen.json:
        who = node or NodeId("", 0)
        shell.screen.raw(protocol.encode(Answer(protocol.VERSION, time.time_ns(), who, data))[:-1])
    else:
        _views.doctor(shell.screen, data)
    return shell.code


# -- this side -------------------------------------------------------------------------------------------------------


def own_checks(home: Path, path: list[str]) -> Iterator[Check]:
    """Check the shell's own side; `home` is where our `runtime` is, `path` where modules are looked for."""
    for package in _PACKAGES:
        yield package_check(package, home, path)
    version = platform.python_version()
    good = sys.version_info >= _LEAST_PYTHON
    yield Check("python", "ok" if good else "fail", version, "" if good else "use Python 3.11 or newer")
    yield from _libraries()
    for module, gives in _EXTRA.items():
        there = importlib.util.find_spec(module) is not None
        fix = "" if there else f"for {gives}: pip install 'beamstalk[shell]'"
        yield Check(module, "ok" if there else "warn", "installed" if there else "not installed", fix)
    yield from directory_checks()


def package_check(package: str, home: Path, path: list[str]) -> Check:
    """Tell whose package is imported under a name, and whose else is in the way somewhere."""
    places = []
    for entry in path:
        base = Path(entry or os.curdir).absolute()
        found = next((one for one in (base / package / "__init__.py", base / f"{package}.py") if one.is_file()), None)
        if found is not None and found not in places:
            places.append(found)
    loaded = getattr(sys.modules.get(package), "__file__", None)
    spec = importlib.util.find_spec(package) if loaded is None else None
    first = Path(loaded or (spec.origin if spec is not None and spec.origin else os.devnull))
    name = f"package {package}"
    if not first.is_relative_to(home):
        fix = f"rename or move it, or take its directory off sys.path: beamstalk's is in {home}"
        return Check(name, "fail", f"{first} is not beamstalk's", fix)
    foreign = [str(one) for one in places if not one.is_relative_to(home)]
    if foreign:
        fix = "programs started there get the wrong one: rename it, or start them elsewhere"
        return Check(name, "warn", f"{first.parent}; another one: {', '.join(foreign)}", fix)
    return Check(name, "ok", str(first.parent))


def _libraries() -> Iterator[Check]:
    try:
        requirements = importlib.metadata.requires("beamstalk") or []
        found = importlib.metadata.version("beamstalk")
    except importlib.metadata.PackageNotFoundError:
        yield Check("beamstalk", "warn", "runs from a checkout, not installed", "pip install beamstalk")
        return
    yield Check("beamstalk", "ok", found)
    for requirement in requirements:
        if ";" in requirement:
            continue  # of an extra
        name, _, least = requirement.partition(">=")
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "fail", "not installed", f"pip install '{requirement}'")
            continue
        good = _numbers(version) >= _numbers(least)
        yield Check(name, "ok" if good else "fail", version, "" if good else f"pip install '{requirement}'")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def directory_checks() -> Iterator[Check]:
    """Check the directories of sockets that are there."""
    for directory in _places.directories():
        if not os.path.lexists(directory):
            continue
        try:
            _places.check_directory(directory)
        except BeamstalkError as error:
            found, _, fix = str(error).partition(". ")
            yield Check("socket directory", "fail", found, fix.removeprefix("Run: "))
        else:
            yield Check("socket directory", "ok", str(directory))


def _node_missing(trouble: ShellError | None) -> Check:
    found, _, fix = " ".join(str(trouble).split()).partition(". ")
    if trouble is None or trouble.code != TIMEOUT:
        return Check("node", "warn", found, fix)  # that none runs may be meant
    return Check("node", "fail", found, "find out whether its process is stopped: state T in the system's ps")


# -- the node --------------------------------------------------------------------------------------------------------


def node_checks(node: NodeId, health: Mapping[str, Any]) -> Iterator[Check]:
    """Check what the node has told of itself."""
    stuck = f"its hub has been blocked for {duration(node.stale_ns)}" if node.stale_ns else "it answers"
    fix = "see: status, and where ACTOR of the one that blocks it" if node.stale_ns else ""
    result = "fail" if node.stale_ns > 1_000_000_000 else "warn" if node.stale_ns else "ok"
    yield Check("node", result, f"{node.name} (pid {node.pid}): {stuck}", fix)
    yield Check("socket", "ok", f"{health['socket']}, control {'allowed' if health['control'] else 'refused'}")
    homes = {name: Path(file).parents[1] for name, file in health["packages"].items() if file}
    strangers = {name: home for name, home in homes.items() if home != homes.get("runtime")}
    for name, home in strangers.items():
        found = f"{home / name} is not beamstalk's, which is in {homes.get('runtime')}"
        yield Check(f"node's package {name}", "fail", found, "rename or move it, or take its directory off sys.path")
    if not strangers:
        yield Check("node's packages", "ok", str(homes.get("runtime")))
    yield _patches(health)
    theirs = health["versions"].get("python", "").rpartition(".")[0]
    ours = platform.python_version().rpartition(".")[0]
    fix = "" if theirs == ours else "use the shell of the node's own environment"
    yield Check("node's python", "ok" if theirs == ours else "warn", health["versions"].get("python", "?"), fix)
    others = ", ".join(f"{name} {version}" for name, version in health["versions"].items() if name != "python")
    yield Check("node's versions", "ok", others)
    for handler in health["parked"]:
        found = f"{handler} gave up"
        yield Check("handler", "fail", found, f"see: dead-letters {handler}; then: reattach {handler}")
    if not health["parked"]:
        yield Check("handlers", "ok", "none is parked")


def _patches(health: Mapping[str, Any]) -> Check:
    patched = set(health["patched"])
    if not patched:
        return Check("monkey-patching", "ok", "none")
    found = "gevent has patched " + ", ".join(sorted(patched))
    if not health["patched_before_import"]:
        fix = "call gevent.monkey.patch_all() first of all, before anything else is imported"
        return Check("monkey-patching", "warn", f"{found}, after runtime was imported", fix)
    missing = _NEEDED_PATCHES - patched
    if missing:
        fix = "use gevent.monkey.patch_all(): half patched, greenlets of the host block each other"
        return Check("monkey-patching", "warn", f"{found}, but not {', '.join(sorted(missing))}", fix)
    return Check("monkey-patching", "ok", found)
