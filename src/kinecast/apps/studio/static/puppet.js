// The 3-D head of the studio: kinecast says what it does, the page draws it. three.js is loaded when it is first wanted.

export class Puppet {
  // canvas: where it is drawn; server: of the page.
  constructor(canvas, server) {
    Object.assign(this, { canvas, server });
    this.view = null;
    this.isFile = false; // a file of the person's, not kinecast's own
  }

  get isThere() {
    return Boolean(this.view);
  }

  // file: a GLB file; none is kinecast's own head. Throws an Error whose message is for the person.
  async choose(file) {
    const answer = await this.server.ask(file ? "PUT" : "POST", "/head", file);
    const { names, shapes } = await answer.json();
    const data = await (await this.server.ask("GET", "/head.glb")).arrayBuffer();
    let view;
    try {
      const { HeadView } = await import("./head.js");
      this.view?.close();
      view = new HeadView(this.canvas, names);
    } catch {
      throw new Error("This browser cannot draw in 3-D (WebGL): use another one, or a portrait.");
    }
    try {
      await view.load(data);
    } catch {
      throw new Error("This browser cannot draw that head: export it again, or choose another.");
    }
    this.view = view;
    this.isFile = Boolean(file);
    return shapes.length;
  }

  async show(look, frame) {
    this.view.show(await (await this.server.ask("POST", "/pose", { look, frame })).json());
  }

  // pixels: of the camera, as POST /live takes them. Returns whether a face was ever seen.
  async follow(pixels) {
    const answer = await this.server.ask("POST", "/live-pose", pixels);
    this.view.show(await answer.json());
    return answer.headers.get("X-Kinecast-Face") === "seen";
  }

  picture() {
    return new Promise((done) => this.canvas.toBlob((blob) => done(URL.createObjectURL(blob)), "image/png"));
  }
}
