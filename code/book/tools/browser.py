"""The browser of this machine, for what is made from the built website."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find():
    """The program: that of the variable CHROMIUM, or the first one found on the path, or None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def launch(playwright):
    """Start it without a window. It asks for no other host on its own."""
    program = find()
    options = {"executable_path": program} if program else {"channel": "chrome"}
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    # Chromium's sandbox refuses to run as root, as in a container.
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    args = ["--disable-gpu", "--no-first-run", *quiet, *root]
    return playwright.chromium.launch(args=args, **options)
