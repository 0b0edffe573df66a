"""What an import costs, and what the files that travel with a checkpoint may import."""

import ast
import sys
from pathlib import Path

import pytest

import hf_primaldual
from tests.modeling.isolated import run_isolated

MODELING = Path(hf_primaldual.__file__).parent / "modeling"
FILES = sorted(MODELING.glob("*.py"))
TRAVELS = sorted(MODELING.glob("*_primal_dual*.py"))
ALLOWED = {"torch", "transformers", "numpy", "huggingface_hub", *sys.stdlib_module_names}

IMPORT = """
import sys
import hf_primaldual
print(sorted({"torch", "transformers", "numpy", "huggingface_hub"} & sys.modules.keys()))
print(sorted(set(hf_primaldual.__all__) - set(dir(hf_primaldual))))
heavy = {"transformers.modeling_utils", "transformers.pipelines", "transformers.trainer", "datasets", "evaluate"}
from transformers import AutoConfig, AutoModelForImageClassification
AutoConfig.for_model("primal_dual_time_series")
print(sorted(heavy & sys.modules.keys()))
assert hf_primaldual.PrimalDualAttention is hf_primaldual.PrimalDualAttention
"""


def test_importing_the_package_is_light(tmp_path):
    assert run_isolated(IMPORT, tmp_path, hide=False).splitlines() == ["[]"] * 3


def test_every_public_name_resolves():
    assert hf_primaldual.__all__ == sorted(hf_primaldual.__all__, key=lambda name: (name.upper() != name, name))
    for name in hf_primaldual.__all__:
        assert getattr(hf_primaldual, name) is not None
        assert name in dir(hf_primaldual)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'hf_primaldual' has no attribute 'PrimalDualNonsense'"):
        _ = hf_primaldual.PrimalDualNonsense


def test_the_files_travel_by_their_names():
    assert [path.name for path in FILES if path not in TRAVELS] == ["__init__.py"]


@pytest.mark.parametrize("path", TRAVELS, ids=lambda path: path.stem)
def test_a_file_that_travels_imports_flat_siblings_and_what_transformers_brings(path):
    siblings = {sibling.stem for sibling in TRAVELS}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom) and node.level:
            # transformers finds a checkpoint's files by lines of the form `from .name import x`.
            assert node.level == 1
            assert node.module in siblings
        elif isinstance(node, ast.ImportFrom):
            assert node.module.partition(".")[0] in ALLOWED


@pytest.mark.parametrize("path", TRAVELS, ids=lambda path: path.stem)
def test_no_line_of_a_string_looks_like_a_relative_import(path):
    # transformers searches the text line by line, so it would look for a file of that name.
    text = path.read_text()
    imports = {node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)}
    for number, line in enumerate(text.splitlines(), start=1):
        assert number in imports or not line.strip().startswith(("from .", "import ."))
