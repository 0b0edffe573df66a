"""What waits until a module of transformers is imported, so that importing this package takes no time."""

import importlib.abc
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls `then` once the module `name` has been imported, and is gone. An import that fails is waited for again."""

    def __init__(self, name: str, then: Callable[[], None]):
        self.name, self.then = name, then

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name == self.name else None
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_and_call(module):
            load(module)
            self.then()
            # Another list: another thread may be going through the old one.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

        spec.loader.exec_module = load_and_call
        return spec


def after_import(name: str, then: Callable[[], None]) -> None:
    """
    Calls `then` now if the module `name` is imported already, else as soon as somebody imports it.

    `then` may import what the module imports. Of this package it may import what does not itself import `name`: that
    may be the very module that is waiting for it, half done.
    """
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _AfterImport(name, then))


__all__ = ["after_import"]
