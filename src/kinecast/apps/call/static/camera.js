// The camera: a device, or a clip that plays as one. Gives frames as ImageData, at most `fps` of them a second.

const LONGEST = 384; // pixels of the longer side, where the whole picture is wanted
const EARLY = 0.6; // of a frame's time: a camera's own jitter must not halve its rate

const REFUSALS = {
  NotAllowedError: "Camera access is blocked: allow it next to the address bar, or choose a clip.",
  NotFoundError: "No camera was found: connect one, or choose a clip.",
  NotReadableError: "The camera is in use elsewhere: close the other program, or choose another camera.",
  OverconstrainedError: "That camera is no longer available: choose another.",
};

export class Camera {
  // video: the preview. onFrame(number, time in ms, ImageData); onEnd(line, kind): it stopped by itself.
  constructor(video, { onFrame, onEnd }) {
    Object.assign(this, { video, onFrame, onEnd });
    this.number = 0;
    this.fps = 25;
    this.square = true; // whether the middle square is wanted, of so many pixels a side, or the whole picture
    this.side = 256;
    this.kind = "none"; // none, device, clip
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.turn = 0; // a pump of an earlier turn stops
    this.scaling = false; // one frame at a time, so that they stay in order
  }

  // Plays a device; returns its id, null if another source was chosen meanwhile. Throws an Error whose message is for the person.
  async useDevice(id) {
    this.stop();
    const turn = this.turn;
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    let stream;
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "NotFoundError");
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...wanted, deviceId: id ? { exact: id } : undefined } });
    } catch (error) {
      if (turn !== this.turn) return null;
      throw new Error(REFUSALS[error.name] ?? `The camera did not start (${error.name}): choose another.`);
    }
    const [track] = stream.getVideoTracks();
    if (turn !== this.turn) { // something else was chosen while the person was asked
      track.stop();
      return null;
    }
    this.kind = "device";
    this.track = track;
    track.onended = () => this.#ended("The camera was unplugged: choose another, or a clip.", "unplugged");
    this.video.srcObject = stream;
    await this.video.play().catch(() => {}); // without autoplay the frames come all the same
    if (turn !== this.turn) return null;
    this.#pump(track);
    return track.getSettings().deviceId ?? "";
  }

  // Plays a clip from a Blob once.
  async useClip(blob) {
    this.stop();
    const turn = this.turn;
    this.kind = "clip";
    this.url = URL.createObjectURL(blob);
    this.video.src = this.url;
    this.video.onended = () => this.#ended("The clip has ended.", "clip-ended");
    try {
      await this.video.play();
    } catch {
      if (turn !== this.turn) return;
      this.stop();
      throw new Error("This browser cannot play the clip: convert it to MP4 (H.264) or WebM.");
    }
    if (turn !== this.turn) return;
    this.#pump(this.video.captureStream?.().getVideoTracks()[0]);
  }

  stop() {
    this.turn += 1;
    this.kind = "none";
    this.track?.stop(); // the light of a camera goes out
    this.track = undefined;
    this.video.onended = null;
    this.video.pause();
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = undefined;
  }

  #ended(line, kind) {
    this.stop();
    this.onEnd(line, kind);
  }

  // Reading the track goes on in a hidden tab, where callbacks of the video element stop; not every browser has it.
  #pump(track) {
    if (track && "MediaStreamTrackProcessor" in window) this.#readTrack(track);
    else if (this.video.requestVideoFrameCallback) this.#followVideo();
    else this.#pollVideo();
  }

  async #readTrack(track) {
    const turn = this.turn;
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      if (turn === this.turn) await this.#take(frame, frame.displayWidth, frame.displayHeight);
      frame.close();
      if (turn !== this.turn) return void reader.cancel();
    }
  }

  #followVideo() {
    const turn = this.turn;
    const next = () => {
      if (turn !== this.turn) return;
      this.#take(this.video, this.video.videoWidth, this.video.videoHeight);
      this.video.requestVideoFrameCallback(next);
    };
    this.video.requestVideoFrameCallback(next);
  }

  #pollVideo() {
    const turn = this.turn;
    const timer = setInterval(() => {
      if (turn !== this.turn) clearInterval(timer);
      else this.#take(this.video, this.video.videoWidth, this.video.videoHeight);
    }, 1000 / this.fps);
  }

  async #take(source, width, height) {
    const now = performance.now(), number = ++this.number, turn = this.turn;
    if (!width || this.scaling || now - (this.last ?? -Infinity) < (EARLY * 1000) / this.fps) return;
    this.last = now;
    this.scaling = true;
    const image = await this.scale(source, width, height).catch(() => null); // a video has a size before its first frame
    this.scaling = false;
    if (image && turn === this.turn) this.onFrame(number, performance.timeOrigin + now, image);
  }

  // Returns the middle square, or the whole picture where the model's own cut needs it, scaled down. Through a bitmap,
  // which without a graphics card takes half as long as drawing a frame scaled.
  async scale(source, width, height) {
    const side = Math.min(width, height);
    const cut = this.square ? [side, side] : [width, height];
    const factor = Math.min(1, this.square ? this.side / side : LONGEST / Math.max(width, height));
    const size = cut.map((length) => Math.max(16, Math.round(length * factor)));
    const [x, y] = [Math.round((width - cut[0]) / 2), Math.round((height - cut[1]) / 2)];
    const scaled = { resizeWidth: size[0], resizeHeight: size[1], resizeQuality: "medium" };
    const bitmap = await createImageBitmap(source, x, y, ...cut, scaled);
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    this.context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return this.context.getImageData(0, 0, ...size);
  }
}

export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "videoinput" && device.deviceId);
}
