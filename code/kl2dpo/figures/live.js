// Live figures: one script a page. A figure brings its compiled formulas, and this moves its parts.
(() => {
  const KEEP = 5000; // Steps after which a map that does not come to rest is paused.
  const REST = 10000; // As in Python.
  const fixed = (x, n) => {
    if (!Number.isFinite(x)) return Number.isNaN(x) ? "–" : x > 0 ? "∞" : "−∞";
    const text = x.toFixed(n);
    return text.replace("-", /[1-9]/.test(text) ? "−" : "");
  };
  const at = ([p, q, low, high, log], u) => p + ((q - p) * ((log ? Math.log10(u) : u) - low)) / (high - low);
  const back = ([p, q, low, high, log], t) => {
    const u = low + ((high - low) * (t - p)) / (q - p);
    return log ? 10 ** u : u;
  };
  const path = (points) => "M" + points.map((p) => p.map((u) => u.toFixed(2)).join(" ")).join("L");
  // Shaft and head, as in Python: seven points long at most, with a gap at tail and tip.
  const arrow = ([[a, b], [x, y]], [before, after]) => {
    const length = Math.max(Math.hypot(x - a, y - b), 1e-9);
    const [u, v] = [(x - a) / length, (y - b) / length];
    const [start, end] = length > before + after ? [before, length - after] : [0, 0];
    const base = Math.max(end - 7, start);
    const on = (t, side = 0) => [a + u * t + v * side, b + v * t - u * side];
    const wide = 0.42 * (end - base);
    return path([on(start), on(base)]) + path([on(base, wide), on(end), on(base, -wide)]) + "Z";
  };
  const finite = (numbers) => numbers.every(Number.isFinite);

  const wake = ([name, formulas, settle, maps, spec]) =>
    document.querySelectorAll(`[data-live="${name}"]:not([data-awake])`).forEach((host) => {
      host.dataset.awake = "";
      const find = (what) => [...host.querySelectorAll(what)];
      // The picture comes as an image, which a notebook without trust shows, too. Only elements can be moved.
      const image = host.querySelector("img");
      const source = decodeURIComponent(image.getAttribute("src").replace(/^[^,]*,/, ""));
      const svg = document.importNode(new DOMParser().parseFromString(source, "image/svg+xml").documentElement, true);
      image.replaceWith(svg);
      const fields = find("input, select");
      const plays = find("[data-play]");
      const [said, noted, heard] = [".live-say", ".live-note", ".live-heard"].map((part) => host.querySelector(part));
      const { inputs, parts, axes } = spec;
      const calm = matchMedia("(prefers-reduced-motion: reduce)");
      let v = [...spec.start];
      let mine = v; // what the reader has chosen, and the start of the rest
      let running, timer;
      let rested = {}; // where the map of `settle` came to rest, and on which values that depends
      let note = "";

      const settled = (values) => {
        if (!settle) return values;
        const on = spec.restOn.map((k) => values[k]).join();
        if (rested.on !== on) {
          let x = spec.rest;
          let moves = true;
          for (let k = 0; moves && k < REST && finite(x); k++) {
            const before = x;
            x = settle([...values, ...x]);
            moves = !x.every((u, i) => Math.abs(u - before[i]) <= 1e-12 * (1 + Math.abs(u)));
          }
          rested = { on, x: x.map((u) => (moves ? NaN : u)) };
        }
        return [...values, ...rested.x];
      };

      const element = Object.fromEntries(parts.map(({ id }) => [id, svg.getElementById(id)]));
      const write = (segments, out) => segments.map((s) => (Array.isArray(s) ? fixed(out[s[0]], s[1]) : s)).join("");

      const move = (part, out) => {
        const { id, kind } = part;
        const [X, Y] = axes[part.axes];
        const places = (slots, span) =>
          (Array.isArray(slots) ? slots.map((slot) => out[slot]) : out[slots])?.map((u) => at(span, u));
        const x = places(part.x, X) ?? part.sides;
        const y = places(part.y, Y) ?? part.sides;
        const z = places(part.z, Y) ?? [];
        const there = (part.shown === null || out[part.shown]) && finite([...x, ...y, ...z]);
        const group = element[id];
        group.style.visibility = there ? "" : "hidden";
        if (part.grip) part.grip.style.visibility = group.style.visibility;
        if (!there) return;
        const points = x.map((u, k) => [u, y[k]]);
        if (kind === "text") {
          const shift = points[0].map((u, k) => (u - part.from[k]).toFixed(3));
          group.setAttribute("transform", `translate(${shift.join(" ")})`);
          if (part.say) group.querySelector("text").textContent = write(part.say, out);
          return;
        }
        const d = {
          line: () => path(points),
          bar: () => path([points[0], [x[1], y[0]], points[1], [x[0], y[1]]]) + "Z",
          area: () => path(points.concat(z.map((u, k) => [x[k], u]).reverse())) + "Z",
          arrow: () => arrow(points, part.gaps),
        }[kind]();
        group.querySelectorAll(":scope > path").forEach((line) => line.setAttribute("d", d));
        group.querySelectorAll("use").forEach((mark, k) => {
          mark.setAttribute("x", points[k][0].toFixed(3));
          mark.setAttribute("y", points[k][1].toFixed(3));
        });
        if (part.grip) points[0].forEach((u, k) => part.grip.setAttribute(["cx", "cy"][k], u));
      };

      const broken = (out) => spec.domain.find(([slot]) => !out[slot])?.[1];
      const draw = () => {
        const out = formulas(settled(v));
        const outside = broken(out);
        if (!outside) {
          parts.forEach((part) => move(part, out));
          said.textContent = write(spec.say, out);
        }
        const notes = outside ? [outside] : spec.notes.filter(([slot]) => out[slot]).map(([, text]) => text);
        noted.textContent = [...new Set([...notes, note])].filter(Boolean).join(" ");
        // Heard when it has come to rest, not at every pixel of a drag.
        clearTimeout(timer);
        timer = setTimeout(() => running || (heard.textContent = `${said.textContent} ${noted.textContent}`), 700);
        return !outside;
      };

      // What a control may stand on: the number that is shown is the number that is used.
      const fit = (k, x) => {
        const { low, high, step, log, digits } = inputs[k];
        if (!Number.isFinite(x)) return v[k];
        x = Math.min(high, Math.max(low, x));
        return Number(log ? x.toPrecision(3) : (low + Math.round((x - low) / step) * step).toFixed(digits));
      };
      const read = (k) => {
        const { kind, low, high, log, ticks } = inputs[k];
        const u = kind === "choice" ? Number(fields[k].value) : fields[k].valueAsNumber;
        return fit(k, log ? low * (high / low) ** (u / ticks) : u);
      };
      const show = (k) => {
        const { kind, low, high, log, unit, digits, ticks } = inputs[k];
        fields[k].value = log ? (ticks * Math.log(v[k] / low)) / Math.log(high / low) : v[k];
        if (kind !== "range") return;
        const text = (log ? String(Number(v[k].toPrecision(3))) : fixed(v[k], digits)) + unit;
        fields[k].setAttribute("aria-valuetext", text);
        fields[k].nextElementSibling.textContent = text;
      };

      const pause = () => {
        cancelAnimationFrame(running);
        running = undefined;
        plays.forEach((button) => (button.textContent = "▶\uFE0E " + button.dataset.play));
      };
      const step = ([, places, f]) => {
        const next = f(settled(v));
        if (!finite(next)) {
          note = "The next step has no finite value.";
          return false;
        }
        const before = v;
        v = [...v];
        places.forEach((k, i) => (v[k] = next[i]));
        const outside = inputs.some(({ low, high }, k) => v[k] < low || v[k] > high) && "Here the range of a control ends.";
        note = outside || broken(formulas(settled(v))) || "";
        if (note) {
          v = before;
          return false;
        }
        places.filter((k) => k < fields.length).forEach(show);
        if (v.some((x, k) => Math.abs(x - before[k]) > 1e-7 * (1 + Math.abs(x)))) return true;
        note = "At rest.";
        return false;
      };
      const play = (map, button) => {
        pause();
        let left = KEEP;
        const go = () => {
          if (left--) return step(map);
          note = `Paused after ${KEEP} steps.`;
          return false;
        };
        if (calm.matches) {
          while (go());
          return;
        }
        button.textContent = "❚❚ Pause";
        let shown = 0;
        let text;
        let same = 0; // pictures in which no number has changed: the longer, the more steps a picture
        const tick = (now) => {
          if (now - shown < 15) return (running = requestAnimationFrame(tick));
          shown = now;
          let going = true;
          for (let k = 0; going && k <= same; k++) going = go();
          running = going ? requestAnimationFrame(tick) : undefined;
          if (!running) pause();
          draw();
          same = host.textContent === text ? same + 1 : 0;
          text = host.textContent;
        };
        running = requestAnimationFrame(tick);
      };

      const change = (k, x) => {
        mine = mine.map((u, j) => (j === k ? x : u));
        if (v[k] === x) return;
        v[k] = x;
        note = "";
        draw();
      };
      fields.forEach((field, k) => {
        field.addEventListener("input", () => {
          change(k, read(k));
          if (inputs[k].kind !== "number") show(k); // not while one types
        });
        field.addEventListener("change", () => show(k));
      });
      find("button").forEach((button) =>
        button.addEventListener("click", () => {
          const { play: name, push, to } = button.dataset;
          const going = running && button.textContent.startsWith("❚");
          const map = maps.find(([label]) => label === (name ?? push));
          pause();
          note = "";
          if (name && !going) play(map, button);
          if (push) step(map);
          if (to) {
            if (to === "start") mine = spec.start;
            v = [...mine];
            fields.forEach((_, k) => show(k));
          }
          draw();
        }),
      );
      spec.drag.forEach(([p, ...places]) => {
        const part = parts[p];
        part.grip = document.createElementNS("http://www.w3.org/2000/svg", "circle");
        part.grip.setAttribute("r", 14);
        part.grip.setAttribute("class", "live-grip");
        svg.append(part.grip); // above all that is drawn
        const slots = [part.x[0], part.y[0]];
        // The value of an input at which the point is nearest to u.
        const seek = (k, slot, u) => {
          const value = (x) => formulas(settled(v.map((y, j) => (j === k ? x : y))))[slot];
          if (value(u) === u) return u;
          let { low, high } = inputs[k];
          const rises = value(high) > value(low);
          for (let n = 0; n < 12; n++) {
            const x = (low + high) / 2;
            if (value(x) > u === rises) high = x;
            else low = x;
          }
          return low;
        };
        if (places[1] === null) part.grip.style.cursor = "ew-resize";
        let from;
        const place = ({ clientX, clientY }) => {
          const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
          return [x, y];
        };
        // Or a finger would move the page; touch-action is not heeded everywhere in an SVG.
        part.grip.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
        part.grip.addEventListener("pointerdown", (event) => {
          part.grip.setPointerCapture(event.pointerId);
          from = place(event).map((u, i) => u - part.grip.getAttribute(["cx", "cy"][i]));
        });
        part.grip.addEventListener("pointermove", (event) => {
          if (!part.grip.hasPointerCapture(event.pointerId)) return;
          place(event).forEach((t, i) => {
            const k = places[i];
            if (k === null) return;
            change(k, fit(k, seek(k, slots[i], back(axes[part.axes][i], t - from[i]))));
            show(k);
          });
        });
      });
      // JupyterLab's shortcuts are not for these keys.
      host.addEventListener("keydown", (event) => event.stopPropagation());
      host.querySelector(".live-controls").style.display = "";
      fields.forEach((_, k) => show(k));
      if (spec.drag.length) draw();
    });

  const waiting = window.kl2dpoLive ?? [];
  if (!Array.isArray(waiting)) return;
  window.kl2dpoLive = { push: wake };
  waiting.forEach(wake);
})();
