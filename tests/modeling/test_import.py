"""What an import costs, and what the files that travel with a checkpoint may import."""

import ast
import sys
from pathlib import Path

import pytest

import hf_primaldual
from tests.modeling.isolated import run_isolated

pytestmark = pytest.mark.unmutated

MODELING = Path(hf_primaldual.__file__).parent / "modeling"
FILES = sorted(MODELING.glob("*.py"))
TRAVELS = sorted(MODELING.glob("*_primal_dual*.py"))
ALLOWED = {"torch", "transformers", "numpy", "huggingface_hub", *sys.stdlib_module_names}

IMPORT = """
import sys
import hf_primaldual
print(sorted({"datasets", "evaluate", "kornia", "matplotlib", "sklearn", "transformers.trainer"} & sys.modules.keys()))
hf_primaldual.PrimalDualTimeSeriesClassifier
from transformers import AutoConfig, AutoModel
for family in ("text", "time_series", "vit"):
    config = AutoConfig.for_model("primal_dual_" + family, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert type(AutoModel.from_config(config)).__module__.startswith("hf_primaldual.modeling")
"""


@pytest.mark.processes
def test_importing_the_package_registers_it_and_imports_nothing_heavy(tmp_path):
    assert run_isolated(IMPORT, tmp_path, hide=False) == "[]\n"


def test_the_files_that_travel_import_flat_siblings_and_what_transformers_brings():
    assert [path.name for path in FILES if path not in TRAVELS] == ["__init__.py"]
    siblings = {sibling.stem for sibling in TRAVELS}
    for path in TRAVELS:
        text = path.read_text()
        tree = ast.parse(text)
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        # transformers doesn't ask for what stands in a `try`.
        tried = [each for node in ast.walk(tree) if isinstance(node, ast.Try) for each in node.body]
        for node in imports:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and node.level:
                # transformers finds a checkpoint's files by lines of the form `from .name import x`.
                assert (node.level, node.module in siblings) == (1, True), (path, node.module)
            elif node not in tried:
                assert {name.partition(".")[0] for name in names} <= ALLOWED, path
        # It searches the text line by line, so a string that looks like an import would be one.
        lines = {node.lineno for node in imports}
        for number, line in enumerate(text.splitlines(), start=1):
            assert number in lines or not line.strip().startswith(("from .", "import .")), (path, number)
