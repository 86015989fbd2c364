"""Handlers by name: what an interpreter needs to know to import a handler that another one was given.

`attach` asks it for process handlers, so that one that cannot be imported is refused at once. A module that this
process has not imported is found and looked at, never run: it may be heavy, or the very code that must not run here.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import InvalidValue, expected

_RULE = "a handler that another interpreter can import"
_FIX = "Pass a function of a module's top level, or 'package.module:function'"
_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*(\.\w+)*")


def import_string(handler: object) -> str:
    """Return 'package.module:function' for a handler, or refuse it.

    >>> import_string(len)
    'builtins:len'
    >>> import_string("score")
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected a handler that another interpreter can import, got: 'score'. Pass a function \
of a module's top level, or 'package.module:function'
    """
    if getattr(sys.modules["__main__"], "IS_HANDLER_PROCESS", False):
        # The handler's module attaches it while it is imported: a process would start a process would start a process.
        raise expected(
            "process handlers to be attached by the service itself",
            handler,
            "Put what starts the service under `if __name__ == '__main__':`",
        )
    if isinstance(handler, str):
        _check_string(handler)
        return handler
    module, name = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
    if not callable(handler) or not isinstance(module, str) or not isinstance(name, str):
        raise _refusal(handler)
    found = _attribute(sys.modules.get(module), name)
    if found is not handler and not (found == handler and inspect.ismethod(found)):
        raise _refusal(handler)
    importable = _name_of_main() if module == "__main__" else module
    if importable is None:
        raise _refusal(handler, "Move it from the script into a module of its own")
    return f"{importable}:{name}"


def check_config(config: object) -> None:
    """Refuse a config that cannot travel to another process."""
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(config))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        fix = f"Pass numbers, strings, lists and dicts ({error})"
        raise expected("a config that msgpack can carry to the handler's process", config, fix) from None


def _check_string(handler: str) -> None:
    if not _IMPORT_STRING.fullmatch(handler):
        raise _refusal(handler)
    module, _, name = handler.partition(":")
    if module in sys.modules:
        if not callable(_attribute(sys.modules[module], name)):
            raise _refusal(handler, f"Module {module} has no function {name}")
        return
    try:
        spec = _find(module)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError):
        return  # a finder that needs the parent package imported: the other interpreter will tell
    if spec is None:
        raise _refusal(handler, f"There is no module {module} on sys.path")
    if not _may_define(spec, name.partition(".")[0]):
        raise _refusal(handler, f"Module {module} does not mention {name}")


def _find(module: str) -> ModuleSpec | None:
    """Find a module without importing its packages, which `importlib.util.find_spec` would."""
    spec: ModuleSpec | None = None
    path: Iterable[str] | None = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        found = (finder.find_spec(name, path) for finder in sys.meta_path)  # type: ignore[arg-type]
        spec = next((one for one in found if one is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations or ()
    return spec


def _may_define(spec: ModuleSpec, name: str) -> bool:
    if spec.origin is None or not spec.origin.endswith(".py") or not os.path.exists(spec.origin):
        return True
    source = Path(spec.origin).read_text(encoding="utf-8", errors="replace")
    return re.search(rf"\b{name}\b|import \*|__getattr__", source) is not None


def _attribute(module: Any, name: str) -> Any:
    return functools.reduce(lambda found, part: getattr(found, part, None), name.split("."), module)


def _name_of_main() -> str | None:
    """The name under which another interpreter can import the module that this one runs."""
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name  # python -m package.module
    path = getattr(main, "__file__", None)
    if path is None:
        return None  # typed in, or -c
    spec = _find(Path(path).stem)
    if spec is None or spec.origin is None or not os.path.samefile(spec.origin, path):
        return None
    return spec.name


def _refusal(handler: object, fix: str = _FIX) -> InvalidValue:
    return expected(_RULE, handler, fix)
