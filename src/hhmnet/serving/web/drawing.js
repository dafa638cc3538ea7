// What is drawn on canvases: the skeleton over the picture, and the guidance below it.

const COLOURS = { left: "rgb(240,120,20)", right: "rgb(40,140,230)", middle: "rgb(235,235,235)" };

// Draw the joints of one frame; `size` of the canvas is that of the picture.
export function drawSkeleton(canvas, details, frame, model) {
  const pen = canvas.getContext("2d");
  pen.lineCap = "round";
  for (const person of details.points) {
    const points = person[frame];
    const heights = points.filter((point) => point !== null).map((point) => point[1]);
    const thickness = Math.max(1.5, (Math.max(...heights) - Math.min(...heights)) / 60);
    for (const outline of [true, false]) {
      pen.lineWidth = thickness + (outline ? 2 : 0);
      for (const [child, parent] of model.bones) {
        if (points[child] === null || points[parent] === null) continue;
        const side = COLOURS[model.joints[child].split("_")[0]] ?? COLOURS.middle;
        pen.strokeStyle = outline ? "rgb(20,20,20)" : side;
        pen.beginPath();
        pen.moveTo(...points[child]);
        pen.lineTo(...points[parent]);
        pen.stroke();
      }
    }
  }
}

// Draw a row for each body part and a cell for each instant, with a frame around the instant next to `time`.
export function drawWeights(canvas, details, time, model) {
  const { guidance: rows, instants } = details;
  const scale = window.devicePixelRatio || 1, margin = 90, rowHeight = 18;
  const width = canvas.parentElement.clientWidth, height = rows.length * rowHeight + 4;
  const ink = getComputedStyle(canvas.parentElement).color;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const cell = (width - margin) / instants.length;
  rows.forEach((row, part) => {
    pen.fillStyle = ink;
    pen.fillText(model.parts[part].replace("_", " "), 0, (part + 0.5) * rowHeight);
    row.forEach((weight, instant) => {
      pen.fillStyle = `hsl(35 90% ${12 + 33 * Math.min(Math.max(weight, 0), 2)}%)`;
      pen.fillRect(margin + instant * cell, part * rowHeight, cell - 1, rowHeight - 1);
    });
  });
  let nearest = 0;
  instants.forEach((instant, i) => {
    if (Math.abs(instant - time) < Math.abs(instants[nearest] - time)) nearest = i;
  });
  pen.strokeStyle = ink;
  pen.lineWidth = 2;
  pen.strokeRect(margin + nearest * cell, 0, cell - 1, rows.length * rowHeight - 1);
}

// The parts that count most and least, in words.
export function extremes(details, model) {
  const means = details.guidance.map((row) => row.reduce((sum, weight) => sum + weight, 0) / row.length);
  const tell = (value) => `${model.parts[means.indexOf(value)].replace("_", " ")} (${value.toFixed(2)})`;
  return `Over the whole clip most: ${tell(Math.max(...means))}, least: ${tell(Math.min(...means))}.`;
}
