#!/bin/sh
# Makes src/kinecast/apps/local/static/three.js: of three.js (MIT) what head.js uses, in one module. Needs npm.
set -eu
THREE=0.187.0
ESBUILD=0.28.2
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund "three@$THREE" "esbuild@$ESBUILD"
cat > entry.js <<'END'
export {
  Box3, DirectionalLight, Group, HemisphereLight, PerspectiveCamera, Quaternion, Scene, TextureLoader, Vector3, WebGLRenderer,
} from "three";
export { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";
END
node_modules/.bin/esbuild entry.js --bundle --format=esm --minify --legal-comments=inline \
  --outfile="$here/src/kinecast/apps/local/static/three.js"
