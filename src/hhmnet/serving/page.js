// The stage of the page: takes a clip, sends it to the API, and draws the answer over it. Gradio calls this with
// `element`, the component, and `trigger`, which starts the listeners that fill the components beside it.

const find = (name) => element.querySelector(name);
const drop = find(".drop"), hint = find(".hint"), picture = find(".picture"), video = find("video");
const skeleton = find("canvas.skeleton"), weights = find("canvas.weights"), guidance = find(".guidance");
const status = find(".status"), record = find(".record"), file = find(".file"), drawn = find(".drawn");
const COLOURS = { left: "rgb(240,120,20)", right: "rgb(40,140,230)", middle: "rgb(235,235,235)" };
const LONGEST_RECORDING = 10; // seconds

let model = null; // what GET /model says
let answer = null; // the last answer
let address = null; // of the clip in the browser's memory
let began = 0; // when a clip without a video began to play
let recorder = null, stopping = null, asking = null;

const page = {
  modalities: ["skeleton", "video"],
  token: "",
  setToken(token) {
    page.token = token.trim();
    if (model === null && page.token) learn();
  },
  // Values of the components beside the stage: classes with probabilities, and what each stream says.
  results() {
    const confidences = answer.top.map(({ label, probability }) => ({ label, confidence: probability }));
    const rows = Object.entries(answer.members).map(([name, values]) => {
      const best = values.indexOf(Math.max(...values));
      return [name.replace("_", " "), model.classes[best], `${(100 * values[best]).toFixed(1)} %`];
    });
    return [{ label: answer.label, confidences }, { headers: ["by", "says", "probability"], data: rows, metadata: null }];
  },
};
window.hhmnet = page;

function say(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

async function call(path, options = {}) {
  const headers = page.token ? { Authorization: `Bearer ${page.token}` } : {};
  const response = await fetch(`api/v1/${path}`, { ...options, headers });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail);
  return body;
}

async function learn() {
  try {
    model = await call("model");
    say(`${model.classes.length} actions; looks at ${model.modalities.join(" and ")}`);
  } catch (error) {
    say(error.message, true);
  }
}

async function show(clip, name) {
  if (asking !== null) asking.abort();
  asking = new AbortController();
  answer = null;
  guidance.hidden = true;
  open(clip);
  say(`${name}: looking at it …`);
  const mine = asking;
  try {
    if (model === null) await learn();
    if (model === null) return; // the status says why
    const form = new FormData();
    form.append("file", clip, name);
    form.append("details", "true");
    for (const modality of page.modalities.filter((one) => model.modalities.includes(one))) form.append("modality", modality);
    answer = await call("predict", { method: "POST", body: form, signal: mine.signal });
  } catch (error) {
    if (mine === asking) say(error.name === "TypeError" ? "the server can't be reached" : error.message, true);
    return;
  }
  const used = answer.modalities.join(" and ");
  say([`${answer.seconds.toFixed(1)} s, by ${used}`, ...answer.notes].join("; "));
  begin();
  trigger("submit");
}

function open(clip) {
  if (address !== null) URL.revokeObjectURL(address);
  address = URL.createObjectURL(clip);
  video.srcObject = null;
  video.classList.remove("none");
  video.src = address;
  hint.hidden = true;
  picture.hidden = false;
  skeleton.width = skeleton.width; // empty
}

// What the browser can't show (skeleton files, some videos) leaves its place to the skeleton alone.
video.addEventListener("error", () => {
  if (!video.srcObject) video.classList.add("none");
  begin();
});

function begin() {
  if (answer === null || !answer.details.size) return;
  const [width, height] = answer.details.size;
  skeleton.width = width;
  skeleton.height = height;
  if (video.classList.contains("none")) video.style.aspectRatio = `${width} / ${height}`;
  else video.style.aspectRatio = "";
  began = performance.now();
  video.play().catch(() => {});
  guidance.hidden = !answer.details.guidance;
}

function now() {
  const { seconds } = answer.details;
  if (!video.classList.contains("none")) return video.currentTime;
  return ((performance.now() - began) / 1000) % (seconds[seconds.length - 1] + 0.5);
}

function draw() {
  if (!element.isConnected) return;
  requestAnimationFrame(draw);
  if (answer === null || picture.hidden) return;
  const time = now(), { seconds } = answer.details;
  let frame = seconds.findIndex((second) => second > time + 0.001) - 1;
  if (frame < -1) frame = seconds.length - 1;
  drawSkeleton(Math.max(frame, 0));
  if (answer.details.guidance) drawWeights(time);
}

function drawSkeleton(frame) {
  const pen = skeleton.getContext("2d");
  pen.clearRect(0, 0, skeleton.width, skeleton.height);
  if (!drawn.checked) return;
  pen.lineCap = "round";
  for (const person of answer.details.points) {
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

function drawWeights(time) {
  const { guidance: rows, instants } = answer.details;
  const scale = window.devicePixelRatio || 1, margin = 90, rowHeight = 18;
  const width = guidance.clientWidth, height = rows.length * rowHeight + 4;
  weights.width = width * scale;
  weights.height = height * scale;
  weights.style.height = `${height}px`;
  const pen = weights.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const cell = (width - margin) / instants.length;
  rows.forEach((row, part) => {
    pen.fillStyle = getComputedStyle(guidance).color;
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
  pen.strokeStyle = getComputedStyle(guidance).color;
  pen.lineWidth = 2;
  pen.strokeRect(margin + nearest * cell, 0, cell - 1, rows.length * rowHeight - 1);
}

async function startRecording() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
  } catch (error) {
    say("the webcam can't be used: a browser gives it to pages at https:// addresses and on this computer only, and asks", true);
    return;
  }
  const chunks = [], pieces = new MediaRecorder(stream);
  recorder = pieces;
  pieces.ondataavailable = ({ data }) => chunks.push(data);
  pieces.onstop = () => {
    clearTimeout(stopping);
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    record.classList.remove("on");
    record.textContent = "Record with the webcam";
    show(new Blob(chunks, { type: pieces.mimeType }), pieces.mimeType.includes("mp4") ? "webcam.mp4" : "webcam.webm");
  };
  answer = null;
  hint.hidden = true;
  picture.hidden = false;
  video.classList.remove("none");
  video.srcObject = stream;
  video.play().catch(() => {});
  pieces.start();
  record.classList.add("on");
  record.textContent = "Stop";
  say(`recording; it ends by itself after ${LONGEST_RECORDING} seconds`);
  stopping = setTimeout(() => pieces.state === "recording" && pieces.stop(), 1000 * LONGEST_RECORDING);
}

record.addEventListener("click", () => (recorder === null ? startRecording() : recorder.stop()));
find(".choose").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files.length) show(file.files[0], file.files[0].name);
  file.value = "";
});
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) show(dropped, dropped.name);
});

requestAnimationFrame(draw);
learn();
