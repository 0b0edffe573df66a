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
print(sorted({"datasets", "evaluate", "kornia", "matplotlib", "transformers.trainer"} & sys.modules.keys()))
from transformers import AutoConfig, AutoModel
for family in ("text", "time_series", "vit"):
    config = AutoConfig.for_model("primal_dual_" + family, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert type(AutoModel.from_config(config)).__module__.startswith("hf_primaldual.modeling")
"""


def test_importing_the_package_registers_it_and_imports_nothing_heavy(tmp_path):
    assert run_isolated(IMPORT, tmp_path, hide=False).splitlines() == ["[]"]


def test_every_public_name_resolves():
    assert hf_primaldual.__all__ == sorted(
        hf_primaldual.__all__, key=lambda name: (name.upper() != name, not name[0].isupper(), name)
    )
    assert all(getattr(hf_primaldual, name) is not None for name in hf_primaldual.__all__)


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
