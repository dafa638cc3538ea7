// The stage of the page: takes a clip, sends it to the API, and shows the answer. Gradio calls this, behind the other
// scripts of this folder, with `element`, the component, and `trigger`, which starts the listeners that fill the
// components beside it.

const find = (name) => element.querySelector(name);
const drop = find(".drop"), hint = find(".hint"), picture = find(".picture"), video = find("video");
const skeleton = find("canvas.skeleton"), weights = find("canvas.weights"), guidance = find(".guidance");
const status = find(".status"), wait = find(".wait"), record = find(".record"), file = find(".file"), drawn = find(".drawn");
const clock = makeClock(video, find(".pause")), timeline = makeTimeline(find(".timeline"), clock);
const LONGEST_RECORDING = 10; // seconds

let model = null; // what GET /model says
let answer = null; // the last answer
let shown = null; // the clip itself and its name
let address = null; // of the clip in the browser's memory
let recorder = null, stopping = null, asking = null;

const page = {
  modalities: ["skeleton", "video"],
  token: "",
  goBy(modalities) {
    page.modalities = modalities;
    if (shown !== null && recorder === null) show(...shown);
  },
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
  nothing: () => [{ label: "", confidences: [] }, { headers: ["by", "says", "probability"], data: [], metadata: null }],
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
  const mine = asking;
  clear();
  shown = [clip, name];
  open(clip);
  say(`${name}: looking at it …`);
  const waiting = countSeconds();
  try {
    if (model === null) await learn();
    if (model === null) return; // the status says why
    const chosen = page.modalities.filter((one) => model.modalities.includes(one));
    if (!chosen.length) throw new Error(`choose what to go by; the model looks at ${model.modalities.join(" and ")}`);
    const form = new FormData();
    form.append("file", clip, name);
    form.append("details", "true");
    form.append("timeline", "true");
    for (const modality of chosen) form.append("modality", modality);
    const told = await call("predict", { method: "POST", body: form, signal: mine.signal });
    if (mine !== asking) return;
    answer = told;
  } catch (error) {
    if (mine === asking) say(error.name === "TypeError" ? "the server can't be reached" : error.message, true);
    return;
  } finally {
    clearInterval(waiting);
    if (mine === asking) wait.textContent = "";
  }
  const used = answer.modalities.join(" and ");
  say([`answered in ${answer.seconds.toFixed(1)} s by ${used}`, ...answer.notes].join("; "));
  begin();
  trigger("submit");
}

// What belongs to the clip before.
function clear() {
  answer = null;
  guidance.hidden = true;
  timeline.show(null);
  trigger("clear");
}

function countSeconds() {
  const since = performance.now();
  wait.textContent = "";
  return setInterval(() => (wait.textContent = `${((performance.now() - since) / 1000).toFixed(0)} s`), 1000);
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
  const { size, seconds, guidance: weighed } = answer.details, hasVideo = !video.classList.contains("none");
  [skeleton.width, skeleton.height] = size;
  video.style.aspectRatio = hasVideo ? "" : `${size[0]} / ${size[1]}`;
  clock.begin(seconds[0], seconds[seconds.length - 1], hasVideo);
  guidance.hidden = !weighed;
  if (weighed) find(".extremes").textContent = extremes(answer.details, model);
  timeline.show(answer.timeline ?? null);
}

function draw() {
  if (!element.isConnected) return;
  requestAnimationFrame(draw);
  if (answer === null || picture.hidden) return;
  const time = clock.now(), { seconds } = answer.details;
  let frame = seconds.findIndex((second) => second > time + 0.001) - 1;
  if (frame < -1) frame = seconds.length - 1;
  skeleton.getContext("2d").clearRect(0, 0, skeleton.width, skeleton.height);
  if (drawn.checked) drawSkeleton(skeleton, answer.details, Math.max(frame, 0), model);
  if (answer.details.guidance) drawWeights(weights, answer.details, time, model);
  timeline.move(time);
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
  if (asking !== null) asking.abort();
  asking = null;
  wait.textContent = "";
  clear();
  skeleton.width = skeleton.width; // empty
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
