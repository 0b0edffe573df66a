"""What waits for the import of a module happens once, after it, and is not lost."""

import importlib
import importlib.util
import sys

import pytest

from hf_primaldual.deferred import after_import

NAME = "module_that_is_waited_for"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module's file; what it holds and waits for is gone with the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield tmp_path / f"{NAME}.py"
    sys.modules.pop(NAME, None)


def test_it_happens_once_when_the_module_is_whole(module):
    module.write_text("value = 1")
    seen = []
    after_import(NAME, lambda: seen.append(sys.modules[NAME].value))
    assert seen == []
    for _ in range(2):
        importlib.import_module(NAME)
    assert seen == [1]
    after_import(NAME, lambda: seen.append(2))
    assert seen == [1, 2]


def test_looking_for_the_module_does_not_use_it_up(module):
    module.write_text("")
    seen = []
    after_import(NAME, lambda: seen.append(1))
    assert importlib.util.find_spec(NAME) is not None
    importlib.import_module(NAME)
    assert seen == [1]


def test_an_import_that_fails_is_waited_for_again(module):
    seen = []
    after_import(NAME, lambda: seen.append(1))
    with pytest.raises(ModuleNotFoundError, match=NAME):
        importlib.import_module(NAME)
    module.write_text("raise KeyboardInterrupt")
    importlib.invalidate_caches()
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module(NAME)
    module.write_text("value = 'longer than before'")
    importlib.import_module(NAME)
    assert seen == [1]
