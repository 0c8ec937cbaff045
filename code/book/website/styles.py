"""One style sheet for the whole site, of the rules that can apply on some page."""

import html
import re
from itertools import pairwise

import tinycss2
from fontTools.ttLib import TTFont

from website import fonts, formulas
from website.changes import expected, met

# Built from parts in bootstrap.js, so that no page and no script has the whole name.
TOOLTIP = expected("bs-tooltip-auto")
RULES_ONLY = {"skip_comments": True, "skip_whitespace": True}


def words(pages, scripts):
    """Every class and id that a page has, and every word of a script, which may add it to one."""
    found = {TOOLTIP}
    for page in pages:
        for _, value in re.findall(r"\b(?:class|id)=([\"'])(.*?)\1", page, flags=re.DOTALL):
            found.update(value.split())
    for script in scripts:
        found.update(re.findall(r"[\w-]+", script))
    return found


def read(sheet, static):
    """The rules of a style sheet and of those that it imports, with addresses from `static`."""
    folder = sheet.parent.resolve().relative_to(static).as_posix()
    text = sheet.read_text(encoding="utf-8")
    text = re.sub(r"url\(([\"']?)(?!data:|[\"'#])", rf"url(\1{folder}/", text)
    for rule in tinycss2.parse_stylesheet(text, **RULES_ONLY):
        if rule.type == "at-rule" and rule.lower_at_keyword == "import":
            target = next(token.value for token in rule.prelude if token.type == "string")
            yield from read(sheet.parent / target, static)
        else:
            yield rule


def can_match(selector, known):
    """Whether all its classes and ids are known, other than those in :not() and the like."""
    names = [token.value for token in selector if token.type == "hash"]
    names += [b.value for a, b in pairwise(selector) if a == "." and b.type == "ident"]
    return known.issuperset(names)


def squeezed(tokens):
    """Text of tokens, without comments and with single spaces."""
    texts = {"whitespace": " ", "comment": ""}
    return "".join(texts.get(token.type, token.serialize()) for token in tokens).strip()


def selectors(prelude):
    """The parts of a selector list."""
    parts = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        elif token.type != "comment":
            parts[-1].append(token)
    return parts


def purge(rules, known):
    """The text of the rules that can match; without @font-face, see `bundle`."""
    for rule in rules:
        if rule.type == "qualified-rule":
            kept = [squeezed(part) for part in selectors(rule.prelude) if can_match(part, known)]
            if kept:
                yield f"{','.join(kept)}{{{squeezed(rule.content)}}}\n"
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            nested = tinycss2.parse_rule_list(rule.content, **RULES_ONLY)
            content = "".join(purge(nested, known))
            if content:
                yield f"@{rule.at_keyword} {squeezed(rule.prelude)}{{{content}}}\n"
        elif rule.type == "at-rule" and rule.lower_at_keyword not in ("charset", "font-face"):
            yield rule.serialize() + "\n"
        elif rule.type == "error":
            raise ValueError(f"line {rule.source_line} of a style sheet: {rule.message}")


def icons(css, webfonts):
    """Font Awesome, cut to the icons that the rules name."""
    named = {character for character in css if "\ue000" <= character <= "\uf8ff"}
    files = ("solid-900", "Free"), ("regular-400", "Free"), ("brands-400", "Brands")
    for file, kind in files if named else ():
        with TTFont(webfonts / f"fa-{file}.ttf", recalcTimestamp=False) as font:
            yield fonts.face(font, named, f"Font Awesome 6 {kind}", file[-3:], "normal")


def bundle(sheets, known, pages, static):
    """The text of the one style sheet, which lies in the folder `static`."""
    theme = "".join(rule for sheet in sheets for rule in purge(read(sheet, static), known))
    met[TOOLTIP] += theme.count(TOOLTIP)
    glyphs = icons(theme, static / "vendor" / "fontawesome" / "webfonts")
    characters = set(html.unescape("".join(pages)))
    text = fonts.text_faces(theme, characters, static / "fonts")
    return "".join([formulas.face(pages), *glyphs, *text, theme])
