// The page: takes a clip, sends it to the API, and shows the answer.

import { makeClock } from "./clock.js";
import { drawSkeleton, drawWeights, extremes } from "./drawing.js";
import { makeTeaching } from "./teach.js";
import { makeTimeline } from "./timeline.js";

const LONGEST_RECORDING = 10; // seconds

const find = (name) => document.querySelector(name);
const drop = find(".drop"), hint = find(".hint"), picture = find(".picture"), video = find("video");
const skeleton = find("canvas.skeleton"), weights = find("canvas.weights"), guidance = find(".guidance");
const status = find(".status"), wait = find(".wait"), record = find(".record"), file = find(".file"), drawn = find(".drawn");
const clock = makeClock(video, find(".pause")), timeline = makeTimeline(find(".timeline"), clock);

let model = null; // what GET /model says
let answer = null; // the last answer
let shown = null; // the clip itself and its name
let address = null; // of the clip in the browser's memory
let recorder = null, stopping = null, sending = null; // `sending` aborts the request that is under way
const teaching = makeTeaching(find("#teach"), call, toggleRecording, (again) => {
  find("#modalities").hidden = model.modalities.length < 2 || teaching.used;
  if (again && shown !== null && recorder === null) show(...shown);
  else if (answer === null) introduce();
});

const modalities = [...document.querySelectorAll("#modalities input")];
const token = find("#token input");

function say(text, isBad = false) {
  status.textContent = text;
  status.classList.toggle("bad", isBad);
}

async function call(path, options = {}, read = (response) => response.json()) {
  const secret = token.value.trim(), headers = secret ? { Authorization: `Bearer ${secret}` } : {};
  const response = await fetch(`api/v1/${path}`, { ...options, headers });
  if (response.status === 401) find("#token").hidden = false;
  if (!response.ok) throw new Error((await response.json()).detail);
  return read(response);
}

async function learn() {
  try {
    model = await call("model");
    say(`${model.classes.length} actions; looks at ${model.modalities.join(" and ")}`);
    find("#token").hidden = true;
    teaching.begin();
  } catch (error) {
    say(error.message, true);
  }
}

// Before there is an answer: what there may be.
function introduce() {
  const known = teaching.used ? teaching.names : model.classes;
  find("#answer").replaceChildren(made("p", `It tells apart: ${known.join(", ")}`));
  find("#answer").hidden = false;
}

async function show(clip, name) {
  if (sending !== null) sending.abort();
  sending = new AbortController();
  const mine = sending;
  clear();
  shown = [clip, name];
  open(clip);
  say(`${name}: looking at it …`);
  const waiting = countSeconds();
  try {
    if (model === null) await learn();
    if (model === null) return; // the status says why
    const byTaught = teaching.used;
    const chosen = modalities.filter((one) => one.checked && model.modalities.includes(one.value)).map((one) => one.value);
    if (!chosen.length) throw new Error(`choose what to go by; the model looks at ${model.modalities.join(" and ")}`);
    const form = new FormData();
    form.append("file", clip, name);
    form.append("details", "true");
    form.append("timeline", "true");
    if (byTaught) form.append("taught", "true");
    else for (const modality of chosen) form.append("modality", modality);
    const response = await call("predict", { method: "POST", body: form, signal: mine.signal });
    if (mine !== sending) return;
    answer = response;
  } catch (error) {
    if (mine === sending) say(error.name === "TypeError" ? "the server can't be reached" : error.message, true);
    return;
  } finally {
    clearInterval(waiting);
    if (mine === sending) wait.textContent = "";
  }
  const used = answer.modalities.join(" and ");
  say([`answered in ${answer.seconds.toFixed(1)} s by ${used}`, ...answer.notes].join("; "));
  begin();
  showAnswer();
}

function made(name, ...content) {
  const element = document.createElement(name);
  element.append(...content);
  return element;
}

// The classes with their probabilities, and what each stream says.
function showAnswer() {
  const bars = answer.top.map(({ label, probability }) => {
    const meter = made("meter");
    meter.value = probability;
    return made("label", label, made("span", `${(100 * probability).toFixed(0)}%`), meter);
  });
  find("#answer").replaceChildren(made("h2", answer.label), ...bars);
  find("#answer").hidden = false;
  const rows = Object.entries(answer.members).map(([name, values]) => {
    const cells = [name.replace("_", " "), answer.votes[name], `${(100 * Math.max(...values)).toFixed(1)} %`];
    return made("tr", ...cells.map((cell) => made("td", cell)));
  });
  find("#votes tbody").replaceChildren(...rows);
  find("#votes").hidden = !rows.length;
}

// What belongs to the clip before.
function clear() {
  answer = null;
  guidance.hidden = true;
  timeline.show(null);
  find("#answer").hidden = find("#votes").hidden = true;
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

// Record until `button` is pressed again; then the clip goes to `onClip`.
async function toggleRecording(button, onClip) {
  if (recorder !== null) {
    recorder.stop();
    return;
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
  } catch (error) {
    say("the webcam can't be used: a browser gives it to pages at https:// addresses and on this computer only, and asks", true);
    return;
  }
  const chunks = [], pieces = new MediaRecorder(stream), words = button.textContent;
  recorder = pieces;
  pieces.ondataavailable = ({ data }) => chunks.push(data);
  pieces.onstop = () => {
    clearTimeout(stopping);
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    button.classList.remove("on");
    button.textContent = words;
    const name = pieces.mimeType.includes("mp4") ? "webcam.mp4" : "webcam.webm";
    const clip = new File(chunks, name, { type: pieces.mimeType });
    open(clip);
    onClip(clip);
  };
  if (sending !== null) sending.abort();
  sending = null;
  wait.textContent = "";
  clear();
  skeleton.width = skeleton.width; // empty
  hint.hidden = true;
  picture.hidden = false;
  video.classList.remove("none");
  video.srcObject = stream;
  video.play().catch(() => {});
  pieces.start();
  button.classList.add("on");
  button.textContent = "Stop";
  say(`recording; it ends by itself after ${LONGEST_RECORDING} seconds`);
  stopping = setTimeout(() => pieces.state === "recording" && pieces.stop(), 1000 * LONGEST_RECORDING);
}

for (const one of modalities) {
  one.addEventListener("change", () => {
    if (shown !== null && recorder === null) show(...shown);
  });
}
token.addEventListener("input", () => {
  if (model === null && token.value.trim()) learn();
});
record.addEventListener("click", () => toggleRecording(record, (clip) => show(clip, clip.name)));
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
