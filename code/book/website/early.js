// What cannot wait for the first paint: written into the head of every page.
{
  // The theme's script does this too, but after the first paint: a flash, and all styles anew.
  const root = document.documentElement.dataset;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  if (root.theme === "auto") root.theme = dark ? "dark" : "light";
}
// The other scripts come after the first paint: a browser that had them before would run them first.
addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => setTimeout(() => {
  let script;
  for (const late of document.querySelectorAll("script[data-src]")) {
    script = Object.assign(document.createElement("script"), { async: false, src: late.dataset.src });
    late.replaceWith(script);
  }
  script.onload = () => (document.documentElement.dataset.ready = "");
})));
// Back on a page, the browser scrolls to where the reader was: there, all heights must be true (book.css).
if (performance.getEntriesByType("navigation")[0]?.type !== "navigate") document.documentElement.style.setProperty("--far", "visible");
// The fonts inside the style sheet are read when a text first asks for them: too late for the first paint, and lines move.
document.fonts.forEach((font) => /STIX|Awesome/.test(font.family) && font.load());
