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

  // Some browsers do not open the fold to which a link leads, and none on the way back.
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    target?.closest("details")?.setAttribute("open", "");
  };
  addEventListener("hashchange", open);
  open();
})();
