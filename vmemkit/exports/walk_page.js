// The walk in three dimensions, and the pictures of the page. DATA is defined before this script.
"use strict";

for (const image of document.querySelectorAll("img[data-view]")) {
  image.src = "data:image/jpeg;base64," + DATA.pictures[image.dataset.view];
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// ---- 4 x 4 matrices, by columns -----------------------------------------------------------------

function perspective(fov, aspect, near, far) {
  const f = 1 / Math.tan(fov / 2);
  return [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1,
    0, 0, (2 * far * near) / (near - far), 0];
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const minus = (a, b) => a.map((x, i) => x - b[i]);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((x) => x / Math.hypot(...a));

// From the world to an eye whose axes are right, up and back. The world's y points down.
function lookAt(eye, target) {
  const back = unit(minus(eye, target)), right = unit(cross([0, -1, 0], back)), up = cross(back, right);
  return [right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
    -dot(right, eye), -dot(up, eye), -dot(back, eye), 1];
}

// ---- drawing ------------------------------------------------------------------------------------

// Normals point away from who saw the surface. A disc that shows its back is put out of sight, so that
// walls in the foreground do not hide a room.
const DISC_VERTEX = `
attribute vec3 place, normal, color;
attribute float radius;
uniform mat4 view, lens;
uniform float pixels, widen;
varying vec3 tint, facing;
void main() {
  vec4 seen = view * vec4(place, 1.0);
  vec3 away = mat3(view) * normal;
  tint = color;
  facing = away;
  gl_Position = dot(away, seen.xyz) > 0.0 ? lens * seen : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = clamp(2.0 * radius * widen * pixels / max(0.001, -seen.z), 1.5, 64.0);
}`;
const DISC_FRAGMENT = `
precision mediump float;
varying vec3 tint, facing;
void main() {
  vec2 at = 2.0 * gl_PointCoord - 1.0;
  float slope = (facing.x * at.x - facing.y * at.y) / min(-0.35, facing.z);
  if (dot(at, at) + slope * slope > 1.0) discard;
  gl_FragColor = vec4(tint, 1.0);
}`;
const LINE_VERTEX = `
attribute vec3 place, color;
uniform mat4 view, lens;
varying vec3 tint;
void main() { tint = color; gl_Position = lens * view * vec4(place, 1.0); }`;
const LINE_FRAGMENT = `
precision mediump float;
varying vec3 tint;
void main() { gl_FragColor = vec4(tint, 1.0); }`;

function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  return made;
}

function column(gl, data, size, type, normalized) {
  const buffer = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
  return { buffer, size, type, normalized };
}

function bind(gl, made, columns) {
  gl.useProgram(made);
  for (const [name, of] of Object.entries(columns)) {
    const place = gl.getAttribLocation(made, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, of.buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, of.size, of.type, of.normalized, 0, 0);
  }
}

// ---- the scene ----------------------------------------------------------------------------------

function show(canvas, form, data) {
  const gl = canvas.getContext("webgl", { antialias: true, alpha: true });
  if (!gl) return false;
  const discs = program(gl, DISC_VERTEX, DISC_FRAGMENT), lines = program(gl, LINE_VERTEX, LINE_FRAGMENT);
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const place = column(gl, floats(data.place), 3, gl.FLOAT, false);
  const normal = column(gl, new Int8Array(bytes(data.normal).buffer), 3, gl.BYTE, true);
  const radius = column(gl, floats(data.radius), 1, gl.FLOAT, false);
  const colors = data.colors.map((text) => column(gl, bytes(text), 3, gl.UNSIGNED_BYTE, true));
  const frusta = {
    place: column(gl, floats(data.frusta), 3, gl.FLOAT, false),
    color: column(gl, bytes(data.frustumColors), 3, gl.UNSIGNED_BYTE, true),
  };
  const eye = { ...data.eye, target: [...data.eye.target] };

  function draw() {
    const scale = window.devicePixelRatio || 1, fov = 0.7;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = canvas.clientHeight * scale;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const level = Math.cos(eye.climb) * eye.distance;
    const at = [eye.target[0] - level * Math.sin(eye.turn), eye.target[1] - eye.distance * Math.sin(eye.climb),
      eye.target[2] - level * Math.cos(eye.turn)];
    const view = lookAt(at, eye.target);
    const lens = perspective(fov, canvas.width / canvas.height, data.extent / 1000, 20 * data.extent);
    const step = Number(form.elements.step.value);
    const drawWith = (made, mode, count, columns) => {
      bind(gl, made, columns);
      gl.uniformMatrix4fv(gl.getUniformLocation(made, "view"), false, view);
      gl.uniformMatrix4fv(gl.getUniformLocation(made, "lens"), false, lens);
      gl.drawArrays(mode, 0, count);
    };
    const mode = Number(form.elements.color.value);
    gl.useProgram(discs);
    gl.uniform1f(gl.getUniformLocation(discs, "pixels"), canvas.height / 2 / Math.tan(fov / 2));
    gl.uniform1f(gl.getUniformLocation(discs, "widen"), data.widen);
    drawWith(discs, gl.POINTS, data.surfelCounts[step], { place, normal, radius, color: colors[mode] });
    drawWith(lines, gl.LINES, data.lineCounts[step], frusta);
    form.elements.shown.value = data.stepNames[step];
    document.getElementById("legend").textContent = data.legends[mode];
  }

  let waiting = false;
  const change = () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; draw(); });
    waiting = true;
  };
  const turn = (x, y) => {
    eye.turn += x;
    eye.climb = Math.max(-1.5, Math.min(1.5, eye.climb + y));
    change();
  };
  const approach = (factor) => {
    eye.distance = Math.max(data.extent / 100, Math.min(5 * data.extent, eye.distance * factor));
    change();
  };
  const shift = (x, y) => {
    const step = eye.distance / canvas.clientHeight * 0.7;
    eye.target[0] -= x * step * Math.cos(eye.turn);
    eye.target[2] += x * step * Math.sin(eye.turn);
    eye.target[1] -= y * step;
    change();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    if (event.shiftKey || event.buttons === 2) shift(event.movementX, event.movementY);
    else turn(event.movementX * 0.007, event.movementY * 0.007);
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  // Only a canvas that was clicked on takes the wheel, so that the page scrolls past it.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    approach(Math.exp(event.deltaY * 0.001));
  }, { passive: false });
  const keys = {
    ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, 0.1),
    ArrowDown: () => turn(0, -0.1), "+": () => approach(0.85), "-": () => approach(1.18),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  form.addEventListener("input", change);
  new ResizeObserver(change).observe(canvas);
  for (const link of document.querySelectorAll("a[data-step]")) {
    link.addEventListener("click", () => { form.elements.step.value = link.dataset.step; change(); });
  }
  return true;
}

if (!show(document.getElementById("space"), document.getElementById("controls"), DATA.scene)) {
  document.getElementById("space").hidden = true;
  document.getElementById("legend").textContent = "This browser draws no 3-D (WebGL); the steps below need none.";
}
