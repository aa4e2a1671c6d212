// The page: a portrait, what moves it, the sliders, and what is made of them.

import { Camera } from "./camera.js";
import { Puppet } from "./puppet.js";
import { Gone, Server } from "./server.js";
import { Sliders } from "./sliders.js";
import { takeToken } from "./token.js";

const $ = (id) => document.getElementById(id);
const NOTICE_MS = 6000, POLL_MS = 300, CALM_MS = 1500;
const server = new Server(takeToken());
const camera = new Camera($("camera-video"));
const puppet = new Puppet($("head"), server);
let limits, sliders, state = { portrait: null, clip: null, looking: null, video: null };
let isDirty = false, isDrawing = false, isPlaying = false, isOriginal = false, isBusy = false, anew = false;
let face = 1, timer = 0, saidQuarter = -1;

// --- lines for the person ---------------------------------------------------------------------------------------------

function say(id, line) {
  const box = $(id), text = line.replace(/^[a-z]+ /, (word) => word[0].toUpperCase() + word.slice(1));
  box.querySelector("p").textContent = text;
  box.hidden = !text;
  if (id === "notice" && text) setTimeout(() => box.querySelector("p").textContent === text && (box.hidden = true), NOTICE_MS);
}
for (const button of document.querySelectorAll("[data-dismiss]")) button.onclick = () => (button.parentElement.hidden = true);

function setState(name, line) {
  document.body.dataset.state = name;
  if ($("state").textContent !== line) $("state").textContent = line;
}

// Does something that asks the server; what fails is said.
async function trying(work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Gone) setState("gone", "kinecast has stopped");
    say("error", error.status === 410 ? "The studio has closed this page's session: reload the page." : error.message);
  }
}
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const seconds = (value) => (value < 90 ? `${Math.max(1, Math.round(value))} s` : `${Math.round(value / 60)} min`);
const bytes = (count) => (count < 1e6 ? `${Math.max(1, Math.round(count / 1e3))} kB` : `${(count / 1e6).toFixed(1)} MB`);

// --- the preview ------------------------------------------------------------------------------------------------------

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const isHead = () => chosen("view") === "3d" && puppet.isThere;
const isSource = () => Boolean(state.portrait) || isHead();
const seen = () => ({ view: isHead() ? "square" : chosen("view"), face, look: sliders.look });
const frame = () => (state.clip?.known ? $("frame").valueAsNumber : null);

// Draws as soon as what was asked for before is there: the newest wins.
function refresh() {
  isDirty = true;
  if (camera.isOn && isSource()) trying(() => server.ask("POST", "/look", seen()));
  if (!isDrawing) draw();
}

async function draw() {
  if (!isSource() || isDrawing) return;
  isDrawing = true;
  while (isDirty || isPlaying || camera.isOn) {
    isDirty = false;
    if (isPlaying) advance();
    const drawn = await drawOnce();
    if (!drawn) await new Promise((done) => setTimeout(done, 200));
  }
  isDrawing = false;
}

async function drawOnce() {
  try {
    if (isHead()) return await drawHead();
    if (isOriginal) show(await server.picture("GET", "/portrait"), "The original portrait");
    else if (camera.isOn) {
      const pixels = camera.frame(anew);
      if (!pixels) return false;
      anew = false;
      const answer = await server.ask("POST", "/live", pixels);
      show(URL.createObjectURL(await answer.blob()), "Preview: the portrait, moved by your camera");
      sayFace(answer.headers.get("X-Kinecast-Face") === "seen");
      return true;
    } else {
      const at = frame();
      show(await server.picture("POST", "/preview", { ...seen(), frame: at }), described(at));
    }
    return true;
  } catch (error) {
    if (error.status !== 429) {
      stopPlaying();
      if (camera.isOn) turnOff();
      await trying(() => Promise.reject(error));
    }
    return false;
  }
}

async function drawHead() {
  $("head").hidden = false;
  $("preview").hidden = true;
  if (camera.isOn) {
    const pixels = camera.frame(anew);
    if (!pixels) return false;
    anew = false;
    sayFace(await puppet.follow(pixels));
  } else await puppet.show(sliders.look, frame());
  $("head").dataset.count = Number($("head").dataset.count ?? 0) + 1;
  return true;
}

function sayFace(isSeen) {
  if (isSeen === Boolean($("camera-text").dataset.lost)) setCameraText(isSeen ? "" : "No face found: move closer, into the light.");
}

function show(url, text) {
  const picture = $("preview"), before = picture.src;
  picture.onload = () => before.startsWith("blob:") && URL.revokeObjectURL(before);
  picture.src = url;
  picture.alt = text;
  picture.dataset.count = Number(picture.dataset.count ?? 0) + 1;
  picture.hidden = false;
  $("head").hidden = true;
}

function described(at) {
  const moved = sliders.isUsual ? "" : ", with your adjustments";
  return at === null ? `Preview: the portrait${moved}` : `Preview: frame ${at + 1} of the clip${moved}`;
}

// --- the timeline -----------------------------------------------------------------------------------------------------

let began = 0, beganAt = 0;
function advance() {
  const known = state.clip?.known ?? 0;
  if (!known) return;
  $("frame").value = (beganAt + Math.floor(((performance.now() - began) / 1000) * state.clip.fps)) % known;
  sayFrame();
}
function sayFrame() {
  const clip = state.clip, at = $("frame").valueAsNumber;
  const text = `${at + 1} / ${Math.max(clip.known, clip.frames ?? 0)}`;
  $("frame-text").textContent = text;
  $("frame").setAttribute("aria-valuetext", `frame ${text.replace("/", "of")}`);
  const video = $("clip-video");
  if (!video.hidden && video.readyState) video.currentTime = Math.min((at + 0.5) / clip.fps, video.duration || 0);
}
function stopPlaying() {
  isPlaying = false;
  $("play").setAttribute("aria-label", "Play");
  $("play-icon").setAttribute("href", "#i-play");
}
$("play").onclick = () => {
  if (isPlaying) return stopPlaying();
  [isPlaying, began, beganAt] = [true, performance.now(), $("frame").valueAsNumber];
  $("play").setAttribute("aria-label", "Pause");
  $("play-icon").setAttribute("href", "#i-pause");
  showOriginal(false);
  refresh();
};
$("frame").oninput = () => {
  stopPlaying();
  sayFrame();
  refresh();
};
function showOriginal(wanted) {
  isOriginal = wanted;
  $("original").setAttribute("aria-pressed", wanted);
  $("badge").hidden = !wanted;
  $("badge").textContent = "Original";
}
$("original").onclick = () => {
  showOriginal(!isOriginal);
  refresh();
};
$("views").onchange = async () => {
  if (chosen("view") === "3d" && !puppet.isThere) await chooseHead();
  showOriginal(false);
  arrange();
  refresh();
};

// --- a 3-D head -------------------------------------------------------------------------------------------------------

async function chooseHead(file) {
  if (!limits) return say("error", "The model is still loading: try again in a moment.");
  say("error", "");
  const isMade = await trying(async () => {
    const count = await puppet.choose(file);
    $("head-hint").textContent = file ? `${file.name}: ${plural(count, "shape")} of ARKit's.` : "kinecast's own. A GLB file with ARKit's shapes takes its place.";
    return true;
  });
  const wanted = isMade || puppet.isThere ? "3d" : "square";
  document.querySelector(`input[name="view"][value="${wanted}"]`).checked = true;
  arrange();
  refresh();
}
$("head-on").onclick = () => chooseHead();
$("head-file").onchange = () => {
  if ($("head-file").files[0]) chooseHead($("head-file").files[0]);
  $("head-file").value = "";
};

// --- files ------------------------------------------------------------------------------------------------------------

async function take(file, kind) {
  if (!file || isBusy) return;
  if (!limits) return say("error", "The model is still loading: try again in a moment.");
  if (file.size > limits.upload_bytes) {
    return say("error", `This file is ${bytes(file.size)}; the studio accepts ${bytes(limits.upload_bytes)} at most: shorten it.`);
  }
  isBusy = true;
  say("error", "");
  const line = kind === "portrait" ? "Looking for a face" : "Opening the clip";
  setBusy(line);
  const sent = (part) => setBusy(part < 1 ? `Sending the file, ${Math.floor(part * 100)} %` : line);
  await trying(async () => {
    stopPlaying();
    await server.send(`/${kind}`, file, sent);
    if (kind === "clip") {
      turnOff();
      setDriving(file);
    }
    $("result").hidden = true;
    await update();
    if (kind === "portrait") {
      sliders.reset();
      await newPortrait();
    } else $("frame").value = 0;
    showOriginal(false);
    refresh();
  });
  setBusy("");
  isBusy = false;
  watch();
}

function setBusy(line) {
  $("busy").hidden = !line;
  if (line) $("busy").textContent = line;
  $("empty").hidden = Boolean(line || isSource());
}

async function newPortrait() {
  const { faces, width, height, face: largest } = state.portrait;
  face = largest;
  const before = $("thumb-picture").src;
  $("thumb-picture").src = await server.picture("GET", "/portrait");
  if (before) URL.revokeObjectURL(before);
  for (const old of document.querySelectorAll(".face")) old.remove();
  faces.forEach((square, index) => {
    const label = document.createElement("label"), input = document.createElement("input");
    label.className = "face";
    for (const side of ["left", "top", "width", "height"]) label.style[side] = `${square[side] * 100}%`;
    Object.assign(input, { type: "radio", name: "face", value: index + 1, checked: index + 1 === largest });
    input.setAttribute("aria-label", `Face ${index + 1} of ${faces.length}, from the left`);
    input.onchange = () => {
      face = index + 1;
      refresh();
    };
    label.append(input);
    $("faces").append(label);
  });
  $("thumb").hidden = false;
  $("faces-hint").hidden = false;
  $("faces-hint").textContent =
    faces.length > 1
      ? `${plural(faces.length, "face")} found in ${width} × ${height} pixels: press the one that is to move.`
      : `One face found in ${width} × ${height} pixels. The frame marks the crop.`;
  $("portrait-hint").hidden = true;
  $("portrait-again").hidden = false;
  $("empty").hidden = true;
  $("under").hidden = false;
}

function setDriving(file) {
  const video = $("clip-video");
  if (video.src) URL.revokeObjectURL(video.src);
  video.hidden = !file;
  if (!file) return video.removeAttribute("src");
  video.onerror = () => (video.hidden = true); // a format that kinecast reads and the browser does not
  video.src = URL.createObjectURL(file);
}

for (const input of document.querySelectorAll(".portrait-file")) {
  input.onchange = () => {
    take(input.files[0], "portrait");
    input.value = "";
  };
}
$("clip-file").onchange = () => {
  take($("clip-file").files[0], "clip");
  $("clip-file").value = "";
};
$("clip-remove").onclick = () =>
  trying(async () => {
    stopPlaying();
    await server.ask("DELETE", "/clip");
    setDriving(null);
    await update();
    refresh();
    $("clip-file").focus();
  });

// A picture that is dropped is the portrait, film the clip; film without a portrait gives its first frame for one too.
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => event.relatedTarget ?? ($("drop").hidden = true));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  const files = [...event.dataTransfer.files].sort((a, b) => isClip(a) - isClip(b));
  (async () => {
    for (const file of files.slice(0, 2)) await take(file, isClip(file) ? "clip" : "portrait");
  })();
});
const isClip = (file) => file.type.startsWith("video/") || file.type === "image/gif";

// --- the camera -------------------------------------------------------------------------------------------------------

function setCameraText(line = "") {
  const usual = "Look straight ahead: the portrait moves as you do.";
  $("camera-text").textContent = line || usual;
  if (line) $("camera-text").dataset.lost = "1";
  else delete $("camera-text").dataset.lost;
}
$("camera-on").onclick = async () => {
  try {
    await camera.start();
  } catch (error) {
    const lines = { NotAllowedError: "The browser was not allowed to use the camera: allow it for this page.", NotFoundError: "No camera was found: connect one." };
    return say("error", lines[error.name] ?? `The camera could not be started: ${error.message}`);
  }
  stopPlaying();
  showOriginal(false);
  anew = true;
  setCameraText(state.portrait ? "" : "Choose a portrait, and it moves as you do.");
  arrange();
  refresh();
  $("record").focus();
};
function turnOff() {
  if (!camera.isOn) return;
  camera.stop();
  arrange();
  refresh();
}
$("camera-off").onclick = () => {
  turnOff();
  $("camera-on").focus();
};
$("neutral").onclick = () => (anew = true);
$("record").onclick = async () => {
  if (camera.recorder?.state === "recording") return camera.stopRecording();
  const set = (isOn) => {
    $("record").setAttribute("aria-pressed", isOn);
    $("record").textContent = isOn ? "Stop recording" : "Record";
  };
  set(true);
  setCameraText("Recording, a minute at most.");
  const clip = await camera.record();
  set(false);
  setCameraText();
  await take(clip, "clip");
};

// --- sliders and what is saved ----------------------------------------------------------------------------------------

$("sliders").onsubmit = (event) => event.preventDefault();
$("reset").onclick = () => {
  sliders.reset();
  showOriginal(false);
  refresh();
  say("notice", "The sliders are back where they were.");
};

$("save").onsubmit = (event) => {
  event.preventDefault();
  trying(async () => {
    $("result").hidden = true;
    saidQuarter = -1;
    await server.ask("POST", "/video", { ...seen(), view: isHead() ? "3d" : chosen("view"), kind: chosen("kind") });
    await update();
    $("cancel").focus();
    watch();
  });
};
$("cancel").onclick = () =>
  trying(async () => {
    await server.ask("DELETE", "/video");
    await update();
    $("make").focus();
  });
$("download").onclick = () => trying(async () => keep(await server.picture("GET", "/video"), `kinecast.${state.video.kind}`));
$("picture").onclick = () =>
  trying(async () => keep(isHead() ? await puppet.picture() : await server.picture("POST", "/picture", { ...seen(), frame: frame() }), "kinecast.png"));

function keep(url, name) {
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// --- what the server knows --------------------------------------------------------------------------------------------

// Looks again for as long as something goes on; rarely otherwise, so that the session stays open.
function watch() {
  clearTimeout(timer);
  const isRunning = [state.looking, state.video].some((job) => job?.state === "running");
  timer = setTimeout(async () => {
    if (document.body.dataset.state === "gone") return;
    await trying(update);
    watch();
  }, isRunning ? POLL_MS : CALM_MS * 20);
}

async function update() {
  const before = state;
  state = await server.state();
  arrange();
  if (!before.clip?.known && state.clip?.known) refresh(); // the first frames are there
  const ended = before.video?.state === "running" && state.video?.state;
  if (ended && ended !== "running") finished();
}

function arrange() {
  const { portrait, clip, looking, video } = state, isOn = camera.isOn;
  const isMaking = video?.state === "running", isLooking = looking?.state === "running";
  const isHeadShown = isHead();
  sliders.enable(isSource(), Boolean(clip) || isOn);
  $("head-row").hidden = !isHeadShown;
  $("thumb").hidden = isHeadShown || !portrait;
  $("faces-hint").hidden = isHeadShown || !portrait;
  $("portrait-hint").hidden = isHeadShown || Boolean(portrait);
  $("empty").hidden = isSource();
  $("under").hidden = !isSource();
  $("original").hidden = isHeadShown;
  for (const name of ["square", "whole"]) document.querySelector(`input[name="view"][value="${name}"]`).disabled = !portrait;
  $("movement-hint").hidden = Boolean(clip || isOn);
  $("movement-choices").hidden = isOn;
  $("clip-box").hidden = !clip || isOn;
  $("camera-box").hidden = !isOn;
  $("clip-remove").hidden = !clip || isOn;
  $("timeline").hidden = !clip?.known || isOn;
  if (clip) {
    $("frame").max = Math.max(clip.known - 1, 0);
    if (clip.known) sayFrame();
    const length = clip.frames ?? clip.known;
    const line = isLooking ? `Analysing the clip: ${clip.known}${clip.frames ? ` of ${clip.frames}` : ""} frames${left(looking)}` : `${plural(clip.known, "frame")}, ${(clip.known / clip.fps).toFixed(1)} s`;
    $("clip-text").textContent = looking?.state === "failed" ? upper(looking.error) : line;
    $("clip-progress").hidden = !isLooking;
    $("clip-progress").max = Math.max(length, 1);
    $("clip-progress").value = clip.known;
  }
  const isReady = isSource() && looking?.state === "done";
  $("make").disabled = !isReady || isMaking;
  $("picture").disabled = !isSource();
  const isPlain = isHeadShown && puppet.isFile; // a head of whose look the video shows less than the page
  $("save-hint").hidden = Boolean(isReady) && !isPlain;
  $("save-hint").textContent = isReady ? "The video shows this head in its plain colours, without textures." : isLooking && isSource() ? "The video can be made once the clip has been looked at." : clip ? "A video needs a portrait too." : isSource() ? "A video needs a clip, or a recording of the camera." : "A video needs a portrait and a clip.";
  $("save").hidden = isMaking;
  $("job").hidden = !isMaking;
  if (isMaking) arrangeJob(video);
}
const upper = (line) => line.charAt(0).toUpperCase() + line.slice(1);
const left = (job) => (job.left === null ? "" : `, about ${seconds(job.left)} left`);

function arrangeJob(video) {
  $("job-text").textContent = `Frame ${video.done} of ${video.total}${left(video)}`;
  $("job-progress").max = video.total;
  $("job-progress").value = video.done;
  const quarter = Math.floor((video.done / video.total) * 4);
  if (quarter !== saidQuarter) {
    saidQuarter = quarter;
    $("job-said").textContent = `Rendering the video: ${quarter * 25} %${left(video)}`; // not at every frame
  }
}

function finished() {
  const { video } = state;
  if (video.state === "done") {
    $("result").hidden = false;
    $("result-text").textContent = `The ${{ mp4: "MP4", webm: "WebM", gif: "GIF" }[video.kind]} is ready: ${plural(video.total, "frame")}.`;
    $("job-said").textContent = "The video is ready.";
    $("download").focus();
  } else if (video.state === "cancelled") {
    $("job-said").textContent = "Cancelled.";
    say("notice", "Cancelled: nothing was saved.");
  } else say("error", video.error);
}

// --- the beginning ----------------------------------------------------------------------------------------------------

trying(async () => {
  if (!server.token) {
    setState("gone", "Not connected");
    return say("error", "This address has no token: open the whole address that kinecast studio printed.");
  }
  const opened = await server.open();
  limits = opened.limits;
  sliders = new Sliders($("sliders-set"), limits.ranges, () => {
    showOriginal(false);
    refresh();
  });
  setState("ready", "Ready");
  await update();
  if (state.portrait) {
    await newPortrait();
    refresh();
  }
  if (state.video?.state === "done") finished();
  watch();
});
