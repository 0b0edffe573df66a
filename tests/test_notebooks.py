"""The notebooks run from top to bottom, and are committed with what they printed and drew."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="`make test-slow` installs what runs notebooks")
nbclient = pytest.importorskip("nbclient", reason="`make test-slow` installs what runs notebooks")

FOLDER = Path(__file__).parents[1] / "scripts" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_committed_with_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    committed = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert committed == list(range(1, len(committed) + 1))
    assert path.stat().st_size < 300_000
    # Warnings name the folders of whoever ran it.
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": FOLDER}}).execute()
