// The timeline: a line for each of the strongest classes, segments below, and a playhead. It is a slider: a click or a
// drag goes to that time, and so do the arrow keys.

const LINES = ["#009e73", "#cc79a7", "#3fa0dd", "#d55e00", "#8a6fdf", "#a08000", "#888888"];
const PLOT = { height: 190, left: 46, right: 14, top: 10, bottom: 140, strip: 148, stripHeight: 18 };
const KEY_STEP = 0.1; // seconds

export function makeTimeline(figure, clock) {
  const part = (name) => figure.querySelector(name);
  const plot = part(".plot"), legend = part(".legend"), segments = part(".segments");
  let shown = null, person = null, points = null, playhead = null, written = null; // `written`: the time that stands in words

  const colour = (label) => LINES[shown.classes.indexOf(label) % LINES.length];
  const width = () => plot.getBoundingClientRect().width - PLOT.left - PLOT.right;
  const span = () => Math.max(shown.end - shown.start, 0.001);
  const across = (time) => PLOT.left + ((time - shown.start) / span()) * width();
  const up = (probability) => PLOT.bottom - probability * (PLOT.bottom - PLOT.top);
  const percent = (probability) => `${(100 * probability).toFixed(0)} %`;
  const rounded = (seconds) => Number(seconds.toFixed(2));
  const range = ({ start, end }) => `${start.toFixed(1)}–${end.toFixed(1)} s`;

  function add(parent, name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  }

  function swatch(parent, label) {
    const square = document.createElement("i");
    square.style.background = colour(label);
    parent.append(square);
  }

  function drawAxes() {
    for (const probability of [0, 0.5, 1]) {
      const y = up(probability);
      add(plot, "line", { x1: PLOT.left, x2: PLOT.left + width(), y1: y, y2: y, stroke: "currentColor", "stroke-opacity": 0.2 });
      add(plot, "text", { x: PLOT.left - 6, y: y + 4, "text-anchor": "end" }, percent(probability));
    }
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((one) => (across(shown.start + one) - PLOT.left) >= 45) ?? 1800;
    for (let tick = Math.ceil(shown.start / step - 1e-6) * step; tick <= shown.end + 1e-6; tick += step) {
      const label = step < 1 ? tick.toFixed(1) : tick.toFixed(0);
      add(plot, "text", { x: across(tick), y: PLOT.height - 8, "text-anchor": "middle" }, `${label} s`);
    }
  }

  // A window's answer stands at its middle; the first and the last one count to the ends, as in the segments.
  function drawLines() {
    shown.classes.forEach((label, i) => {
      let path = "", isDown = false;
      for (const { time, values } of points) {
        if (values !== null) path += `${isDown ? "L" : "M"}${across(time).toFixed(1)} ${up(values[i]).toFixed(1)}`;
        isDown = values !== null;
      }
      const dash = i < LINES.length ? "none" : "5 4";
      add(plot, "path", { d: path, fill: "none", stroke: colour(label), "stroke-width": 2, "stroke-dasharray": dash, "stroke-linejoin": "round" });
    });
  }

  function drawSegments() {
    for (const { label, start, end } of person.segments) {
      const x = across(start), length = Math.max(across(end) - x - 1, 2);
      add(plot, "rect", { x, y: PLOT.strip, width: length, height: PLOT.stripHeight, rx: 3, fill: colour(label) });
      if (length > 7 * label.length + 8) add(plot, "text", { x: x + 5, y: PLOT.strip + 13, class: "inside" }, label);
    }
  }

  function draw() {
    if (shown === null || width() <= 0) return;
    plot.replaceChildren();
    plot.setAttribute("height", PLOT.height);
    drawAxes();
    drawLines();
    drawSegments();
    playhead = add(plot, "line", { class: "playhead", y1: PLOT.top, y2: PLOT.strip + PLOT.stripHeight, stroke: "currentColor", "stroke-width": 2 });
    written = null;
  }

  function writeWords() {
    const { config } = shown;
    part(".meaning").textContent = `Each point is the answer on the ${rounded(config.window)} s around it, smoothed a little; points are ${rounded(config.stride)} s apart.`;
    legend.replaceChildren(
      ...shown.classes.map((label) => {
        const entry = document.createElement("li");
        swatch(entry, label);
        entry.append(`${label} `, document.createElement("b"));
        return entry;
      }),
    );
    segments.replaceChildren(
      ...person.segments.map((segment) => {
        const entry = document.createElement("li"), button = document.createElement("button");
        button.type = "button";
        swatch(button, segment.label);
        button.append(`${segment.label}, ${range(segment)}, ${percent(segment.probability)}`);
        button.addEventListener("click", () => clock.seek(segment.start));
        entry.append(button);
        return entry;
      }),
    );
    part(".segments-title").textContent = person.segments.length
      ? "Segments; a click goes there:"
      : `No class reaches ${percent(config.enter)} for ${rounded(config.shortest)} s, so there is no segment.`;
    const others = shown.persons.slice(1).map((other) => {
      const labels = other.segments.map((segment) => `${segment.label} (${range(segment)})`);
      return `person ${other.person}: ${labels.join(", ") || "nothing sure"}`;
    });
    part(".others").textContent = others.length ? `This is person 1. Others: ${others.join("; ")}` : "";
  }

  // The answer of the window whose middle is next to a time.
  function valuesAt(time) {
    let nearest = points[0];
    for (const point of points) if (Math.abs(point.time - time) < Math.abs(nearest.time - time)) nearest = point;
    return nearest.values;
  }

  function write(time) {
    const values = valuesAt(time);
    legend.querySelectorAll("b").forEach((value, i) => (value.textContent = values === null ? "–" : percent(values[i])));
    const best = values === null ? -1 : values.indexOf(Math.max(...values));
    const says = best < 0 ? "no answer" : `${shown.classes[best]} ${percent(values[best])}`;
    plot.setAttribute("aria-valuemin", shown.start.toFixed(1));
    plot.setAttribute("aria-valuemax", shown.end.toFixed(1));
    plot.setAttribute("aria-valuenow", time.toFixed(1));
    plot.setAttribute("aria-valuetext", `${time.toFixed(1)} seconds: ${says}`);
  }

  function seekTo(event) {
    const x = event.clientX - plot.getBoundingClientRect().left - PLOT.left;
    clock.seek(shown.start + (x / width()) * span());
  }
  plot.addEventListener("pointerdown", (event) => {
    plot.setPointerCapture(event.pointerId);
    seekTo(event);
  });
  plot.addEventListener("pointermove", (event) => plot.hasPointerCapture(event.pointerId) && seekTo(event));
  plot.addEventListener("keydown", (event) => {
    const { key } = event;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
    const goals = { Home: shown.start, End: shown.end };
    const goal = key in goals ? goals[key] : key in steps ? clock.now() + KEY_STEP * steps[key] : null;
    if (goal === null) return;
    event.preventDefault();
    clock.seek(goal);
  });
  new ResizeObserver(draw).observe(plot);

  return {
    // Show what the API calls `timeline`; nothing if it is null, or no longer than one window: then the answer says it.
    show(found) {
      shown = found !== null && found.persons.some(({ windows }) => windows.length > 1) ? found : null;
      figure.hidden = shown === null;
      if (shown === null) return;
      person = shown.persons[0];
      const { windows } = person;
      points = windows.map(({ start, end, smoothed }) => ({ time: (start + end) / 2, values: smoothed }));
      points.unshift({ time: shown.start, values: windows[0].smoothed });
      points.push({ time: shown.end, values: windows[windows.length - 1].smoothed });
      writeWords();
      draw();
    },
    // Move the playhead to a time in seconds.
    move(time) {
      if (shown === null || playhead === null) return;
      const inside = Math.min(Math.max(time, shown.start), shown.end);
      playhead.setAttribute("x1", across(inside));
      playhead.setAttribute("x2", across(inside));
      if (written !== inside.toFixed(1)) write(inside);
      written = inside.toFixed(1);
    },
  };
}
