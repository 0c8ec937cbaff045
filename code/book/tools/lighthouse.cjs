// Lighthouse on every page of the book, as a phone sees it: fails where the median of three runs is below these scores.
const fs = require("fs");
const path = require("path");

const site = path.join(__dirname, "../../../_build/html");
const files = fs.readdirSync(path.join(site, "chapters"), { recursive: true });
// An old address only leads to a new one.
const isPage = (name) => name.endsWith(".html") && /data-content_root/.test(fs.readFileSync(path.join(site, "chapters", name)));
const pages = files.filter(isPage).map((name) => name.replaceAll("\\", "/"));
const atLeast = (minScore) => ["error", { minScore, aggregationMethod: "median" }];
// Without a display, Chromium may show the first frame one or two whole seconds late, unless it draws every frame at
// once. Without the last ones, it calls home.
const flags =
  "--headless=new --no-sandbox --disable-gpu --run-all-compositor-stages-before-draw --no-first-run " +
  "--disable-background-networking --disable-component-update --disable-sync";

module.exports = {
  ci: {
    collect: {
      // Its server compresses, as those of the hosts do.
      staticDistDir: site,
      url: pages.map((name) => `http://localhost/chapters/${name}`),
      numberOfRuns: 3,
      settings: { chromeFlags: flags, onlyCategories: ["performance", "accessibility", "best-practices", "seo"] },
    },
    assert: {
      assertions: {
        "categories:performance": atLeast(0.97),
        "categories:accessibility": atLeast(1),
        "categories:best-practices": atLeast(1),
        "categories:seo": atLeast(1),
      },
    },
  },
};
