"""Loading, publishing and what is written over: rows 27 to 31 and 35, and the publishing half of row 5."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_primaldual
from hf_primaldual.hub.results import TASKS
from tests.hub.test_card_usage import checkpoint

ROOT = Path(__file__).parents[2]

WITHOUT_TRUST = """
import builtins
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from PIL import Image
import hf_primaldual
import transformers

questions = []
builtins.input = lambda text: questions.append(text) or "n"

root = Path(sys.argv[2])
image = Image.fromarray(np.zeros((28, 35, 3), np.uint8))
AUTOS = {
    "time-series-classification": ("AutoModelForSequenceClassification", "AutoFeatureExtractor", np.ones((9, 12))),
    "text-classification": ("AutoModelForSequenceClassification", "AutoTokenizer", "a text"),
    "document-matching": ("AutoModelForSequenceClassification", "AutoTokenizer", None),
    "image-classification": ("AutoModelForImageClassification", "AutoImageProcessor", image),
}
for task, (head, processor, example) in AUTOS.items():
    folder = str(root / task)
    for auto in ("AutoConfig", "AutoModel", head, processor, "AutoProcessor"):
        getattr(transformers, auto).from_pretrained(folder)
        assert not questions, (task, auto)
    if example is not None:
        assert transformers.pipeline(task, model=folder)(example)[0]["label"].startswith("LABEL_"), task
series = str(root / "time-series-classification")
inferred = transformers.pipeline(model=series)
assert type(inferred) is hf_primaldual.TimeSeriesClassificationPipeline
assert type(transformers.pipeline("time-series-classification", model=series, trust_remote_code=True)) is type(inferred)
inferred.save_pretrained(root / "again")
assert type(transformers.pipeline("time-series-classification", model=str(root / "again"))) is type(inferred)
extractor = transformers.AutoFeatureExtractor.from_pretrained(root / "extractor")
assert type(extractor) is hf_primaldual.PrimalDualTimeSeriesFeatureExtractor
assert not questions
print([name for name in sys.modules if name.startswith("transformers_modules")])
"""


def test_row_28_with_the_package_nothing_asks_for_trust(tmp_path):
    for task in TASKS:
        for part in checkpoint(task):
            part.save_pretrained(tmp_path / task)
    checkpoint("time-series-classification")[1].save_pretrained(tmp_path / "extractor")
    source = Path(hf_primaldual.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRUST, source, tmp_path], capture_output=True, text=True, check=False
    )
    assert process.stdout.endswith("[]\n"), process.stderr[-3000:]


@pytest.mark.parametrize(
    "statement",
    [
        "from hf_primaldual.modeling.pipeline_primal_dual import TimeSeriesClassificationPipeline",
        "from transformers import pipelines; import hf_primaldual",
    ],
)
def test_row_28_the_pipeline_is_registered_in_whatever_order_things_are_imported(statement):
    source = Path(hf_primaldual.__file__).parents[1]
    script = (
        f"import sys; sys.path.insert(0, {str(source)!r}); {statement}\n"
        "from transformers.pipelines import PIPELINE_REGISTRY as known\n"
        "print(known.check_task('time-series-classification')[1]['impl']._load_feature_extractor)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.stdout == "True\n", process.stderr


def test_row_28_no_script_and_no_module_passes_trust_by_itself():
    # But for the check itself, which runs only what is the package's own code, or what somebody has trusted.
    isolated = ROOT / "src" / "hf_primaldual" / "hub" / "stranger.py"
    for path in {*(ROOT / "scripts").rglob("*.py"), *(ROOT / "src").rglob("*.py")} - {isolated}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            trusts = isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
            assert not trusts or not isinstance(node.value, ast.Constant) or not node.value.value, path
