"""The table of the chapters in the README is that of the book, in its order."""

import ast
import re
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| (\d+) \| \[([^]]+)\]\(([^)]+)\.ipynb\) \| [^|]+ \| ([^|]+) \|")
ROWS = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def cells(page, kind):
    notebook = nbformat.read(ROOT / f"{page}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_chapters_have_their_numbers_and_titles():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in toc["parts"] if part.get("numbered")]
    pages = [chapter["file"] for part in parts for chapter in part["chapters"]]
    titles = [re.search(r"^# (.+)$", cells(page, "markdown")[0], re.MULTILINE)[1] for page in pages]
    expected = [(str(n), *rest) for n, rest in enumerate(zip(titles, pages), start=1)]
    assert [row[:3] for row in ROWS] == expected


@pytest.mark.parametrize("number, title, page, modules", ROWS)
def test_chapter_calls_its_modules(number, title, page, modules):
    imported = [
        getattr(import_module(node.module), name.name)
        for cell in cells(page, "code")
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kl2dpo")
        for name in node.names
    ]
    # A function knows its module; a module is one.
    homes = {getattr(thing, "__module__", thing.__name__) for thing in imported}
    homes = {".".join(home.split(".")[:2]) for home in homes}  # of a room, the house
    listed = re.findall(r"`(\w+)`", modules)
    assert listed and {f"kl2dpo.{module}" for module in listed} <= homes
