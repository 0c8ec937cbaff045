// What is wider than its box, a formula or code, scrolls by keyboard too: then, and only then, it is a tab stop. The
// theme's script (pages.py) measures every box at once, folded ones too; here one is measured when it is laid out.
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
document
  .querySelectorAll(".formula, pre, .cell_output > .output, .pst-scrollable-table-container")
  .forEach((box) => observer.observe(box));
