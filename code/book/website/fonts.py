"""Fonts cut to the glyphs that the site shows, inside its style sheet.

Inside, because Firefox refuses a font from the folder above a page that is opened as a file, and
because text then never waits for its font, nor moves when the font arrives.
"""

import base64
import io
import logging

from fontTools import subset

# It remarks on the dates inside the fonts.
logging.getLogger("fontTools").setLevel(logging.ERROR)


def face(font, characters, family, weight, style):
    """A @font-face rule for the font with these characters only; nothing if it has none of them."""
    options = subset.Options(flavor="woff", hinting=False, notdef_outline=True)
    options.name_IDs = [0, 13, 14]  # its copyright and licence
    wanted = {ord(character) for character in characters} & set(font.getBestCmap())
    if not wanted:
        return ""
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=wanted)
    subsetter.subset(font)
    font.flavor = options.flavor
    file = io.BytesIO()
    font.save(file)
    source = f"url(data:font/woff;base64,{base64.b64encode(file.getvalue()).decode()})"
    rule = f'font-family:"{family}";font-weight:{weight};font-style:{style};src:{source}'
    return f'@font-face{{{rule} format("woff")}}\n'
