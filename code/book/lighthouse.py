"""Lighthouse on every page of the built website, as a phone sees it: the median of three runs.

python code/book/lighthouse.py [SITE] [PAGE ...]      (default: _build/html, all pages of the book)

Needs Chromium and, for npx, Node. For comparison, give the folder of another build.
"""

import gzip
import json
import mimetypes
import os
import shutil
import statistics
import subprocess
import sys
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RUNS = 3
# The last version for Node 18 to 20; newer ones want Node 22.
LIGHTHOUSE = os.environ.get("LIGHTHOUSE", "npx --yes lighthouse@12.8.2").split()
CATEGORIES = ["performance", "accessibility", "best-practices", "seo"]
# Without the last ones, Chromium calls home.
CHROME_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


class Pages(BaseHTTPRequestHandler):
    """A static server that compresses, as those of the hosts do."""

    protocol_version = "HTTP/1.1"
    site = None

    def do_GET(self):
        path = self.site / self.path.split("?")[0].lstrip("/")
        if not path.resolve().is_relative_to(self.site) or not path.is_file():
            self.send_error(404)
            return
        body = compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", mimetypes.guess_type(path.name)[0] or "text/plain")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@cache
def compressed(path):
    return gzip.compress(path.read_bytes(), 6)


def lighthouse(url):
    command = [
        *LIGHTHOUSE,
        url,
        "--quiet",
        "--output=json",
        f"--only-categories={','.join(CATEGORIES)}",
        f"--chrome-flags={CHROME_FLAGS}",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"Lighthouse failed on {url}:\n{result.stderr}")
    return json.loads(result.stdout)


def row(reports):
    """The medians of the scores, and what was transferred."""

    def median(value):
        return statistics.median(value(report) for report in reports)

    def audit(name):
        return median(lambda report: report["audits"][name]["numericValue"])

    def requests(report):
        items = report["audits"]["network-requests"]["details"]["items"]
        return [item for item in items if item["url"].startswith("http")]

    def score(category):
        return median(lambda report: report["categories"][category]["score"] or 0)

    return [
        *(f"{100 * score(category):.0f}" for category in CATEGORIES),
        f"{audit('first-contentful-paint') / 1000:.1f}",
        f"{audit('largest-contentful-paint') / 1000:.1f}",
        f"{audit('total-blocking-time'):.0f}",
        f"{audit('cumulative-layout-shift'):.3f}",
        f"{median(lambda r: sum(i['transferSize'] for i in requests(r))) / 1024:.0f}",
        f"{median(lambda r: len(requests(r))):.0f}",
    ]


def failures(report):
    """The audits without a full score, of the categories that should have one."""
    for category in CATEGORIES[1:]:
        for reference in report["categories"][category]["auditRefs"]:
            audit = report["audits"][reference["id"]]
            if reference["weight"] and audit["score"] not in (None, 1):
                yield f"  {category}: {audit['title']}"


def main(site="_build/html", *pages):
    chromium = os.environ.get("CHROME_PATH") or shutil.which("chromium") or shutil.which("chrome")
    if not chromium or not shutil.which(LIGHTHOUSE[0]):
        sys.exit("make lighthouse needs Chromium and Node (its npx) on the path.")
    os.environ["CHROME_PATH"] = chromium
    Pages.site = Path(site).resolve()
    pages = pages or sorted(
        path.relative_to(Pages.site).as_posix() for path in Pages.site.glob("chapters/**/*.html")
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("| page | perf. | access. | best | SEO | FCP s | LCP s | TBT ms | CLS | KB | requests |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for page in pages:
        url = f"http://127.0.0.1:{server.server_port}/{page}"
        reports = [lighthouse(url) for _ in range(RUNS)]
        print(f"| {page} | {' | '.join(row(reports))} |", flush=True)
        print("\n".join(failures(reports[0])), end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
