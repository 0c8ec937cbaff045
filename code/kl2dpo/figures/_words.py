"""Texts with numbers in them, written as the script writes them."""

import re
import string
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from kl2dpo._checks import refuse


def segments(name, text, slots):
    """A text with fields such as {kl:.3f}: texts, and pairs of the place of an output and digits."""
    found, used = [], set()
    for before, key, form, _ in string.Formatter().parse(text):
        if key is None:
            found.append(before)
            continue
        # A number stays on the line of the word before it.
        found += [re.sub(" $", "\xa0", before)] if before else []
        key = key or str(len(used))
        digits = re.fullmatch(r"\.(\d+)f", form)
        refuse(key not in slots, f"a field of {name}", repr(key), f"one of {[*slots]}")
        refuse(not digits, f"the format of {key!r} in {name}", repr(form), "one such as '.3f'")
        found.append([slots[key], int(digits[1])])
        used.add(key)
    refuse(slots.keys() - used, name, repr(text), f"a field for each of {[*slots]}")
    return found


def fixed(x, digits):
    """A number with halves rounded away from zero, and a minus that is one, if any.

    >>> fixed(0.125, 2), fixed(-1, 0), fixed(-0.001, 2), fixed(np.inf, 2), fixed(np.nan, 2)
    ('0.13', '−1', '0.00', '∞', '–')
    """
    if not np.isfinite(x):
        return "–" if np.isnan(x) else "∞" if x > 0 else "−∞"
    text = str(Decimal(float(x)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return text.replace("-", "−" if re.search("[1-9]", text) else "")


def written(found, out):
    return "".join(s if isinstance(s, str) else fixed(out[s[0]], s[1]) for s in found)
