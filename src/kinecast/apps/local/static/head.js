// A 3-D head on a canvas: a GLB file with ARKit's morph targets, moved by weights and a pose. Nothing is fetched.

import {
  Box3, DirectionalLight, GLTFLoader, Group, HemisphereLight, PerspectiveCamera, Quaternion, Scene, TextureLoader, Vector3,
  WebGLRenderer,
} from "./three.js";

const FILLS = 0.85; // of the view's height that the head takes
const ANGLE = 24; // degrees that the camera sees
const PIVOT = [0, -0.22, -0.1]; // what the head turns about, from its middle, in its heights
const PLACE = 0.3; // heights of a head that a half width of a face is taken for

// Exporters write jawOpen, eyeBlink_L or face.mouthSmileLeft; kinecast.apps.heads.glb reads them in the same way.
function plain(name) {
  const last = name.slice(name.lastIndexOf(".") + 1).toLowerCase();
  return last.replace(/_l(eft)?$/, "left").replace(/_r(ight)?$/, "right").replace(/[^a-z0-9]/g, "");
}

export class HeadView {
  // names: of the weights that `show` is given. Throws where there is no WebGL.
  constructor(canvas, names) {
    this.canvas = canvas;
    this.names = names.map(plain);
    this.renderer = new WebGLRenderer({ canvas, alpha: true, antialias: true, preserveDrawingBuffer: true });
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(ANGLE, 1, 0.1, 100);
    const sky = new HemisphereLight(0xffffff, 0x554433, 1.6), sun = new DirectionalLight(0xffffff, 2);
    sun.position.set(0.6, 1, 1.6);
    this.turning = new Group(); // turned about its origin, which lies where a neck begins
    this.scene.add(sky, sun, this.turning);
    this.targets = []; // [influences, their index, index of the weight]
  }

  // data: the file's bytes, which kinecast has checked.
  async load(data) {
    const loader = new GLTFLoader();
    // By an image element, not by fetch: the page may fetch from its own server alone.
    loader.register((parser) => {
      parser.textureLoader = new TextureLoader(parser.options.manager);
      return { name: "kinecast_textures" };
    });
    const { scene } = await loader.parseAsync(data, "");
    const box = new Box3(), faces = [];
    scene.updateMatrixWorld(true);
    scene.traverse((node) => {
      if (!node.morphTargetDictionary) return;
      node.frustumCulled = false;
      faces.push(node);
      for (const [name, index] of Object.entries(node.morphTargetDictionary)) {
        const weight = this.names.indexOf(plain(name));
        if (weight >= 0) this.targets.push([node.morphTargetInfluences, index, weight]);
      }
    });
    for (const node of faces) box.expandByObject(node, true);
    const size = box.getSize(new Vector3()), middle = box.getCenter(new Vector3());
    const unit = 1 / Math.max(size.y, 1e-6); // the head is one high
    const pivot = new Vector3(...PIVOT);
    scene.scale.multiplyScalar(unit);
    scene.position.sub(middle).multiplyScalar(unit).sub(pivot);
    this.turning.position.copy(pivot);
    this.turning.clear();
    this.turning.add(scene);
    this.camera.position.set(0, 0, 0.5 / FILLS / Math.tan((ANGLE / 2) * (Math.PI / 180)) + 0.25);
  }

  // shapes: weights by name; rotation: a vector in radians; move: to the right and up; size: 1 at rest.
  show({ shapes, rotation, move, size }) {
    for (const [influences, index, weight] of this.targets) influences[index] = shapes[weight];
    const angle = Math.hypot(...rotation), axis = new Vector3(...rotation);
    this.turning.quaternion.copy(angle > 1e-6 ? new Quaternion().setFromAxisAngle(axis.divideScalar(angle), angle) : new Quaternion());
    this.turning.position.set(PIVOT[0] + PLACE * move[0], PIVOT[1] + PLACE * move[1], PIVOT[2]);
    this.turning.scale.setScalar(size);
    this.draw();
  }

  close() {
    this.renderer.dispose();
  }

  draw() {
    const { clientWidth, clientHeight } = this.canvas, ratio = Math.min(window.devicePixelRatio, 2);
    const side = Math.max(Math.round(Math.min(clientWidth, clientHeight) * ratio), 64);
    if (this.canvas.width !== side || this.canvas.height !== side) this.renderer.setSize(side, side, false);
    this.renderer.render(this.scene, this.camera);
  }
}
