"""The pages on one's own series, texts and images: every block runs, in order, the commands with a tiny model."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from hf_primaldual.commands import main

TINY = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 16 --seeds 0 --threads 1"
TINY += " --num_train_epochs 1 --disable_tqdm true --efficiency_tokens 16"

pytestmark = pytest.mark.processes


def run(page: str) -> dict:
    """What the blocks of a page have left."""
    path = Path(__file__).parents[1] / "docs" / page
    left = {}
    for language, block in re.findall(r"```(python|bash)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        if language == "python":
            exec(compile(block, page, "exec"), left)
        else:
            program, *argv = shlex.split(block.replace("\\\n", " "))
            assert program == "hf-primaldual"
            main([*argv, *TINY.split()])
    return left


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs"


def results(folder: Path) -> dict:
    (path,) = folder.glob("*/results.json")
    return json.loads(path.read_text(encoding="utf-8"))


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
