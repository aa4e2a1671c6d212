// The page: what is pressed becomes commands, what the server says becomes what is seen.

import { Camera, listCameras } from "./camera.js";
import { Figures, bytes, duration } from "./figures.js";
import { Link } from "./link.js";
import { Sound } from "./sound.js";
import { takeToken } from "./token.js";

const $ = (id) => document.getElementById(id);
const STATES = {
  loading: "Loading the model",
  ready: "Ready",
  waiting: "Waiting for the other person",
  connecting: "Connecting",
  connected: "Connected",
  interrupted: "Connection interrupted, retrying",
  reconnecting: "Reconnecting",
  ended: "The call has ended",
  failed: "Cannot start",
  gone: "kinecast has stopped",
};
const CALLING = ["waiting", "connecting", "connected", "interrupted", "reconnecting"];
const MARKS = {
  some: "Some frames are forecast",
  forecast: "Forecast: these frames did not arrive",
  idle: "Connection lost: simulated motion, not the person",
  frozen: "Connection lost: last picture",
};
const OPAQUE = { alpha: false }; // nothing below the picture is drawn
const RECENT = 20; // frames that the mark speaks of, or single forecast ones would make it flicker
const NOTICE_MS = 5000;
const LOST =
  "This page has lost contact with kinecast on this machine: if it has stopped, start it again and open the new address.";
const HAND_OVER = {
  invitation: ["Send this invitation", "It admits one person, once. Send it over a channel that only they can read.", "Invitation"],
  offer: ["Send this text", "Then paste what they send back.", "Your text"],
  answer: ["Send this text back", "The call starts once they have pasted it.", "Your answer"],
};
const AVATAR_SIDE = 512;
const NO_3D = "This browser cannot draw in 3-D: the head is shown as a picture.";

const figures = new Figures();
const link = new Link(takeToken(), { onEvent, onPicture, onLost });
const sound = new Sound($("sound"), link);
const camera = new Camera($("mine"), { onFrame, onEnd: onCameraEnd });
let state = "loading", muted = { video: false, audio: true };
let source = { kind: "none" }; // what the person chose: {kind: device, id} or {kind: clip, blob, name}
let avatar = null, pending = null, recent = [];
let shapes = [], headView = null, isMakingHead = false;

// --- lines for the person ---------------------------------------------------------------------------------------------

function say(id, line) {
  const box = $(id);
  line = line.replace(/^[a-z]+ /, (word) => word[0].toUpperCase() + word.slice(1)); // not of a file's or server's name
  box.querySelector("p").textContent = line;
  box.hidden = !line;
  if (id === "notice" && line) setTimeout(() => box.querySelector("p").textContent === line && (box.hidden = true), NOTICE_MS);
}
const fail = (line) => say("error", line);
for (const button of document.querySelectorAll("[data-dismiss]")) {
  button.onclick = () => {
    button.parentElement.hidden = true;
    $("stage").focus();
  };
}

// --- what the server says ---------------------------------------------------------------------------------------------

function onEvent(event) {
  switch (event.type) {
    case "welcome": return welcome(event);
    case "model": return void (camera.side = event.side);
    case "state": return setState(event.state);
    case "error": return fail(event.line);
    case "notice": return say("notice", event.line);
    case "hand-over": return handOver(event);
    case "sound": return sound.answer(event.sdp).catch((error) => fail(`Sound did not start: ${error.message}`));
    case "stats": return figures.update(event), trace("stats", event);
    case "head": return makeHead();
    case "replaced": return replaced();
  }
}

function welcome({ state, server, invitation, clip, avatar: hasAvatar, as_head: asHead, shapes: names, square, side, fps, muted: said, hand_over }) {
  Object.assign(camera, { square, side, fps });
  shapes = names;
  if (headView) link.send("heads", { drawn: true }); // a page that was connected again
  if ($("error").innerText.includes(LOST)) say("error", "");
  if (!$("server").value) $("server").value = server;
  if (!$("invitation").value) $("invitation").value = invitation;
  if (clip && source.kind === "none") fetchClip(clip);
  document.querySelector(`[name=seen][value=${asHead ? "head" : hasAvatar ? "avatar" : "me"}]`).checked = true;
  if (hasAvatar && !asHead && avatar) link.sendAvatar(avatar);
  showSeen();
  muted.video = said.video;
  sendMuted();
  sound.stop();
  setState(state);
  if (hand_over.kind) handOver(hand_over);
  if (CALLING.includes(state)) sound.start();
}

function setState(next) {
  const before = state;
  state = next;
  document.body.dataset.state = next;
  $("state").textContent = STATES[next];
  const calling = CALLING.includes(next);
  if (!calling && CALLING.includes(before)) endCall();
  if (calling && !CALLING.includes(before)) beginCall();
  if (!["waiting", "connecting"].includes(next)) $("hand-over").hidden = true;
  if (["connected", "interrupted", "reconnecting"].includes(next)) $("figures").hidden = false;
  for (const button of document.querySelectorAll("[data-ready]")) button.disabled = next !== "ready";
  showWaiting();
}

function beginCall() {
  figures.clear();
  $("summary").hidden = true;
  $("theirs").getContext("2d", OPAQUE).clearRect(0, 0, $("theirs").width, $("theirs").height);
  pending = null;
  recent = [];
  mark("received");
  document.body.dataset.view = "call";
  delete $("theirs-figure").dataset.seen;
  say("error", "");
  sound.start();
}

function endCall() {
  document.body.dataset.view = "lobby";
  $("figures").hidden = $("hand-over").hidden = true;
  sound.stop();
  const stats = figures.last;
  if (stats?.seconds) {
    const plain = (stats.plain_video_kbps * 1000 * stats.seconds) / 8;
    $("summary-line").textContent =
      `${duration(stats.seconds)}. Sent ${bytes(stats.bytes_sent.total ?? 0)}, received ` +
      `${bytes(stats.bytes_received.total ?? 0)}. Plain video would have taken about ${bytes(plain)} each way.`;
    $("summary").hidden = false;
  }
  figures.last = null;
  $("invitation").value = ""; // it was for one call
  $("stage").focus({ preventScroll: true });
}

function showWaiting() {
  const lines = {
    waiting: ["Waiting for the other person", "Send them the invitation or text."],
    connecting: ["Connecting", "Finding a route to the other machine."],
    connected: ["Connected", "Waiting for their first picture."],
    interrupted: ["The connection is interrupted", "Reconnecting automatically."],
    reconnecting: ["Reconnecting", "Trying automatically until you hang up."],
  }[state];
  const seen = "seen" in $("theirs-figure").dataset;
  $("waiting").hidden = seen || !lines;
  [$("waiting-title").textContent, $("waiting-more").textContent] = lines ?? ["", ""];
}

function handOver({ kind, text }) {
  const [title, hint, label] = HAND_OVER[kind];
  $("hand-over-title").textContent = title;
  $("hand-over-hint").textContent = hint;
  $("hand-over-label").textContent = label;
  $("hand-over-text").value = text;
  $("copied").textContent = "";
  $("answer-form").hidden = kind !== "offer";
  $("hand-over").hidden = false;
  $("copy").focus();
}

function onLost() {
  if (!CALLING.includes(state)) setState("gone");
  $("state").textContent = STATES.gone;
  document.body.dataset.state = "gone";
  fail(LOST);
}

function replaced() {
  link.close();
  camera.stop();
  sound.stop();
  gone("Open in another window", "This call has moved to a window that was opened later.", true);
}

function gone(title, line, action) {
  $("gone-title").textContent = title;
  $("gone-line").textContent = line;
  $("gone-action").hidden = !action;
  $("gone").showModal();
}
$("gone").oncancel = (event) => event.preventDefault();
$("gone-action").onclick = () => {
  $("gone").close();
  link.open();
  startSource();
};

// --- their picture ----------------------------------------------------------------------------------------------------

function onPicture(picture) {
  const scheduled = pending;
  pending = picture;
  if (!scheduled) requestAnimationFrame(draw);
}

function draw() {
  if (!pending) return;
  const { image, head, state: kind, number, captured } = pending;
  pending = null;
  $("theirs").hidden = Boolean(head);
  $("theirs-head").hidden = !head;
  if (head) headView?.show(head);
  else drawPicture(image);
  link.sendShown();
  if (!("seen" in $("theirs-figure").dataset)) {
    $("theirs-figure").dataset.seen = "";
    showWaiting();
  }
  mark(kind);
  figures.frame(kind);
  trace("shown", { number, captured, state: kind });
}

function drawPicture(image) {
  const canvas = $("theirs");
  if (canvas.width !== image.width || canvas.height !== image.height) [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d", OPAQUE).putImageData(image, 0, 0);
}

// The other side is seen as a 3-D head: draw it here, and until that is possible kinecast sends pictures of it.
async function makeHead() {
  if (headView || isMakingHead) return;
  isMakingHead = true;
  try {
    const { HeadView } = await import("./head.js");
    const answer = await fetch("/head.glb", { headers: { "X-Kinecast-Token": link.token } });
    if (!answer.ok) throw new Error(await answer.text());
    const view = new HeadView($("theirs-head"), shapes);
    await view.load(await answer.arrayBuffer());
    headView = view;
    $("theirs-head").addEventListener("webglcontextlost", () => {
      headView = null;
      link.send("heads", { drawn: false });
    });
    link.send("heads", { drawn: true });
  } catch (error) {
    console.warn(error);
    say("notice", NO_3D);
  }
  isMakingHead = false;
}

function mark(kind) {
  recent = [...recent, kind].slice(-RECENT);
  const figure = $("theirs-figure"), forecast = recent.filter((state) => state === "forecast").length;
  if (kind === "forecast" || kind === "received") kind = !forecast ? "received" : forecast * 2 > RECENT ? "forecast" : "some";
  if (figure.dataset.frame === kind) return;
  figure.dataset.frame = kind;
  $("mark").textContent = MARKS[kind] ?? "";
  $("mark").hidden = kind === "received";
  for (const canvas of [$("theirs"), $("theirs-head")]) canvas.setAttribute("aria-label", `The other person's animated picture${MARKS[kind] ? `. ${MARKS[kind]}` : ""}`);
}

// For measurements from outside: which frame was taken or drawn when, and the figures.
function trace(name, detail) {
  document.dispatchEvent(new CustomEvent(`kinecast:${name}`, { detail: { ...detail, time: performance.timeOrigin + performance.now() } }));
}

// --- my camera --------------------------------------------------------------------------------------------------------

function onFrame(number, captured, image) {
  if (!muted.video && link.sendCamera(number, captured, image)) trace("taken", { number, captured });
}

function onCameraEnd(line, kind) {
  showNoCamera(line, kind === "clip-ended");
  say("notice", line);
  if (kind === "unplugged") {
    source = { kind: "none" };
    fillCameras();
  }
}

function showNoCamera(line, again = false) {
  $("no-camera").hidden = camera.kind !== "none";
  $("no-camera-line").textContent = line;
  $("clip-again").hidden = !again || muted.video;
  $("camera-on").hidden = again || muted.video || source.kind === "clip";
  $("mine-figure").classList.toggle("mirrored", camera.kind === "device");
}

async function startSource() {
  if (muted.video) return;
  const chosen = source;
  try {
    if (source.kind === "clip") await camera.useClip(source.blob);
    else {
      const id = await camera.useDevice(source.id);
      if (id === null || source !== chosen) return; // another was chosen meanwhile
      source = { kind: "device", id };
    }
    showNoCamera("");
    if (source.kind === "device") await fillCameras(); // last: it may be unplugged meanwhile, and that line is to stay
  } catch (error) {
    if (source !== chosen) return;
    showNoCamera(error.message);
    fail(error.message);
  }
}

async function fillCameras() {
  const select = $("camera");
  const options = (await listCameras().catch(() => [])).map((device, i) => new Option(device.label || `Camera ${i + 1}`, device.deviceId));
  options.push(new Option(source.kind === "clip" ? `Clip: ${source.name}` : "A clip…", "clip"));
  if (source.kind === "none") options.unshift(new Option("No camera", ""));
  select.replaceChildren(...options);
  select.value = source.kind === "clip" ? "clip" : source.kind === "device" ? source.id : "";
  $("clip-row").hidden = select.value !== "clip";
}

function useClip(blob, name) {
  source = { kind: "clip", blob, name };
  $("clip-name").textContent = name;
  fillCameras();
  return startSource();
}

async function fetchClip(name) {
  const answer = await fetch("/clip", { headers: { "X-Kinecast-Token": link.token } }).catch(() => null);
  if (answer?.ok) await useClip(await answer.blob(), name);
  else fail("The clip could not be read: start kinecast call again.");
}

$("camera-on").onclick = startSource;
$("clip-again").onclick = startSource;
$("camera").onchange = ({ target }) => {
  $("clip-row").hidden = target.value !== "clip";
  if (target.value === "clip") return void $("clip-file").focus();
  source = { kind: "device", id: target.value };
  startSource();
};
$("clip-file").onchange = ({ target }) => target.files[0] && useClip(target.files[0], target.files[0].name);
navigator.mediaDevices?.addEventListener?.("devicechange", fillCameras);

// --- what they see ----------------------------------------------------------------------------------------------------

function showSeen() {
  const seen = document.querySelector("[name=seen]:checked").value, wanted = seen === "avatar";
  $("avatar-row").hidden = !wanted;
  $("seen-as").hidden = seen !== "head" && !(wanted && avatar);
  $("avatar-small").hidden = !wanted;
  $("as-head").hidden = seen !== "head";
}

for (const choice of document.querySelectorAll("[name=seen]")) {
  choice.onchange = () => {
    showSeen();
    if (choice.value === "me") link.send("avatar-off");
    else if (choice.value === "head") link.send("avatar-head");
    else if (avatar) link.sendAvatar(avatar);
    else $("avatar-file").focus();
  };
}

$("avatar-file").onchange = async ({ target }) => {
  if (!target.files[0]) return;
  try {
    const bitmap = await createImageBitmap(target.files[0]);
    const side = Math.min(bitmap.width, bitmap.height), size = Math.min(AVATAR_SIDE, Math.max(side, 16));
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // under transparent parts
    context.fillRect(0, 0, size, size);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, size, size);
    avatar = context.getImageData(0, 0, size, size);
    canvas.toBlob((blob) => {
      for (const image of [$("avatar-preview"), $("avatar-small")]) image.src = URL.createObjectURL(blob);
      $("avatar-preview").hidden = false;
    });
  } catch {
    return fail("This browser cannot read that picture: choose a JPEG, PNG or WebP file.");
  }
  link.sendAvatar(avatar);
  showSeen();
};

// --- controls ---------------------------------------------------------------------------------------------------------

function sendMuted() {
  for (const [id, name, off] of [["mute-video", "Picture", muted.video], ["mute-audio", "Sound", muted.audio]]) {
    $(id).setAttribute("aria-pressed", off);
    $(id).setAttribute("aria-label", `Mute my ${name.toLowerCase()}`);
    $(id).querySelector("span").textContent = `${name} ${off ? "off" : "on"}`;
  }
  link.send("mute", muted);
}

$("mute-video").onclick = () => {
  muted.video = !muted.video;
  sendMuted();
  if (muted.video) camera.stop();
  showNoCamera(muted.video ? "Your picture is off." : "The camera is off.");
  if (!muted.video && source.kind !== "none") startSource();
};

$("mute-audio").onclick = async () => {
  if (muted.audio) {
    const line = await sound.turnOn();
    if (line) return fail(line);
  } else await sound.turnOff();
  muted.audio = !muted.audio;
  sendMuted();
};

$("hang-up").onclick = () => link.send("hang-up");
$("reconnect").onclick = () => link.send("reconnect");

function onSubmit(id, send) {
  $(id).onsubmit = (event) => {
    event.preventDefault();
    say("error", "");
    send();
  };
}
const typed = (id) => $(id).value.trim();
onSubmit("host-form", () => (typed("server") ? link.send("host", { server: typed("server") }) : fail("Enter a room server, or connect without one below.")));
onSubmit("join-form", () => (typed("invitation") ? link.send("join", { invitation: typed("invitation") }) : fail("Paste the invitation first.")));
onSubmit("offer-form", () => link.send("make-offer"));
onSubmit("accept-form", () => (typed("their-offer") ? link.send("accept-offer", { text: typed("their-offer") }) : fail("Paste their text first.")));
onSubmit("answer-form", () => (typed("their-answer") ? link.send("accept-answer", { text: typed("their-answer") }) : fail("Paste their answer first.")));

$("copy").onclick = async () => {
  const text = $("hand-over-text");
  try {
    await navigator.clipboard.writeText(text.value);
    $("copied").textContent = "Copied";
  } catch {
    text.select();
    $("copied").textContent = "Press Ctrl+C to copy";
  }
};

// --- begin ------------------------------------------------------------------------------------------------------------

showNoCamera("The camera is off.");
sendMuted();
fillCameras();
if (link.token) {
  link.open();
  // Asks for nothing by itself: only a camera that was allowed before comes on.
  navigator.permissions?.query({ name: "camera" }).then(
    (permission) => permission.state === "granted" && source.kind === "none" && startSource(),
    () => {},
  );
} else gone("No call here", "Open the address that kinecast call printed: it contains the key to this page.", false);
