// The camera: what it sees, in the layout of POST /live, and recordings of it.

const LONGEST = 320; // pixels of a frame that is sent: enough for a face
const HEAD = 5;
const MOST_SECONDS = 60;

export class Camera {
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  }

  get isOn() {
    return Boolean(this.video.srcObject);
  }

  async start() {
    this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
    await this.video.play();
  }

  stop() {
    if (this.recorder?.state === "recording") this.recorder.stop();
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }

  // The frame that is seen now, or null before there is one. anew: changes of pose are counted from it.
  frame(anew) {
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth) return null;
    const scale = Math.min(1, LONGEST / Math.max(videoWidth, videoHeight));
    this.canvas.width = Math.round(videoWidth * scale);
    this.canvas.height = Math.round(videoHeight * scale);
    this.pen.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const { data, width, height } = this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
    const bytes = new Uint8Array(HEAD + data.length);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, anew ? 1 : 0);
    view.setUint16(1, width, true);
    view.setUint16(3, height, true);
    bytes.set(data, HEAD);
    return bytes;
  }

  // Records until `stopRecording`, or a minute; returns the clip.
  record() {
    return new Promise((done) => {
      const pieces = [];
      this.recorder = new MediaRecorder(this.video.srcObject, { videoBitsPerSecond: 4_000_000 });
      const end = setTimeout(() => this.stopRecording(), MOST_SECONDS * 1000);
      this.recorder.ondataavailable = ({ data }) => pieces.push(data);
      this.recorder.onstop = () => {
        clearTimeout(end);
        done(new Blob(pieces, { type: this.recorder.mimeType }));
      };
      this.recorder.start(1000);
    });
  }

  stopRecording() {
    if (this.recorder?.state === "recording") this.recorder.stop();
  }
}
