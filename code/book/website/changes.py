"""What the website changes in files and functions of others, counted.

They may look another way in the next version of a theme, where a replacement would do nothing and
say nothing. So each change is noted down here, and a build in which one met nothing fails.
"""

import re
from collections import Counter

from sphinx.errors import ExtensionError

met = Counter()


def expected(text):
    """Note down what a build must meet, a pattern for `change` or a name, and return it."""
    met[text] = 0
    return text


def change(pattern, new, text):
    """The text with every match replaced, and the matches counted."""
    text, count = re.subn(pattern, new, text, flags=re.DOTALL)
    met[pattern] += count
    return text


def begin(app, env, docnames):
    for text in met:
        met[text] = 0
    # A build that reads one changed page need not meet everything.
    if env.found_docs <= set(docnames) and app.builder.format == "html":
        app.connect("build-finished", check, priority=950)


def check(app, exception):
    missed = [text for text, count in met.items() if not count]
    if missed and not exception:
        raise ExtensionError(f"Nothing on the website matches any more: {missed}")


def setup(app):
    app.connect("env-before-read-docs", begin)
