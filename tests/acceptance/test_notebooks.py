"""The notebooks run from a fresh folder, and end with what they promise."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"


@pytest.mark.acceptance
@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_runs_to_its_end(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = [
        output["text"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream"
    ]
    assert not any("Traceback" in text or "error:" in text for text in printed)
    if file.stem == "agnews_contest":
        rows = (tmp_path / "submission.csv").read_text("utf-8").splitlines()
        assert rows[0] == "ID,Label"
        assert len(rows) == 881  # one for each test item of the built-in sample
        shown = str(notebook["cells"])
        assert "3330820" in shown
        assert "every id once" in shown or "ids" in shown
