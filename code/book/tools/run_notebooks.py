"""Execute notebooks in place, so that a second run leaves them unchanged.

python code/book/tools/run_notebooks.py [NOTEBOOK ...]      (default: all of chapters/)
"""

import sys
from pathlib import Path

import nbformat
from nbclient import execute

CHAPTERS = Path(__file__).parents[3] / "chapters"


def run(path):
    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path.parent, timeout=60, record_timing=False, coalesce_streams=True)
    # The kernel writes the version of this machine's Python here.
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:] or sorted(CHAPTERS.rglob("*.ipynb"))):
        if ".ipynb_checkpoints" not in path.parts:
            print(path)
            run(path)
