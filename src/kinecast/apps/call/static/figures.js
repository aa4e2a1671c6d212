// The figures of a call: numbers, the rate chart of the last minute, and the strip of what each frame was.

const SECONDS = 60;
const WIDTH = 300, HEIGHT = 84; // of the chart's viewBox
const LADDER = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];
const STRIP_MS = 250; // the strip is drawn at most so often
const still = matchMedia("(prefers-reduced-motion: reduce)");
const $ = (id) => document.getElementById(id);

const whole = (value) => Math.round(value).toString();
const rate = (value) => (value < 9.95 ? value.toFixed(1) : whole(value));
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
const milliseconds = (value) => (value == null ? "–" : `${whole(value)} ms`);

export function bytes(count) {
  if (count < 1e3) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(count < 1e4 ? 1 : 0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes ? `${minutes} min ${whole(seconds % 60)} s` : `${whole(seconds)} s`;
}

export class Figures {
  constructor() {
    this.history = [];
    this.frames = [];
    this.drawn = 0;
  }

  clear() {
    this.history = [];
    this.frames = [];
    this.#strip();
    for (const cell of $("figures").querySelectorAll("dd, .value")) cell.textContent = "–";
  }

  // stats: what CallStats.to_dict() gives.
  update(stats) {
    this.last = stats;
    const sent = stats.kbps_sent.total ?? 0, received = stats.kbps_received.total ?? 0;
    const sound = [stats.kbps_sent.audio ?? 0, stats.kbps_received.audio ?? 0];
    this.history.push({ sent, received });
    this.history = this.history.slice(-SECONDS - 1);
    const texts = {
      "f-received": rate(received),
      "f-sent": rate(sent),
      "f-fps": `${whole(stats.fps_shown)} fps`,
      "f-latency": stats.latency_ms_p50 == null ? "–" : `${whole(stats.latency_ms_p50)}, ${milliseconds(stats.latency_ms_p95)}`,
      "f-forecast": percent(stats.share_forecast),
      "f-loss": percent(stats.loss),
      "f-sound": sound.some(Boolean) ? `${rate(sound[1])} in, ${rate(sound[0])} out kbps` : "none",
      "f-captured": `${whole(stats.fps_captured)} fps`,
      "f-fps-sent": `${whole(stats.fps_sent)} fps`,
      "f-dropped": whole(stats.dropped_camera),
      "f-late": whole(stats.dropped_late),
      "f-pictures": `${stats.pictures_sent}, ${stats.pictures_received}`,
      "f-trip": milliseconds(stats.round_trip_ms),
      "f-jitter": milliseconds(stats.jitter_buffer_ms),
      "f-bytes": `${bytes(stats.bytes_sent.total ?? 0)}, ${bytes(stats.bytes_received.total ?? 0)}`,
      "f-refused": whole(stats.refused),
    };
    for (const [id, text] of Object.entries(texts)) if ($(id).textContent !== text) $(id).textContent = text;
    this.#saving(stats);
    this.#chart();
  }

  // Over the whole call, since a link that is down costs nothing and is no saving.
  #saving({ plain_video_kbps: plain, bytes_received: { total = 0 }, seconds }) {
    const line = $("f-saving"), received = (total * 8) / 1000 / Math.max(seconds, 1);
    line.replaceChildren(`Ordinary video would take about ${whole(plain)} kbps each way`);
    if (received > 0 && plain > 1.5 * received) {
      const times = document.createElement("b");
      times.textContent = `${rate(plain / received)} times what this call took`;
      line.append(": ", times);
    }
    line.append(".");
  }

  #chart() {
    const top = Math.max(...this.history.flatMap(({ sent, received }) => [sent, received]));
    const scale = LADDER.find((step) => step >= top) ?? top;
    const points = (name) =>
      this.history
        .map((entry, i) => {
          const x = WIDTH - ((this.history.length - 1 - i) * WIDTH) / SECONDS;
          return `${x.toFixed(1)},${(HEIGHT - 1 - (entry[name] * (HEIGHT - 3)) / scale).toFixed(1)}`;
        })
        .join(" ");
    const chart = $("chart");
    for (const name of ["sent", "received"]) chart.querySelector(`polyline.${name}`).setAttribute("points", points(name));
    $("chart-top").textContent = `${scale} kbps`;
    if (this.history.length % 10 === 1) chart.setAttribute("aria-label", this.#inWords());
  }

  #inWords() {
    const range = (name) => {
      const values = this.history.map((entry) => entry[name]);
      return `${rate(Math.min(...values))} to ${rate(Math.max(...values))}`;
    };
    return `Rates of the last minute: received ${range("received")} kbps, sent ${range("sent")} kbps`;
  }

  // One mark a frame, so that forecast frames can be seen without the picture flickering.
  frame(state) {
    this.frames.push(state);
    if (this.frames.length > WIDTH) this.frames.shift();
    const now = performance.now();
    if (now - this.drawn < (still.matches ? 1000 : STRIP_MS)) return;
    this.drawn = now;
    this.#strip();
  }

  #strip() {
    const canvas = $("strip"), context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const state of new Set(this.frames)) {
      context.fillStyle = style.getPropertyValue(state === "received" ? "--accent" : `--${state}`);
      context.globalAlpha = state === "received" ? 0.35 : 1;
      this.frames.forEach((one, i) => one === state && context.fillRect(canvas.width - this.frames.length + i, 0, 1, canvas.height));
    }
  }
}
