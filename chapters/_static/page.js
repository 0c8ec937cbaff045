// What styles cannot do.
(() => {
  // A page in dark mode is printed in the light colours of the theme.
  const root = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = theme;
  });

  // The theme makes code that scrolls a tab stop when the window changes: so also when a fold opens.
  const measure = () => dispatchEvent(new Event("resize"));
  document.addEventListener("toggle", measure, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest(".dropdown > .admonition-title")) {
      measure();
    }
  });
})();
