// The page of `kinecast camera`: what others see, which portrait they see, and the neutral pose.

import { takeToken } from "./token.js";

const $ = (id) => document.getElementById(id);
const STATE_MS = 500, RETRY_MS = 500;
const GONE = "kinecast has stopped: start it again and open the new address.";
const headers = { "X-Kinecast-Token": takeToken() ?? "" };
let names = [], isGone = false;

async function ask(method, path) {
  const answer = await fetch(path, { method, headers });
  if (answer.ok) return answer;
  throw Object.assign(new Error((await answer.text()).replace(/^kinecast: /, "").trim()), { status: answer.status });
}

function setState(name, line) {
  document.body.dataset.state = name;
  if ($("state").textContent !== line) $("state").textContent = line;
}

// A line without a status is of a server that does not answer.
function say(error) {
  isGone = error.status === undefined || error.status === 401;
  if (isGone) setState("gone", "Stopped");
  $("error").querySelector("p").textContent = error.status === undefined ? GONE : error.message;
  $("error").hidden = false;
}
$("dismiss").onclick = () => ($("error").hidden = true);
const trying = (work) => work().catch(say);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// --- the picture ------------------------------------------------------------------------------------------------------

async function preview() {
  let number = 0;
  while (!isGone) {
    try {
      const answer = await ask("GET", `/frame?after=${number}`);
      number = Number(answer.headers.get("X-Kinecast-Frame"));
      await show(await answer.blob());
    } catch (error) {
      if (error.status !== 429) say(error);
      await pause(RETRY_MS);
    }
  }
}

// Resolves when it is drawn, so that a slow window asks for no more than it can show.
function show(blob) {
  const url = URL.createObjectURL(blob), picture = $("preview");
  return new Promise((done) => {
    picture.onload = picture.onerror = () => {
      URL.revokeObjectURL(url);
      picture.dataset.count = Number(picture.dataset.count ?? 0) + 1;
      done();
    };
    picture.src = url;
  });
}

// --- portraits and the neutral pose -----------------------------------------------------------------------------------

async function list(avatars) {
  names = avatars;
  for (const [i, name] of avatars.entries()) {
    const label = document.createElement("label"), input = document.createElement("input");
    const picture = document.createElement("img"), text = document.createElement("span");
    label.className = "avatar";
    Object.assign(input, { type: "radio", name: "avatar", value: i, id: `avatar-${i}` });
    input.onchange = () => trying(() => ask("POST", `/avatar/${i}`));
    picture.alt = "";
    text.textContent = `${i + 1}: ${name}`;
    label.append(input, picture, text);
    $("avatars").append(label);
    picture.src = URL.createObjectURL(await (await ask("GET", `/avatar/${i}`)).blob());
  }
  $("avatar-hint").hidden = avatars.length < 2;
}

$("calibrate").onclick = () => trying(() => ask("POST", "/calibrate"));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "c") $("calibrate").click();
  const index = Number(event.key) - 1;
  if (/^[1-9]$/.test(event.key) && index < names.length) {
    $(`avatar-${index}`).checked = true;
    trying(() => ask("POST", `/avatar/${index}`));
  }
});

// --- how it goes ------------------------------------------------------------------------------------------------------

async function watch() {
  while (!isGone) {
    await trying(async () => describe(await (await ask("GET", "/state")).json()));
    await pause(STATE_MS);
  }
}

async function describe(state) {
  if (!names.length) {
    await list(state.avatars);
    $(`avatar-${state.current}`).checked = true;
  }
  const chosen = $(`avatar-${state.current}`);
  if (document.activeElement?.name !== "avatar") chosen.checked = true; // by a key of the terminal
  if (!state.fps) setState("waiting", "Waiting for the camera");
  else if (!state.seen) setState("interrupted", "No face found: move closer, into the light");
  else setState("ready", state.camera ? "On" : "Preview only");
  $("figures").textContent = state.fps ? `${state.fps.toFixed(1)} frames per second, ${state.latency_ms} ms from your camera` : "\u00a0";
  $("meeting-text").textContent = state.camera
    ? `Choose ${state.camera} as the camera in your meeting program.`
    : "No virtual camera: the portrait is shown on this page only.";
}

preview();
watch();
