"use strict";
// Three views of one state: a head is chosen among all, a query and a key within it, and a variant of the model.
const part = (name) => document.getElementById(name);
const about = JSON.parse(part("about").textContent);
const { tokens, layers, heads, scores } = about;
const size = tokens.length, SIDE = 32, KEPT = 64, LARGEST = 768;
const state = { variant: about.variants[0], layer: 0, head: 0, query: size - 1, key: 0, to: true };
const cache = new Map(); // decoded heads, the oldest first
let shown = null, asked = 0, colours;

// What is shown first stands before this script, the other heads behind it: they are still being read as it begins.
const read = new Promise((done) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", done);
  else done();
});

async function unpacked(name) {
  if (!part(name)) await read;
  const text = atob(part(name).textContent), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function codes(variant, layer, head) {
  const name = `head-${variant}-${layer}-${head}`;
  const found = cache.get(name) || await unpacked(name);
  cache.delete(name);
  cache.set(name, found);
  if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  return found;
}

const weight = (code) => (code / 255) ** 2;
// A difference keeps its sign and takes the square root of its size, as weights do.
function differences(base, other) {
  const found = new Int16Array(base.length);
  for (let at = 0; at < base.length; at++) {
    const change = weight(other[at]) - weight(base[at]);
    found[at] = Math.sign(change) * Math.round(255 * Math.sqrt(Math.abs(change)));
  }
  return found;
}

async function values(get) {
  if (state.variant !== "difference") return get(state.variant);
  const [base, other] = await Promise.all([get("base"), get("adapter")]);
  return differences(base, other);
}

// Codes of the triangle, row by row; signed where a difference is shown.
const at = (query, key) => key > query ? 0 : shown[query * (query + 1) / 2 + key];
const signed = (code) => Math.sign(code) * weight(code);

function rgb(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const wide = text.length === 4 ? text.replace(/[0-9a-f]/gi, "$&$&") : text;
  return [1, 3, 5].map((from) => parseInt(wide.slice(from, from + 2), 16));
}

// As a canvas keeps a colour: red first, little-endian.
const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;

// Colours of -255 to 255; less than nothing has a hue of its own.
function palette() {
  const [zero, mid, full, less] = ["--zero", "--mid", "--full", "--less"].map(rgb);
  const between = (a, b, share) => a.map((each, i) => Math.round(each + (b[i] - each) * share));
  colours = { never: packed(rgb("--never")), of: new Map(), packed: new Uint32Array(511) };
  for (let code = 0; code <= 255; code++) {
    const share = code / 255;
    colours.of.set(code, share < .5 ? between(zero, mid, 2 * share) : between(mid, full, 2 * share - 1));
    if (code) colours.of.set(-code, between(zero, less, share));
  }
  for (const [code, colour] of colours.of) colours.packed[code + 255] = packed(colour);
}

function picture(width, height, colour) {
  const image = new ImageData(width, height), fields = new Uint32Array(image.data.buffer);
  for (let row = 0, spot = 0; row < height; row++) {
    for (let column = 0; column < width; column++, spot++) fields[spot] = colour(row, column);
  }
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const GAP = 4, LEFT = 30, TOP = 20;
const CELL = Math.max(24, Math.min(64, Math.floor((620 - LEFT) / heads) - GAP));
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let atlasPicture = null;

async function drawAtlas() {
  const found = await values((variant) => unpacked(`atlas-${variant}`));
  const width = LEFT + heads * (CELL + GAP), height = TOP + layers.length * (CELL + GAP);
  const scale = window.devicePixelRatio || 1;
  atlasPicture = document.createElement("canvas");
  atlasPicture.width = width * scale; atlasPicture.height = height * scale;
  const pen = atlasPicture.getContext("2d");
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = CELL < SIDE;
  pen.fillStyle = css("--soft");
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "center"; pen.textBaseline = "middle";
  for (let head = 0; head < heads; head++) pen.fillText(head, LEFT + head * (CELL + GAP) + CELL / 2, TOP / 2 - 2);
  for (let layer = 0; layer < layers.length; layer++) {
    const y = TOP + layer * (CELL + GAP);
    pen.fillText(layers[layer], LEFT / 2 - 2, y + CELL / 2);
    for (let head = 0; head < heads; head++) {
      const from = (layer * heads + head) * SIDE * SIDE;
      const small = picture(SIDE, SIDE, (row, column) =>
        column > row ? colours.never : colours.packed[found[from + row * SIDE + column] + 255]);
      pen.drawImage(small, LEFT + head * (CELL + GAP), y, CELL, CELL);
    }
  }
  markAtlas();
}

function markAtlas() {
  const canvas = part("atlas"), scale = window.devicePixelRatio || 1;
  canvas.width = atlasPicture.width; canvas.height = atlasPicture.height;
  canvas.style.width = `${atlasPicture.width / scale}px`;
  const pen = canvas.getContext("2d");
  pen.drawImage(atlasPicture, 0, 0);
  pen.scale(scale, scale);
  pen.strokeStyle = css("--accent"); pen.lineWidth = 3;
  pen.strokeRect(LEFT + state.head * (CELL + GAP) - 1.5, TOP + state.layer * (CELL + GAP) - 1.5, CELL + 3, CELL + 3);
  canvas.setAttribute("aria-label", `All heads; ${headName()} is chosen`);
}

const headName = () => `head ${layers[state.layer]}.${state.head}`;
let headPicture = null;

function paintHead() {
  const side = Math.min(size, LARGEST);
  const largest = new Int16Array(side * side);
  // More tokens than fields: each field shows the weight that is furthest from nothing.
  for (let query = 0, spot = 0; query < size; query++) {
    const row = Math.floor(query * side / size) * side;
    for (let key = 0; key <= query; key++, spot++) {
      const field = row + Math.floor(key * side / size);
      if (Math.abs(shown[spot]) > Math.abs(largest[field])) largest[field] = shown[spot];
    }
  }
  headPicture = picture(side, side, (row, column) =>
    column > row ? colours.never : colours.packed[largest[row * side + column] + 255]);
  drawHead();
}

function drawHead() {
  const canvas = part("head"), scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 600;
  canvas.width = canvas.height = Math.round(width * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = width < headPicture.width;
  pen.drawImage(headPicture, 0, 0, width, width);
  const field = width / size;
  pen.strokeStyle = css("--accent"); pen.lineWidth = 1;
  pen.globalAlpha = .4;
  pen.strokeRect(-1, state.query * field, width + 2, Math.max(field, 1));
  pen.strokeRect(state.key * field, -1, Math.max(field, 1), width + 2);
  pen.globalAlpha = 1; pen.lineWidth = 2;
  const least = Math.max(field, 6), off = (least - field) / 2;
  pen.strokeRect(state.key * field - off, state.query * field - off, least, least);
  // Names stand in the triangle of what no token can look at, each beside the diagonal.
  if (field >= 11) {
    pen.font = `${Math.min(13, field * .8)}px system-ui, sans-serif`;
    pen.fillStyle = css("--soft"); pen.textBaseline = "middle";
    for (let query = 0; query < size - 1; query++) pen.fillText(visible(query), (query + 1) * field + 4, (query + .5) * field);
  }
}

// Spaces and line ends would not be seen where a token stands alone.
const visible = (place) => tokens[place].replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅";
const quoted = (place) => `“${visible(place)}” (${place})`;

function percent(value) {
  const share = 100 * Math.abs(value);
  const digits = share >= 10 ? 0 : share >= 1 ? 1 : share >= .1 ? 2 : 3;
  return `${share.toFixed(digits)} %`;
}

function say() {
  const code = at(state.query, state.key);
  let words;
  if (state.key > state.query) words = `${quoted(state.query)} comes before ${quoted(state.key)} and cannot look at it`;
  else if (state.variant === "difference") {
    const change = signed(code);
    words = code === 0 ? `${quoted(state.query)} looks at ${quoted(state.key)} as much with the adapter as without`
      : `${quoted(state.query)} looks at ${quoted(state.key)} ${change > 0 ? "more" : "less"} with the adapter, by ${percent(change)} of its weight`;
  } else words = `${quoted(state.query)} gives ${code ? percent(weight(code)) : "less than 0.001 %"} of its weight to ${quoted(state.key)}`;
  part("said").textContent = words;
}

let spans = [];
function buildText() {
  const holder = document.createDocumentFragment();
  spans = tokens.map((token, place) => {
    const span = document.createElement("span");
    span.className = "token"; span.textContent = token || "∅"; span.dataset.place = place;
    if (!token.trim() || /\n/.test(token)) span.textContent = visible(place) + (/\n/.test(token) ? "\n" : "");
    holder.append(span);
    return span;
  });
  part("text").append(holder);
}

function paintText() {
  const dark = (colour) => (.299 * colour[0] + .587 * colour[1] + .114 * colour[2]) < 140;
  const chosen = state.to ? state.query : state.key;
  spans.forEach((span, place) => {
    const code = state.to ? at(chosen, place) : at(place, chosen);
    const apart = state.to ? place > chosen : place < chosen;
    const colour = colours.of.get(code);
    span.style.background = apart || !code ? "none" : `rgb(${colour})`;
    span.style.color = apart ? "var(--soft)" : !code ? "" : dark(colour) ? "#fff" : "#111";
    span.classList.toggle("chosen", place === chosen);
  });
  part("text-how").textContent = state.to
    ? `What ${quoted(chosen)} looks at: the stronger the colour, the more weight. Tokens after it cannot be seen by it. Click another token.`
    : `Which tokens look at ${quoted(chosen)}: the stronger the colour, the more of their weight. Click another token.`;
}

function point(query, key) {
  state.query = Math.max(0, Math.min(size - 1, query));
  state.key = Math.max(0, Math.min(size - 1, key));
  drawHead(); say(); paintText();
}

function number(value) { return value === null || value === undefined ? "not measured" : value.toFixed(3); }

function paintScores() {
  part("measured").hidden = scores.length === 0;
  part("scores").replaceChildren(...scores.map((score) => {
    const row = document.createElement("tr");
    const pick = (grid) => grid ? number(grid[state.layer][state.head]) : "—";
    [score.name, pick(score.values), pick(score.nulls), score.about].forEach((text, column) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (column === 1 || column === 2) cell.className = "number";
      row.append(cell);
    });
    return row;
  }));
}

async function choose(layer, head) {
  const begun = performance.now(), mine = ++asked;
  state.layer = Math.max(0, Math.min(layers.length - 1, layer));
  state.head = Math.max(0, Math.min(heads - 1, head));
  const found = await values((variant) => codes(variant, state.layer, state.head));
  if (mine !== asked) return; // another was chosen meanwhile
  shown = found;
  const name = headName(), what = state.variant === "difference" ? "what the adapter changes in " : "";
  part("head-title").textContent = `${what}${name}`.replace(/^./, (letter) => letter.toUpperCase());
  part("head").setAttribute("aria-label", `${name}: weights of every token on the tokens up to it`);
  markAtlas(); paintHead(); say(); paintText(); paintScores();
  // What the tests and benchmarks of this page read.
  Object.assign(document.documentElement.dataset, { head: name.slice(5), switchMs: performance.now() - begun });
}

function paintLegend() {
  const both = state.variant === "difference";
  const bar = part("bar"), pen = bar.getContext("2d");
  pen.drawImage(picture(256, 1, (_, x) => colours.packed[both ? 2 * x : x + 255]), 0, 0);
  const marks = both ? [-1, -.25, -.01, 0, .01, .25, 1] : [0, .01, .1, .25, .5, 1];
  part("ticks").replaceChildren(...marks.map((mark) => {
    const span = document.createElement("span"), root = Math.sign(mark) * Math.sqrt(Math.abs(mark));
    span.textContent = String(mark).replace("-", "−");
    span.style.left = `${100 * (both ? (root + 1) / 2 : root)}%`;
    return span;
  }));
}

async function repaint() {
  palette(); paintLegend();
  await drawAtlas();
  await choose(state.layer, state.head);
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
function onArrows(canvas, move) {
  canvas.addEventListener("keydown", (event) => {
    if (!ARROWS[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const far = event.shiftKey ? 8 : 1;
    move(...ARROWS[event.key].map((each) => each * far));
  });
}

function listen() {
  const place = (event) => {
    const box = event.target.getBoundingClientRect();
    return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
  };
  part("atlas").addEventListener("click", (event) => {
    const [down, across] = place(event), canvas = atlasPicture, scale = window.devicePixelRatio || 1;
    const layer = Math.floor((down * canvas.height / scale - TOP) / (CELL + GAP));
    const head = Math.floor((across * canvas.width / scale - LEFT) / (CELL + GAP));
    if (layer >= 0 && head >= 0) choose(layer, head);
  });
  onArrows(part("atlas"), (down, across) => choose(state.layer + down, state.head + across));
  const hover = (event) => { const [down, across] = place(event); point(Math.floor(down * size), Math.floor(across * size)); };
  part("head").addEventListener("pointermove", hover);
  part("head").addEventListener("click", hover);
  onArrows(part("head"), (down, across) => point(state.query + down, state.key + across));
  part("text").addEventListener("click", (event) => {
    const chosen = event.target.dataset.place;
    if (chosen === undefined) return;
    if (state.to) point(Number(chosen), Math.min(state.key, Number(chosen)));
    else point(Math.max(state.query, Number(chosen)), Number(chosen));
  });
  for (const name of ["to", "from"]) {
    part(name).addEventListener("click", () => {
      state.to = name === "to";
      part("to").setAttribute("aria-pressed", state.to);
      part("from").setAttribute("aria-pressed", !state.to);
      paintText();
    });
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  window.addEventListener("resize", drawHead);
}

function offerVariants() {
  if (about.variants.length < 2) return;
  part("variants").hidden = false;
  for (const name of [...about.variants, "difference"]) {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "variant", value: name, checked: name === state.variant });
    input.addEventListener("change", () => { state.variant = name; repaint(); });
    label.append(input, ` ${name}`);
    part("variants").append(label);
  }
}

part("summary").textContent = `${layers.length} layers of ${heads} heads, ${size} tokens, ${about.implementation} attention`;
offerVariants(); buildText(); listen();
repaint().then(() => { document.documentElement.dataset.openedMs = performance.now(); });
