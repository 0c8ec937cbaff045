// Lighthouse on every page of the book, as a phone sees it: it fails where the median of three runs is below these scores.
const fs = require("fs");
const site = "_build/html";
const pages = fs.readdirSync(`${site}/chapters`, { recursive: true }).filter((name) => name.endsWith(".html"));

const best = (minScore) => ["error", { minScore, aggregationMethod: "median" }];

module.exports = {
  ci: {
    collect: {
      staticDistDir: site,
      url: pages.map((name) => `http://localhost/chapters/${name.replaceAll("\\", "/")}`),
      numberOfRuns: 3,
      settings: {
        onlyCategories: ["performance", "accessibility", "best-practices", "seo"],
        // Without the last ones, Chromium calls home.
        chromeFlags:
          "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync",
      },
    },
    assert: {
      assertions: {
        "categories:performance": best(0.97),
        "categories:accessibility": best(1),
        "categories:best-practices": best(1),
        "categories:seo": best(1),
      },
    },
    upload: { target: "filesystem", outputDir: "_build/lighthouse" },
  },
};
