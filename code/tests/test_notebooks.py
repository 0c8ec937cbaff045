"""What must hold for every notebook besides its outputs, which nbval compares."""

import base64
import getpass
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHAPTERS = ROOT / "chapters"


def pages(suffix):
    return [p for p in sorted(CHAPTERS.rglob(f"*{suffix}")) if ".ipynb_checkpoints" not in p.parts]


NOTEBOOKS = pages(".ipynb")
EVERYTHING = NOTEBOOKS + pages(".md")


@cache
def read(path):
    """A notebook, read once for all tests: none of them changes it."""
    return nbformat.read(path, as_version=4)


@cache
def text_of(path):
    """The Markdown of a page."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


@pytest.fixture
def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def data_of(cell):
    """The rich outputs of a cell: pairs of a MIME type and its content."""
    return [item for output in cell.outputs for item in output.get("data", {}).items()]


def text_outputs(cell):
    """Every output of a cell that is text."""
    printed = [output.text for output in cell.outputs if "text" in output]
    return printed + [content for _, content in data_of(cell) if isinstance(content, str)]


def test_is_executed_from_top_to_bottom(code_cells):
    assert [cell.execution_count for cell in code_cells] == list(range(1, len(code_cells) + 1))


def test_has_no_error_and_no_stderr(code_cells):
    outputs = [output for cell in code_cells for output in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]


def test_kernel_is_named_without_a_version(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    # A patch version here would change with every machine.
    assert notebook.metadata.language_info == {"name": "python"}


def test_outputs_name_no_machine_and_no_user(code_cells):
    private = re.compile(
        r"(?<![\w.])/(?:home|Users|root|tmp|var|opt|usr)/|[A-Za-z]:\\\\|\bat 0x[0-9a-f]+|site-packages"
    )
    user = re.compile(rf"\b{re.escape(getpass.getuser())}\b")
    for cell in code_cells:
        for text in text_outputs(cell):
            assert not private.search(text), private.search(text)
            # A word of the cell itself is no user name, even if somebody is called so.
            assert user.search(cell.source) or not user.search(text), user.search(text)


def test_every_figure_is_named_captioned_and_described(notebook):
    # The caption is text: JupyterLab and GitHub do not look into the metadata of a cell.
    for cell, below in zip(notebook.cells, notebook.cells[1:]):
        if cell.cell_type == "markdown":
            continue
        pictures = [mime for mime, _ in data_of(cell) if mime.startswith("image/")]
        live = any("kl2dpo-live" in content for _, content in data_of(cell))
        if pictures or live:
            metadata = cell.metadata.get("mystnb", {})
            described = live or len(metadata.get("image", {}).get("alt", "")) > 40
            assert described, f"no alt text: {cell.source}"
            assert metadata.get("figure", {}).get("name", "").startswith("fig-"), cell.source
            assert below.cell_type == "markdown", f"no caption: {cell.source}"
            assert re.match(r"\*\*Figure\.\*\* \S.*\Z", below.source), f"no caption: {cell.source}"
        for mime, content in data_of(cell):
            if mime == "text/html":
                for svg in re.findall(r"<svg[^>]*>", content):
                    assert 'role="img"' in svg and re.search(r'aria-label="[^"]{40}', svg), svg
                for image in re.findall(r"<img[^>]*>", content):
                    assert re.search(r'alt="[^"]{40}', image), image


def test_every_picture_is_svg_and_seen_without_trust(code_cells):
    # nbval compares SVG, which is text, and ignores PNG and JPEG: a changed figure would pass.
    # JupyterLab drops SVG and scripts of a notebook that it does not trust, and GitHub what styles
    # SVG: both show an image.
    for outputs in (dict(data_of(cell)) for cell in code_cells):
        assert {mime for mime in outputs if mime.startswith("image/")} <= {"image/svg+xml"}
        if svg := outputs.get("image/svg+xml"):
            image = base64.b64encode(svg.encode()).decode()
            assert f'src="data:image/svg+xml;base64,{image}"' in outputs["text/html"]


def test_letters_of_a_figure_can_be_read_on_a_phone(code_cells):
    # A phone of 360 pixels leaves 328 for a figure, and its letters shrink with it.
    for cell in code_cells:
        if svg := dict(data_of(cell)).get("image/svg+xml"):
            width = float(re.search(r'viewBox="0 0 (\S+) ', svg)[1])
            points = [100 * float(scale) for scale in re.findall(r"scale\((\S+) -", svg)]
            assert min(points, default=10) * 328 / width >= 8, cell.source


def test_cells_are_short(code_cells):
    for cell in code_cells:
        lines = cell.source.splitlines()
        assert len(lines) <= 25, cell.source
        # Longer lines need a scroll bar on a screen of 1280 pixels.
        assert max(map(len, lines)) <= 79, max(lines, key=len)


def test_no_cell_ends_in_a_semicolon(code_cells):
    assert not [cell.source for cell in code_cells if cell.source.rstrip().endswith(";")]


def test_code_is_interrupted_by_text(notebook):
    assert "cccc" not in "".join(cell.cell_type[0] for cell in notebook.cells)


def test_solution_is_in_one_fold_in_jupyterlab(notebook):
    # There, running all cells opens hidden outputs, but no section: it ends at the next heading.
    folded = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search("^#", cell.source, re.MULTILINE):
            folded = cell.metadata.get("jp-MarkdownHeadingCollapsed", False)
            assert folded == (cell.source == "### Solution"), cell.source
        if "{solution-start}" in cell.source:
            assert folded and cell.source.startswith(":::{solution-start}"), cell.source
        if "{exercise}" in cell.source:
            assert "### Exercise\n\n:::{exercise}" in cell.source, cell.source


def test_what_the_website_folds_is_folded_in_jupyterlab(notebook):
    in_solution = False
    for cell in notebook.cells:
        in_solution = in_solution and "{solution-end}" not in cell.source
        if cell.cell_type == "code":
            folded = cell.metadata.get("jupyter", {})
            if in_solution or "hide-input" in cell.metadata.get("tags", []):
                assert folded.get("source_hidden"), cell.source
            if in_solution:
                assert folded.get("outputs_hidden"), cell.source
        in_solution = in_solution or "{solution-start}" in cell.source


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: path.stem)
def test_text_can_be_translated(path):
    # Footnotes and glued numbers break in a translated paragraph.
    assert not re.search(r"\[\^|\{glue", text_of(path))


LABEL = re.compile(r"(?m)^\(([\w-]+)\)=$|^:(?:label|name): *([\w-]+)$|^\$\$ \(([\w-]+)\)$")
REFERENCE = re.compile(r"\{(ref|numref|eq|prf:ref|cite:\w+)\}`(?:[^`<]*<)?([^`>]+)>?`")
SOLUTION = re.compile(r"\{solution-start\} ([\w-]+)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def labels_of(path):
    labels = ["".join(groups) for groups in LABEL.findall(text_of(path))]
    if path.suffix == ".ipynb":
        for cell in read(path).cells:
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            labels += [figure["name"]] if "name" in figure else []
    return labels


def test_labels_are_unique_and_references_resolve():
    labels = [label for path in EVERYTHING for label in labels_of(path)]
    assert len(labels) == len(set(labels)), sorted({x for x in labels if labels.count(x) > 1})
    bibliography = (CHAPTERS / "references.bib").read_text(encoding="utf-8")
    known = {"cite": set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))}
    text = "\n".join(map(text_of, EVERYTHING))
    asked = [(role, target) for role, many in REFERENCE.findall(text) for target in many.split(",")]
    asked += [("solution", target) for target in SOLUTION.findall(text)]
    assert asked
    assert not [(role, x) for role, x in asked if x not in known.get(role.split(":")[0], labels)]


def anchors_of(path):
    """What a link to a section of the page may end in."""
    # Of a heading with a dash, JupyterLab and the website make two anchors.
    headings = re.findall(r"^#+ ([^–—\n]*)$", text_of(path), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def exercises_of(path):
    return re.findall(r"^:::\{exercise\}\n:label: ([\w-]+)$", text_of(path), re.MULTILINE)


def test_relative_links_resolve():
    for path in EVERYTHING:
        for target in LINK.findall(text_of(path)):
            if not re.match(r"[a-z]+:", target):
                file, _, anchor = target.partition("#")
                page = path.parent / file if file else path
                assert page.exists(), f"{path.name}: {target}"
                # The website knows the exercises of the same page only.
                anchors = anchors_of(page) + ([] if file else exercises_of(page))
                assert not anchor or anchor in anchors, f"{path.name}: {target}"


def test_references_render_in_jupyterlab_too():
    # JupyterLab knows the labels of one notebook only.
    for path in NOTEBOOKS:
        for target in re.findall(r"\{eq\}`([\w-]+)`", text_of(path)):
            assert target in labels_of(path), f"{path.name}: {target} of another page has no text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_is_text_where_nobody_knows_myst(path):
    # GitHub and others show a fence of backticks as code, and a role or a target as it is written:
    # a link of Markdown works everywhere. An equation has its label beside it, there too.
    strange = re.findall(r"(?m)\{[\w:]+\}(?=`)|^`{3,}\{|^\([\w-]+\)=$|^:class:", text_of(path))
    assert {*strange} <= {"{eq}", "{cite:p}"}


def test_table_of_contents_lists_every_page():
    listed = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    present = [path.relative_to(ROOT).with_suffix("").as_posix() for path in EVERYTHING]
    assert sorted(listed) == sorted(present)


@cache
def chapters():
    """Number and title of each chapter, in the order of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part["chapters"] for part in toc["parts"] if part.get("numbered")]
    paths = [(ROOT / f"{chapter['file']}.ipynb").resolve() for part in parts for chapter in part]
    titles = [re.search(r"^# (.*)$", text_of(path), re.MULTILINE)[1] for path in paths]
    return {path: (number, title) for number, (path, title) in enumerate(zip(paths, titles), 1)}


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_chapter_says_once_what_it_needs(path):
    # The website puts this paragraph under the title, after the reading time.
    assert len(re.findall(r"(?:^|\n\n)You need: .*\.(?:\n\n|$)", text_of(path))) == 1


NUMBER = r"[Cc]hapter\s+(?P<number>\d+)"
# [chapter 2](properties.ipynb), [the frontier](../kl/leash.ipynb#move-the-leash) of chapter 4, and
# {eq}`of chapter 4 <eq-objective>`; in the package, chapter 4 of this course, *KL as a leash*.
LINKED = re.compile(rf"\[[^\]]*{NUMBER}[^\]]*\]\((?P<target>[^)#\s]+)[^)\s]*\)", re.DOTALL)
# chapters [6](the-model.ipynb) and [7](...)
BARE = re.compile(r"\[(?P<number>\d+)\]\((?P<target>[^)#\s]+\.ipynb)[^)\s]*\)")
BESIDE = re.compile(rf"\]\((?P<target>[^)#\s]+)[^)\s]*\)\**\s+(?:of|in|from)\s+{NUMBER}")
ROLE = re.compile(rf"\{{[\w:]+\}}`[^`<]*{NUMBER}[^`<]*<(?P<target>[^`>]+)>`")
NAMED = re.compile(rf"{NUMBER}\s+of\s+this\s+course,\s+\*(?P<title>[^*]+)\*")
LOOSE = re.compile(r"[Cc]hapters?\s+(\d+)")


@cache
def page_of_label():
    return {label: path.resolve() for path in EVERYTHING for label in labels_of(path)}


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_chapter_has_one_result_in_its_box(path):
    # A quotation, which any program sets off. The website draws a box around it.
    summary = text_of(path).partition("\n## Summary")[2].partition("\n## ")[0]
    assert text_of(path).count("\n\n> ") == summary.count("\n\n> ") == 1


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: path.stem)
def test_number_of_a_chapter_is_that_of_the_page_beside_it(path):
    rest, compared, wrong = text_of(path), set(), []
    for form in (LINKED, BARE, BESIDE, ROLE):
        for match in form.finditer(rest):
            target = match["target"]
            page = page_of_label()[target] if form is ROLE else (path.parent / target).resolve()
            if chapters().get(page, [None])[0] != int(match["number"]):
                wrong.append(match[0])
            compared.add(match["number"])
        rest = form.sub("", rest)
    assert not wrong
    # Further reading has the chapters of other books. Headings, captions and code have no links:
    # there, the number is one that the same page has beside a link.
    prose = rest.partition("\n## Further reading")[0]
    loose = LOOSE.findall("\n".join(re.findall("^#.*", prose, re.MULTILINE)))
    if path.suffix == ".ipynb":
        code = [cell for cell in read(path).cells if cell.cell_type == "code"]
        loose += LOOSE.findall("\n".join(f"{cell.source} {cell.metadata}" for cell in code))
    loose = sorted(set(loose) - compared)
    assert not loose + LOOSE.findall(re.sub("^#.*", "", prose, flags=re.MULTILINE)), "no link"


def test_number_and_title_of_a_chapter_in_the_package_and_the_readme():
    titles = dict(chapters().values())
    package, examples = ((ROOT / "code" / name).rglob("*.py") for name in ("kl2dpo", "examples"))
    for path in [ROOT / "README.md", *package, *examples]:
        text = path.read_text(encoding="utf-8")
        for match in NAMED.finditer(text):
            title = " ".join(match["title"].split())
            assert title == titles[int(match["number"])], f"{path.name}: {match[0]}"
        # In a reference, "2nd ed., chapter 10" is a chapter of a book.
        loose = LOOSE.findall(NAMED.sub("", re.sub(r"ed\., chapter \d+", "", text)))
        assert not loose, f"{path.name}: {loose} without a title"
