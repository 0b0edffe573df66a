"""
The code of the pages runs: every block, in order, in a folder with the checkout's scripts and cards, the commands with
tiny models and few steps. A block that does not run says why in a comment above it, `<!-- not run: ... -->`.
"""

import glob
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTModel,
)

from hf_primaldual.commands import main
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS
from tests.integration.test_convert_script import SIZES, bert_with_tokenizer

ROOT = Path(__file__).parents[1]
# A reason why a block is not run, its language, its code.
BLOCK = re.compile(r"(?:<!-- not run: ([^\n]+) -->\n)?^```(python|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Appended to a command; the last of a flag counts.
TRAINING = (
    "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 16 --seeds 0 --threads 1"
)
TRAINING += " --num_train_epochs 1 --disable_tqdm true --efficiency_tokens 16"
SMALLER = {
    "attention": "--tokens 32 --rounds 1 --attentions bn",
    "decoding": "--tokens 32 --rounds 1 --attentions bn",
    "distill": "--minutes 0.001 --held_out 16 --calibration_examples 8",
    "figures": "--figure 1 --widths 64 --tokens 512 --attn_implementation sdpa --time 0",
    "measure": "--rounds 1 --tokens 16",
    "short": "--rounds 1 --cases series-8x29",
}

pytestmark = pytest.mark.processes


def blocks(page: str) -> list[tuple[str, str, str]]:
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


def run(page: str) -> dict:
    """What the blocks of a page have left."""
    left = {"__name__": "__main__"}
    for reason, language, block in blocks(page):
        if reason:
            continue
        if language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    run_command(words)
        elif file := re.match(r"# (\w+\.py)\n", block):
            Path(file[1]).write_text(block, encoding="utf-8")
        else:
            exec(compile(block, page, "exec"), left)
    return left


def run_command(words: list[str]) -> None:
    """A line of a shell block."""
    program, *argv = (found for word in words for found in sorted(glob.glob(word)) or [word])
    if program == "python":
        program, *argv = argv
    name = argv[0] if program == "hf-primaldual" else Path(argv[0] if program.endswith(".sh") else program).stem
    argv += (TRAINING if name.startswith(("train-", "run_", "measure_redundancy")) else SMALLER.get(name, "")).split()
    if any(word.endswith(".yaml") for word in argv):
        # A recipe's factors are those of its heads; its attentions are tested elsewhere.
        argv += ["--num_attention_heads", "8", "--attention", "bn"]
    if "--search" in argv:
        argv += ["--search", "2"]
    if program == "hf-primaldual":
        main(argv)
    elif program.endswith(".sh"):
        # Where no environment is active it takes the checkout's.
        env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHON")}
        subprocess.run([program, *argv], check=True, env=env | {"PATH": "/usr/bin:/bin"})
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [program, *argv])
            runpy.run_path(program, run_name="__main__")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of a checkout, with tiny models in the place of those that pages take from the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(ROOT / "scripts", "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    Path(".venv").symlink_to(sys.prefix)
    for name in ("model_cards", "spaces"):
        Path(name).symlink_to(ROOT / name)
    Path("posts.txt").write_text("".join("key " * count + "value " * 20 + "\n" for count in range(70)))
    for name in ("me/encoder", "sentence-transformers/all-MiniLM-L6-v2"):
        bert_with_tokenizer(Path(name))
    twelve = {**SIZES, "hidden_size": 24, "num_attention_heads": 12}
    BertModel(BertConfig(vocab_size=7, **twelve)).save_pretrained("google-bert/bert-base-uncased")
    ViTModel(ViTConfig(image_size=32, patch_size=8, **SIZES)).save_pretrained("google/vit-base-patch16-224")
    vision = {"image_size": 32, "patch_size": 8, **SIZES}
    CLIPModel(CLIPConfig(text_config=SIZES, vision_config=vision)).save_pretrained("openai/clip-vit-base-patch32")
    gpt = "openai-community/gpt2"
    GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=16, n_layer=1, n_head=4)).save_pretrained(gpt)
    BertTokenizer.from_pretrained("me/encoder").save_pretrained(gpt)
    return tmp_path / "outputs"


def results(folder: Path) -> dict:
    (path,) = folder.glob("*/results.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_blocks_that_are_not_run_are_few():
    reasons = [reason for page in PAGES for reason, _, _ in blocks(page) if reason]
    assert len(reasons) <= 20, reasons
    # A language that nothing here runs would be passed over.
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"^```(.+)$", text, re.MULTILINE)) == {"python", "bash", "{eval-rst}"}


# Those with a test of their own run there; results.md is generated, from commands that test_documents.py looks at.
OWN = {"your-own-series.md", "your-own-texts.md", "your-own-images.md", "conversion.md", "attentions.md"}
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name != "results.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OWN])
def test_a_page_runs(page):
    run(page)


def test_attentions(monkeypatch):
    monkeypatch.delitem(sys.modules, "whitening", raising=False)
    # Registered for this test alone: setting the name first makes pytest take back whatever it is in the end.
    monkeypatch.setitem(EXTENSIONS, "whitening.Whitening", None)
    del EXTENSIONS["whitening.Whitening"]
    run("attentions.md")
    assert Path("whitened/whitening.py").exists()
    assert Path("dual.png").exists()


def test_conversion(folder):
    left = run("conversion.md")
    record = json.loads((folder / "faster" / "results.json").read_text(encoding="utf-8"))
    assert record["cost"] <= 0.4
    assert left["found"].cost <= 0.7


def test_your_own_series(folder):
    left = run("your-own-series.md")
    # Nobody is in two of the sets.
    assert results(folder / "motions")["settings"]["groups"] == "train 3, validation 1, test 1"
    assert not set(left["splits"]["train"]["group"]) & set(left["splits"]["validation"]["group"])
    assert left["recordings"].size == 8
    assert len(left["new"]) == 9


def test_your_own_texts(folder):
    left = run("your-own-texts.md")
    assert (len(left["texts"]), left["scores"].shape) == (2, (2, 2))
    helpdesk, tagged, flagged, windows = (
        results(folder / name) for name in ("helpdesk", "tagged", "flagged", "windows")
    )
    assert (helpdesk["dataset"]["name"], tagged["dataset"]["name"]) == ("helpdesk", "tagged")
    # The same labels, in another form.
    assert tagged["dataset"]["sha256"] == flagged["dataset"]["sha256"]
    assert {"validation_f1", "test_f1"} <= set(tagged["runs"][0])
    # Texts are counted, not windows.
    for split in ("train", "validation", "test"):
        assert windows["dataset"][split] == helpdesk["dataset"][split]
    card = (folder / "tagged" / tagged["model_name"] / "README.md").read_text(encoding="utf-8")
    assert "right if all of its labels are" in card
    assert "top_k=None" in card


@pytest.mark.filterwarnings("ignore:.*16 bits:UserWarning")
def test_your_own_images(folder):
    with pytest.warns(UserWarning, match=r"1 of 60 images cannot be read \(row \d+: .*7\.png: no readable image"):
        left = run("your-own-images.md")
    scans = results(folder / "scans")["dataset"]
    assert [scans[name] for name in ("train", "validation", "test", "classes")] == [35, 12, 12, 2]
    image = np.asarray(left["decode_image"]("scans/train/3.png"))
    np.testing.assert_allclose(image[..., 0], left["digits"].images[3] * 255 / 16, atol=1)
