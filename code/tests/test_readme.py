"""The table of the chapters in the README is that of the book, in its order."""

import ast
import re
from importlib import import_module

import pytest
from test_notebooks import ROOT, chapters, read

ROW = re.compile(r"\| (\d+) \| \[([^]]+)\]\(([^)]+)\) \| [^|]+ \| ([^|]+) \|")
ROWS = ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_chapters_of_the_readme_have_their_numbers_and_titles():
    rows = {(ROOT / page).resolve(): (int(number), title) for number, title, page, _ in ROWS}
    assert [*rows.items()] == [*chapters().items()]


@pytest.mark.parametrize("number, title, page, modules", ROWS)
def test_chapter_calls_its_modules(number, title, page, modules):
    imported = [
        getattr(import_module(node.module), name.name)
        for cell in read(ROOT / page).cells
        if cell.cell_type == "code"
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kl2dpo")
        for name in node.names
    ]
    # A function knows its module; a module is one.
    homes = {getattr(thing, "__module__", thing.__name__) for thing in imported}
    homes = {".".join(home.split(".")[:2]) for home in homes}  # of a room, the house
    listed = re.findall(r"`(\w+)`", modules)
    assert listed and {f"kl2dpo.{module}" for module in listed} <= homes
