// A formula that is wider than its box scrolls by keyboard too: then, and only then, it is a tab stop.
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document.querySelectorAll(".formula").forEach((box) => observer.observe(box));
