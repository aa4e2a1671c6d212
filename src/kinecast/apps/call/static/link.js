// The socket to the local server: the token first, then commands and camera frames out, events and pictures in.
// Message layouts are those of page_wire.py.

const CAMERA = 1, AVATAR = 2, SHOWN = 3, PICTURE = 4, HEAD_POSE = 5;
const HEAD = 17, PICTURE_HEAD = 18, POSE_HEAD = 14;
const POSE = 6; // numbers after the weights: rotation, place, size
const STATES = ["received", "forecast", "idle", "frozen"];
const STALLED = 600_000; // bytes that wait to be sent, above which a camera frame is dropped
const RETRY_MS = [300, 600, 1200, 2500, 4000];

export class Link {
  // onEvent(object), onPicture({number, captured, state, image or head}), onLost(), all called while the page lives.
  constructor(token, { onEvent, onPicture, onLost }) {
    Object.assign(this, { token, onEvent, onPicture, onLost });
    this.tries = 0;
    this.dropped = 0;
    this.wanted = true;
  }

  open() {
    this.wanted = true;
    this.received = 0;
    this.socket = new WebSocket(`ws://${location.host}/socket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.send("hello", { token: this.token });
    this.socket.onmessage = ({ data }) => {
      this.tries = 0;
      if (typeof data === "string") this.onEvent(JSON.parse(data));
      else this.onPicture(this.#unpack(data));
    };
    this.socket.onclose = () => {
      if (!this.wanted) return;
      this.onLost();
      setTimeout(() => this.wanted && this.open(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
    };
  }

  close() {
    this.wanted = false;
    this.socket.close();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(type, fields = {}) {
    if (this.isOpen) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  // image: an ImageData. A frame that would only wait is dropped here: the newest wins.
  sendCamera(number, captured, image) {
    if (!this.isOpen || this.socket.bufferedAmount > STALLED) {
      this.dropped += 1;
      return false;
    }
    this.socket.send(pack(CAMERA, number, captured, image));
    return true;
  }

  sendAvatar(image) {
    if (this.isOpen) this.socket.send(pack(AVATAR, 0, 0, image));
  }

  // Says that everything received so far is drawn, which lets the server send more.
  sendShown() {
    if (!this.isOpen) return;
    const view = new DataView(new ArrayBuffer(5));
    view.setUint8(0, SHOWN);
    view.setUint32(1, this.received, true);
    this.socket.send(view.buffer);
  }

  #unpackHead(view) {
    const values = Array.from({ length: (view.byteLength - POSE_HEAD) / 4 }, (_, i) => view.getFloat32(POSE_HEAD + 4 * i, true));
    const pose = values.splice(-POSE);
    const head = { shapes: values, rotation: pose.slice(0, 3), move: pose.slice(3, 5), size: pose[5] };
    return { number: view.getUint32(1, true), captured: view.getFloat64(5, true), state: STATES[view.getUint8(13)], head };
  }

  #unpack(buffer) {
    this.received += 1;
    const view = new DataView(buffer);
    if (view.getUint8(0) === HEAD_POSE) return this.#unpackHead(view);
    if (view.getUint8(0) !== PICTURE) throw new Error("expected a picture message");
    const width = view.getUint16(14, true), height = view.getUint16(16, true);
    return {
      number: view.getUint32(1, true),
      captured: view.getFloat64(5, true),
      state: STATES[view.getUint8(13)],
      image: new ImageData(new Uint8ClampedArray(buffer, PICTURE_HEAD), width, height),
    };
  }
}

function pack(type, number, captured, image) {
  const bytes = new Uint8Array(HEAD + image.data.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, type);
  view.setUint32(1, number, true);
  view.setFloat64(5, captured, true);
  view.setUint16(13, image.width, true);
  view.setUint16(15, image.height, true);
  bytes.set(image.data, HEAD);
  return bytes;
}
