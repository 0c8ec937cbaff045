"""Fonts cut to the glyphs that the site shows.

Those of formulas and icons are inside its style sheet: Firefox refuses a font from the folder above
a page that is opened as a file, and a formula without its font cannot be read. Those of the text
are files, asked for early (templates/layout.html), that no page waits for: one that does not come
within a blink is kept for the next page, and in its place stands a font of the system, scaled to
its widths. So nothing moves.

A cut font may not have the name of the whole one (its licence, which lies beside it, says so).
"""

import base64
import io
import logging
from importlib.resources import files

from fontTools import subset
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

# It remarks on the dates inside the fonts.
logging.getLogger("fontTools").setLevel(logging.ERROR)

# Of each typeface: the package; of each file on the site, what it is made from, its weight and its style (one weight a
# file: Chromium prints a font with more as drawings); and what stands in, fonts of one width on most systems, with the
# mean width of a letter of SAMPLE there.
TEXT = {
    "Book Serif": (
        "fontpkg_source_serif_4",
        {
            "serif": ("SourceSerif4[opsz,wght].ttf", 400, "normal"),
            "serif-bold": ("SourceSerif4[opsz,wght].ttf", 600, "normal"),
            "serif-italic": ("SourceSerif4-Italic[opsz,wght].ttf", 400, "italic"),
        },
        (("Times New Roman", "Liberation Serif", "Tinos"), 0.414),
    ),
    "Book Sans": (
        "fontpkg_inter",
        {
            "sans": ("Inter[opsz,wght].ttf", 400, "normal"),
            "sans-bold": ("Inter[opsz,wght].ttf", 600, "normal"),
        },
        (("Arial", "Liberation Sans", "Arimo"), 0.468),
    ),
    "Book Mono": (
        "fontpkg_jetbrains_mono",
        {"mono": ("JetBrainsMono[wght].ttf", 400, "normal")},
        (("Courier New", "Liberation Mono", "Cousine"), 0.6),
    ),
}
SAMPLE = "People read two answers of a language model and choose the better one."


def cut(font, characters, **options):
    """Take all but these characters out of the font; False if it has none of them."""
    options = subset.Options(flavor="woff2", hinting=False, notdef_outline=True, **options)
    options.name_IDs = [0, 13, 14]  # its copyright and licence
    wanted = {ord(character) for character in characters} & set(font.getBestCmap())
    if wanted:
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=wanted)
        subsetter.subset(font)
        font.flavor = "woff2"
    return bool(wanted)


def rule(family, **descriptors):
    """A @font-face rule."""
    text = ";".join(f"{name.replace('_', '-')}:{value}" for name, value in descriptors.items())
    return f'@font-face{{font-family:"{family}";{text}}}\n'


def face(font, characters, family, weight, style):
    """The rule with the font in it, with these characters only; nothing if it has none of them."""
    if not cut(font, characters):
        return ""
    file = io.BytesIO()
    font.save(file)
    source = f"url(data:font/woff2;base64,{base64.b64encode(file.getvalue()).decode()})"
    source += ' format("woff2")'
    return rule(family, font_weight=weight, font_style=style, src=source)


def text_faces(css, characters, folder):
    """The rules of the typefaces that `css` names, for files in `folder`, and of what stands in."""
    for family in [family for family in TEXT if family in css]:
        package, made, stand_in = TEXT[family]
        folder.mkdir(exist_ok=True)
        licence = files(package) / "LICENSE"
        (folder / f"{package}.txt").write_bytes(licence.read_bytes())
        for name, (file, weight, style) in made.items():
            font = TTFont(files(package) / "files" / file, recalcTimestamp=False)
            features = ["ccmp", "kern", "mark", "tnum"]
            cut(font, characters | {*SAMPLE}, layout_features=features)
            axes = {"opsz": 14, "wght": weight}
            axes = {axis.axisTag: axes[axis.axisTag] for axis in font["fvar"].axes}
            instancer.instantiateVariableFont(font, axes, inplace=True)
            font.save(folder / f"{name}.woff2")
            yield rule(
                family,
                font_weight=weight,
                font_style=style,
                font_display="optional",
                src=f'url({folder.name}/{name}.woff2) format("woff2")',
            )
            if (weight, style) == (400, "normal"):
                yield scaled(f"{family} Stand-in", font, *stand_in)


def scaled(family, font, names, width):
    """The rule for fonts of the system at the width and on the lines of this one."""
    glyphs, units = font.getBestCmap(), font["head"].unitsPerEm
    own = sum(font["hmtx"][glyphs[ord(letter)]][0] for letter in SAMPLE) / len(SAMPLE) / units
    above, below = (
        size / units * width / own for size in (font["hhea"].ascent, -font["hhea"].descent)
    )
    return rule(
        family,
        src=",".join(f'local("{name}")' for name in names),
        size_adjust=f"{own / width:.1%}",
        ascent_override=f"{above:.1%}",
        descent_override=f"{below:.1%}",
        line_gap_override="0%",
    )
