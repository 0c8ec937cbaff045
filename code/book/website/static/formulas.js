// A formula that is wider than its box scrolls by keyboard too: then, and only then, it is a tab stop.
const boxes = document.querySelectorAll(".katex-display");

function setTabStops() {
  const wide = Array.from(boxes, (box) => box.scrollWidth > box.clientWidth);
  boxes.forEach((box, i) => {
    if (wide[i]) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}

addEventListener("resize", setTabStops);
setTabStops();
