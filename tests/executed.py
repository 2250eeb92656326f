"""What executed notebooks say and show."""

from pathlib import Path

import nbformat


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def shown(path: Path) -> str:
    """All that an executed notebook prints, says and tabulates."""
    return "\n".join(str(output.get("text", output.get("data", {}).get("text/plain"))) +
                     str(output.get("data", {}).get("text/markdown", "")) for cell in code_cells(path)
                     for output in cell.outputs)


def check_outputs(path: Path) -> None:
    """No warning, and no picture without alternative text."""
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"{cell.id} wrote to stderr: {output.text}"
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt) > 20, f"{cell.id} shows a picture without alternative text"
