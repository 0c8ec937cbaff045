// Every page of the website in Firefox, whose engine is not that of the tests in Chromium: no error, formulas, folds, the
// theme, the search, and a live figure that moves. Needs puppeteer-core (.ci/run) and Firefox: `node firefox.cjs FOLDER`.
const fs = require("fs");
const http = require("http");
const path = require("path");
const { createRequire } = require("module");

const puppeteer = createRequire(path.resolve(process.argv[2], "x"))("puppeteer-core");
const site = path.join(__dirname, "../../../_build/html");
const types = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };
const server = http.createServer((request, response) => {
  const file = path.join(site, decodeURIComponent(new URL(request.url, "http://x").pathname));
  if (!fs.existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": types[path.extname(file)] ?? "application/octet-stream" });
  response.end(fs.readFileSync(file));
});
const isPage = (name) => name.endsWith(".html") && /data-content_root/.test(fs.readFileSync(path.join(site, name)));
const pages = fs.readdirSync(site, { recursive: true }).filter(isPage).map((name) => name.replaceAll("\\", "/"));

// What is wrong on a page, as the reader's browser sees it.
const look = async () => {
  const wrong = [];
  const formulas = document.querySelectorAll("span.math, div.math");
  if ([...formulas].some((formula) => !formula.querySelector("math"))) wrong.push("a raw formula");
  for (const fold of document.querySelectorAll("article details")) {
    fold.querySelector("summary").click();
    if (!fold.open) wrong.push(`stays closed: ${fold.textContent.slice(0, 40)}`);
  }
  const ground = () => getComputedStyle(document.body).backgroundColor;
  const grounds = new Set([ground()]);
  for (const _ of "123") {
    document.querySelector(".theme-switch-button").click();
    grounds.add(ground());
  }
  if (grounds.size !== 2) wrong.push("one theme");
  await document.fonts.ready;
  if (![...document.fonts].some((font) => /Book/.test(font.family) && font.status === "loaded")) wrong.push("no typeface");
  for (const figure of document.querySelectorAll(".kl2dpo-live")) {
    figure.scrollIntoView();
    const until = Date.now() + 3000;
    while (!figure.querySelector("svg") && Date.now() < until) await new Promise((done) => setTimeout(done, 50));
    const [before, input] = [figure.querySelector("svg")?.innerHTML, figure.querySelector("input")];
    input.value = +input.value === +input.max ? input.min : input.max;
    for (const type of ["input", "change"]) input.dispatchEvent(new Event(type, { bubbles: true }));
    await new Promise((done) => setTimeout(done, 100));
    if (!before || figure.querySelector("svg").innerHTML === before) wrong.push("a figure that does not move");
  }
  return wrong;
};

server.listen(0, "localhost", async () => {
  const root = `http://localhost:${server.address().port}/`;
  const firefox = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    defaultViewport: null,
    args: ["--width=1280", "--height=900"],
  });
  const tab = await firefox.newPage();
  const found = [];
  const note = (text) => found.push(`${tab.url()}: ${text}`);
  tab.on("console", (message) => message.type() === "error" && note(message.text()));
  // It also complains of a formula whose markup has come in half so far.
  tab.on("pageerror", (error) => /Invalid markup/.test(error) || note(error));
  tab.on("requestfailed", (request) => note(`failed: ${request.url()}`));
  const visit = async (page) => {
    await tab.goto(root + page, { waitUntil: "load" });
    await tab.waitForSelector("html[data-ready]"); // its scripts have run
  };
  for (const page of pages) {
    await visit(page);
    (await tab.evaluate(look)).forEach(note);
  }
  await visit("search.html?q=KL散度");
  if (!(await tab.$("#found mark"))) note("nothing found");
  await firefox.close();
  server.close();
  console.log(found.length ? found.join("\n") : `${pages.length} pages, nothing wrong in Firefox.`);
  process.exitCode = found.length ? 1 : 0;
});
