// Latent sliders that decode in the browser: one source for the notebook's widget and for the page without a server.
// page.py sends a description (JSON) and three packs of numbers: weights (float16), codes (float32), pictures (uint8).

const PICTURE = 224; // CSS pixels of a picture's longer side
const STRIP = 9; // images of a traversal
const STEP = 0.02; // of a slider; widget.py has the same

// --- numbers ---------------------------------------------------------------------------------

function bytesOf(value) {
  if (typeof value === "string") return Uint8Array.from(atob(value), (c) => c.charCodeAt(0));
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
}

function fromHalf(bytes) {
  const half = new Uint16Array(bytes.buffer);
  const out = new Float32Array(half.length);
  for (let i = 0; i < half.length; i++) {
    const sign = half[i] & 0x8000 ? -1 : 1, exponent = (half[i] >> 10) & 31, fraction = half[i] & 1023;
    if (exponent === 31) out[i] = fraction ? NaN : sign * Infinity;
    else out[i] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }
  return out;
}

// the standard normal numbers of a seed: mulberry32, then Box and Muller
export function normals(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// --- the decoder -----------------------------------------------------------------------------

const ACTIVATE = { relu: (v) => (v < 0 ? 0 : v), tanh: Math.tanh, silu: (v) => v / (1 + Math.exp(-v)) };

// layers take and give a Float32Array; each keeps its output from call to call
const LAYERS = {
  linear({ inputs, outputs }, take) {
    const weight = take(inputs * outputs), bias = take(outputs), out = new Float32Array(outputs);
    return (x) => {
      for (let o = 0, w = 0; o < outputs; o++) {
        let a = bias[o], b = 0, c = 0, d = 0, i = 0; // four sums: each addition need not wait for the last
        for (; i + 3 < inputs; i += 4, w += 4) {
          a += weight[w] * x[i];
          b += weight[w + 1] * x[i + 1];
          c += weight[w + 2] * x[i + 2];
          d += weight[w + 3] * x[i + 3];
        }
        for (; i < inputs; i++) a += weight[w++] * x[i];
        out[o] = a + b + c + d;
      }
      return out;
    };
  },
  activation({ name }) {
    const act = ACTIVATE[name];
    return (x) => {
      for (let i = 0; i < x.length; i++) x[i] = act(x[i]);
      return x;
    };
  },
  // repeats pixels to a new size, then convolves 3 by 3 with a border of zeros
  conv({ inputs, outputs, from: [h, w], to: [height, width] }, take) {
    const weight = take(inputs * outputs * 9), bias = take(outputs);
    const wide = width + 2, plane = (height + 2) * wide;
    const padded = new Float32Array(inputs * plane), out = new Float32Array(outputs * height * width);
    const rows = Int32Array.from({ length: height }, (_, y) => Math.floor((y * h) / height));
    const columns = Int32Array.from({ length: width }, (_, x) => Math.floor((x * w) / width));
    return (x) => {
      for (let c = 0; c < inputs; c++)
        for (let y = 0; y < height; y++) {
          const to = c * plane + (y + 1) * wide + 1, from = (c * h + rows[y]) * w;
          for (let i = 0; i < width; i++) padded[to + i] = x[from + columns[i]];
        }
      for (let o = 0; o < outputs; o++) {
        out.fill(bias[o], o * height * width, (o + 1) * height * width);
        for (let c = 0; c < inputs; c++) {
          const k = (o * inputs + c) * 9;
          const [a, b, d, e, f, g, p, q, r] = weight.subarray(k, k + 9);
          for (let y = 0; y < height; y++) {
            let at = c * plane + y * wide, put = (o * height + y) * width;
            for (let i = 0; i < width; i++, at++) {
              const next = at + wide, last = next + wide;
              out[put++] +=
                a * padded[at] + b * padded[at + 1] + d * padded[at + 2] +
                e * padded[next] + f * padded[next + 1] + g * padded[next + 2] +
                p * padded[last] + q * padded[last + 1] + r * padded[last + 2];
            }
          }
        }
      }
      return out;
    };
  },
};

// from z to grey levels, RGBA bytes of the whole image
function decoder({ layers, mean }, [channels, height, width], take) {
  const steps = layers.map((layer) => LAYERS[layer.kind](layer, take));
  const bias = take(channels * height * width), pixels = height * width;
  const image = new ImageData(width, height);
  image.data.fill(255);
  return (z) => {
    let x = Float32Array.from(z);
    for (const step of steps) x = step(x);
    const { data } = image;
    for (let i = 0; i < channels * pixels; i++) {
      let value = x[i] + bias[i];
      if (!Number.isFinite(value)) throw new Error("The model draws no numbers: some of its weights are not finite.");
      if (mean === "sigmoid") value = 1 / (1 + Math.exp(-value));
      const level = 255 * value; // the array rounds it and holds it within 0 and 255
      if (channels === 3) data[4 * (i % pixels) + Math.floor(i / pixels)] = level;
      else data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = level;
    }
    return image;
  };
}

function unpack(description, packs) {
  const weights = fromHalf(bytesOf(packs.weights)), codes = new Float32Array(bytesOf(packs.codes).buffer);
  const pictures = bytesOf(packs.pictures);
  let weight = 0, code = 0;
  const take = (count) => weights.subarray(weight, (weight += count));
  const rows = (count, width) => Array.from({ length: count }, () => codes.subarray(code, (code += width)));
  const groups = description.groups.map((group) => ({
    ...group,
    decoders: group.decoders.map((one) => (one.layers ? decoder(one, group.shape, take) : null)),
    codes: group.decoders.map(() => rows(group.images, group.latent)), // each by its own encoder
    at: rows(group.dots.length, 2), // where the dots are
  }));
  if (weight !== weights.length || code !== codes.length) throw new Error("its numbers are cut short.");
  return { ...description, groups, pictures };
}

// --- parts of the page -----------------------------------------------------------------------

function make(kind, properties = {}, ...children) {
  const { attributes = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(kind), rest);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  // JupyterLab's command mode takes keys from inputs that do not say this
  if (["input", "button", "select", "canvas", "summary"].includes(kind)) element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children);
  return element;
}

const button = (text, title, act) => make("button", { type: "button", textContent: text, title, onclick: act });
const labelled = (text, control) => make("label", {}, make("span", { textContent: text }), control);
const number = (low, high, value, act) =>
  make("input", { type: "number", min: low, max: high, value, step: 1, oninput: act });
const range = (low, high, step, value, act) =>
  make("input", { type: "range", min: low, max: high, step, value, oninput: act });
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function canvasOf([, height, width], size = PICTURE) {
  const canvas = make("canvas", { width, height, className: "vae-core-picture" });
  const scale = size / Math.max(width, height);
  canvas.style.width = `${width * scale}px`;
  canvas.style.aspectRatio = `${width} / ${height}`;
  return canvas;
}

function pictureOf(pictures, at, [channels, height, width]) {
  const image = new ImageData(width, height), pixels = height * width;
  for (let p = 0; p < pixels; p++) {
    for (let c = 0; c < 3; c++)
      image.data[4 * p + c] = pictures[at * channels * pixels + (channels === 3 ? c : 0) * pixels + p];
    image.data[4 * p + 3] = 255;
  }
  return image;
}

// --- one model, or several of the same z -----------------------------------------------------

// z is {get(i), set(values), chosen()}; what sets it calls draw()
function column(group, all, z, say, ask) {
  const { shape, latent } = group;
  const canvas = canvasOf(shape), problem = make("p", { className: "vae-core-problem", hidden: true, attributes: { role: "alert" } });
  canvas.setAttribute("role", "img");
  const now = () => Array.from({ length: latent }, (_, i) => z.get(i));
  const put = (values, message) => {
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      fail(`z[${bad}] is not a number: the encoder's weights may not be finite.`);
      return false;
    }
    z.set(values);
    if (message) say(`${group.name ? group.name + ": " : ""}${message}`);
    return true;
  };
  const name = () => (group.steps ? `${group.along} ${group.steps[z.chosen()]}` : group.name);
  const caption = make("figcaption");
  const strip = traversal(group, now, put, z);
  const pad = latent === 2 ? plane(group, all, now, put) : null;

  function show(image) {
    canvas.getContext("2d").putImageData(image, 0, 0);
    problem.hidden = true;
    canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1;
  }
  function fail(message) {
    problem.textContent = message;
    problem.hidden = false;
  }
  function draw() {
    const values = now();
    caption.textContent = name();
    canvas.setAttribute("aria-label", `${name() || "decoded image"} at z = ${values.map((v) => v.toFixed(2)).join(", ")}`);
    pad?.draw();
    strip.stale();
    if (values.some((value) => Math.abs(value) > group.reach + STEP)) say("z is further out than the plane and the traversal");
    const decode = group.decoders[z.chosen()];
    try {
      if (decode) show(decode(values));
      else {
        if (!canvas.dataset.drawn) fail("Waiting for the kernel to decode.");
        ask(values);
      }
    } catch (error) {
      fail(error.message);
    }
  }

  const tools = make("div", { className: "vae-core-tools" });
  tools.append(
    button("Copy z", "the latent vector as a Python list", async () => {
      const text = `[${now().map((value) => +value.toFixed(4)).join(", ")}]`;
      say((await copy(text)) ? "z copied" : `z = ${text}`);
    }),
    button("Save image", "as PNG, one pixel a pixel", () => canvas.toBlob((blob) => {
      const link = make("a", { href: URL.createObjectURL(blob), download: `${name() || "decoded"}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      say("image saved");
    })),
  );
  const parts = [caption, canvas, problem, tools, ...(pad ? [pad.element] : []), strip.element];
  return { element: make("figure", { className: "vae-core-model" }, ...parts), draw, put, show, fail, group, codes: () => group.codes[z.chosen()] };
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text }), before = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus();
    return done;
  }
}

// images along one dimension, drawn while its list is open
function traversal(group, now, put, z) {
  const which = make("select", { onchange: () => draw() }), row = make("div", { className: "vae-core-strip" });
  for (const i of group.order) which.append(make("option", { value: i, textContent: `z[${i}]` }));
  const values = Array.from({ length: STRIP }, (_, k) => (2 * k / (STRIP - 1) - 1) * group.reach);
  const cells = values.map((value) => {
    const canvas = canvasOf(group.shape, 48);
    const cell = make("button", { type: "button", className: "vae-core-cell" }, canvas);
    cell.onclick = () => {
      const to = now();
      to[which.value] = value;
      put(to, `z[${which.value}] = ${value}`);
    };
    row.append(cell);
    return { cell, canvas };
  });
  const element = make("details", { ontoggle: () => draw() }, make("summary", { textContent: "Traversal" }));
  element.append(labelled("along", which), row);
  let waiting = false;
  function draw() {
    waiting = false;
    const decode = group.decoders[z.chosen()], start = now();
    if (!element.open || !decode) return;
    values.forEach((value, k) => {
      const at = start.slice();
      at[which.value] = value;
      cells[k].cell.setAttribute("aria-label", `set z[${which.value}] to ${value}`);
      cells[k].cell.classList.toggle("vae-core-here", Math.abs(start[which.value] - value) < group.reach / STRIP);
      try {
        cells[k].canvas.getContext("2d").putImageData(decode(at), 0, 0);
      } catch { /* said beside the picture */ }
    });
  }
  // never on the way from slider to picture
  const stale = () => {
    if (!waiting && element.open) requestAnimationFrame(draw, (waiting = true));
  };
  if (!group.decoders.every(Boolean)) element.hidden = true;
  return { element, stale };
}

// the latent plane with the encoded images, to point at
function plane(group, all, now, put) {
  const side = PICTURE, reach = group.reach;
  const canvas = make("canvas", { width: 2 * side, height: 2 * side, className: "vae-core-pad", tabIndex: 0 });
  canvas.style.width = `${side}px`;
  canvas.setAttribute("role", "application");
  const place = ([x, y]) => [(x / reach + 1) * side, (1 - y / reach) * side];
  const ground = make("canvas", { width: 2 * side, height: 2 * side });
  const brush = ground.getContext("2d");
  group.dots.forEach((of, i) => {
    const [x, y] = place(group.at[i]);
    brush.fillStyle = all.colours[of % all.colours.length];
    brush.fillRect(x - 2, y - 2, 4, 4);
  });
  function draw() {
    const pen = canvas.getContext("2d"), [x, y] = place(now().map(held));
    pen.clearRect(0, 0, 2 * side, 2 * side);
    pen.drawImage(ground, 0, 0);
    for (const [ink, line] of [["white", 9], ["black", 4]]) {
      pen.strokeStyle = ink;
      pen.lineWidth = line;
      pen.beginPath();
      pen.arc(x, y, 14, 0, 7);
      pen.stroke();
    }
    canvas.setAttribute("aria-label", `latent plane, z = ${now().map((v) => v.toFixed(2)).join(", ")}; arrow keys move`);
  }
  const held = (value) => Math.min(reach, Math.max(-reach, value));
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    put([held((2 * (event.clientX - box.left) / box.width - 1) * reach), held((1 - 2 * (event.clientY - box.top) / box.height) * reach)]);
  };
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    point(event);
  };
  canvas.onpointermove = (event) => canvas.hasPointerCapture(event.pointerId) && point(event);
  canvas.ondblclick = () => put([0, 0], "prior mean");
  canvas.onkeydown = (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Home") put([0, 0], "prior mean");
    else if (way) {
      const to = now().map((value, i) => held(value + 0.1 * way[i]));
      put(to, `z = ${to.map((value) => value.toFixed(2)).join(", ")}`);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const keys = make("p", { className: "vae-core-keys" });
  for (const [i, text] of all.classes.entries())
    if (group.dots.includes(i)) {
      const mark = make("span", { textContent: "\u25a0 " });
      mark.style.color = all.colours[i % all.colours.length];
      keys.append(make("span", {}, mark, text), " ");
    }
  return { element: make("div", {}, canvas, keys), draw };
}

// --- what acts on all models -----------------------------------------------------------------

function toolbar(all, columns, say, undo) {
  const everywhere = (values, message) => {
    const done = columns.map((one) => one.put(values(one.group, one.codes())));
    if (message && done.every(Boolean)) say(message);
  };
  const seed = number(0, 4294967295, 0);
  const random = button("Random z", "a sample of the prior; the seed then goes up by one", () => {
    const from = Math.max(0, Math.floor(Number(seed.value)) || 0);
    everywhere((group) => normals(from, group.latent), `random z of seed ${from}`);
    seed.value = from + 1;
  });
  const home = button("Prior mean", "all of z to 0; a double click on a slider does it for one", () =>
    everywhere((group) => Array(group.latent).fill(0), "prior mean"));
  const row = make("div", { className: "vae-core-tools", attributes: { role: "toolbar", "aria-label": "latent vector" } });
  row.append(random, labelled("seed", seed), home);
  const images = all.groups[0].images;
  if (!images) return [row, make("div")];

  const what = (i) => `image ${i}` + (all.labels.length ? `, class ${all.classes[all.labels[i]]}` : "");
  const thumbs = make("div", { className: "vae-core-strip", attributes: { role: "group", "aria-label": "encode an image" } });
  for (let i = 0; i < images; i++) {
    const canvas = canvasOf(all.groups[0].shape, 40);
    canvas.getContext("2d").putImageData(pictureOf(all.pictures, i, all.groups[0].shape), 0, 0);
    const act = () => everywhere((_, codes) => [...codes[i]], `encoded ${what(i)}`);
    const cell = make("button", { type: "button", className: "vae-core-cell", onclick: act, title: what(i) }, canvas);
    cell.setAttribute("aria-label", `encode ${what(i)}`);
    thumbs.append(cell);
  }
  const walk = (quiet) => {
    const [a, b] = [from, to].map((input) => Math.min(images - 1, Math.max(0, Math.floor(Number(input.value)) || 0)));
    const t = Number(along.value);
    everywhere((_, codes) => [...codes[a]].map((value, i) => (1 - t) * value + t * codes[b][i]),
      quiet === true ? "" : `${Math.round(100 * t)}% of the way from ${what(a)} to ${what(b)}`);
  };
  const from = number(0, images - 1, 0, walk), to = number(0, images - 1, Math.min(1, images - 1), walk);
  const along = range(0, 1, 0.01, 0, walk);
  along.setAttribute("aria-label", "walk from one image to the other");
  let going = 0;
  const play = button("Walk", "from one image to the other", () => {
    cancelAnimationFrame(going);
    const began = performance.now();
    const step = (time) => {
      along.value = still() ? 1 : Math.min(1, Math.max(0, (time - began) / 3000));
      walk(Number(along.value) < 1);
      if (Number(along.value) < 1) going = requestAnimationFrame(step);
    };
    step(began);
  });
  const stop = () => cancelAnimationFrame(going); // any other touch ends the walk
  for (const kind of ["pointerdown", "keydown"]) {
    document.addEventListener(kind, stop, true);
    undo.push(() => document.removeEventListener(kind, stop, true));
  }
  undo.push(stop);
  const path = make("div", { className: "vae-core-tools" }, play, labelled("from image", from), labelled("to", to), along);
  return [row, make("div", {}, make("div", { textContent: "Encode an image:" }), thumbs, path)];
}

const LOOK = `
.vae-core { font-family: system-ui, sans-serif; font-size: 14px; max-width: 100%; }
.vae-core-models { display: flex; flex-wrap: wrap; gap: 16px; }
.vae-core-model { margin: 0; flex: 1 1 ${PICTURE + 8}px; min-width: 0; max-width: 360px; }
.vae-core figcaption { font-weight: 600; min-height: 1.4em; }
.vae-core canvas { image-rendering: pixelated; max-width: 100%; vertical-align: top; }
.vae-core-picture, .vae-core-pad { border: 1px solid #8888; }
.vae-core-pad { touch-action: none; cursor: crosshair; background: #fff; margin-top: 8px; }
.vae-core-keys { margin: 2px 0; padding: 2px; font-size: 12px; background: #fff; color: #000; }
.vae-core-tools { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin: 6px 0; }
.vae-core label { display: inline-flex; align-items: center; gap: 4px; }
.vae-core input[type="number"] { width: 5.5em; }
.vae-core button, .vae-core input, .vae-core select { font: inherit; }
.vae-core :focus-visible { outline: 3px solid #4a90d9; outline-offset: 1px; }
.vae-core-strip { display: flex; flex-wrap: wrap; gap: 2px; }
.vae-core-cell { padding: 1px; border: 2px solid transparent; background: none; cursor: pointer; line-height: 0; }
.vae-core-cell.vae-core-here { border-color: #CC6677; }
.vae-core-problem { color: #b00020; background: #fff; padding: 4px; margin: 4px 0; }
.vae-core-status { min-height: 1.4em; font-size: 13px; }
.vae-core-slider { display: grid; grid-template-columns: 7.8em 1fr 3em; align-items: center; gap: 4px; }
.vae-core-slider input { width: 100%; min-width: 0; }
.vae-core-slider output { text-align: right; font-variant-numeric: tabular-nums; }
`;

// all groups under one toolbar; zs: one z a group; returns what draws them
function board(root, all, zs, undo = [], ask = () => {}) {
  const status = make("div", { className: "vae-core-status", attributes: { role: "status" } });
  const say = (text) => (status.textContent = text);
  const columns = all.groups.map((group, g) => column(group, all, zs[g], say, (values) => ask(g, values)));
  const models = make("div", { className: "vae-core-models" }, ...columns.map((one) => one.element));
  root.classList.add("vae-core");
  const [bar, images] = toolbar(all, columns, say, undo);
  // the picture near the sliders: below it in a notebook with several models, beside it with one
  const rows = columns.length > 1 ? [bar, images, status, models] : [bar, status, models, images];
  root.append(make("style", { textContent: LOOK }), ...rows);
  if (all.note) root.append(make("p", { className: "vae-core-note", textContent: all.note }));
  columns.forEach((one) => one.draw());
  return { columns, say };
}

function complain(root, error) {
  root.replaceChildren(make("p", { textContent: `This explorer cannot be shown: ${error.message}`, attributes: { role: "alert" } }));
}

// --- in a notebook ---------------------------------------------------------------------------

function render({ model, el }) {
  const undo = [];
  try {
    const all = unpack(JSON.parse(model.get("description")), {
      weights: model.get("weights"), codes: model.get("codes"), pictures: model.get("pictures"),
    });
    const starts = all.groups.map((_, g) => all.groups.slice(0, g).reduce((sum, group) => sum + group.latent, 0));
    const zs = all.groups.map((group, g) => ({
      get: (i) => model.get(`z${starts[g] + i}`),
      set: (values) => {
        const held = (value) => Math.min(group.reach, Math.max(-group.reach, value));
        const shown = (value) => Number((Math.round(held(value) / STEP) * STEP).toFixed(6)); // as a slider can
        values.forEach((value, i) => model.set(`z${starts[g] + i}`, shown(value)));
        model.save_changes();
      },
      chosen: () => (group.steps ? model.get("chosen") : 0),
    }));
    const view = Math.random(), busy = [], next = []; // one question at a time; what comes meanwhile is asked last
    const ask = (g, values) => {
      next[g] = values;
      if (busy[g]) return;
      busy[g] = true;
      next[g] = null;
      model.send({ view, group: g, chosen: zs[g].chosen(), z: values });
    };
    const shown = board(el, all, zs, undo, ask);
    shown.columns.forEach((one, g) => {
      let waiting = false; // several numbers of one z change at once: draw once, before the next frame
      const soon = () => {
        if (!waiting) queueMicrotask(() => ((waiting = false), one.draw()));
        waiting = true;
      };
      const names = Array.from({ length: one.group.latent }, (_, i) => `change:z${starts[g] + i}`);
      for (const name of [...names, "change:chosen"]) {
        model.on(name, soon);
        undo.push(() => model.off(name, soon));
      }
    });
    const answer = (message, buffers) => {
      if (message.view !== view) return;
      busy[message.group] = false;
      if (next[message.group]) ask(message.group, next[message.group]);
      const one = shown.columns[message.group];
      if (message.problem) one.fail(message.problem);
      else one.show(pictureOf(bytesOf(buffers[0]), 0, one.group.shape));
    };
    model.on("msg:custom", answer);
    const reset = (event) => {
      if (event.target.closest?.(".widget-readout")) return; // there it selects the number
      const slider = event.target.closest?.(`.vae-core-z.${all.id}`);
      const name = slider && [...slider.classList].find((one) => /^vae-core-z\d+$/.test(one));
      if (!name) return;
      model.set(name.slice("vae-core-".length), 0);
      model.save_changes();
    };
    // ipywidgets names no handle, and JupyterLab's command mode takes its arrow keys
    const dress = (slider) => {
      const handle = slider?.querySelector(".noUi-handle");
      handle?.setAttribute("aria-label", slider.querySelector(".widget-label")?.textContent || "z");
      handle?.setAttribute("data-lm-suppress-shortcuts", "true");
    };
    const focused = (event) => dress(event.target.closest?.(`.vae-core-z.${all.id}`));
    document.addEventListener("focusin", focused);
    const later = setTimeout(() => document.querySelectorAll(`.vae-core-z.${all.id}`).forEach(dress), 500);
    undo.push(() => document.removeEventListener("focusin", focused), () => clearTimeout(later));
    document.addEventListener("dblclick", reset);
    undo.push(() => model.off("msg:custom", answer), () => document.removeEventListener("dblclick", reset));
  } catch (error) {
    complain(el, error);
  }
  return () => undo.forEach((act) => act());
}

// --- in a page -------------------------------------------------------------------------------

export function page(root, description, packs) {
  try {
    root.replaceChildren();
    const all = unpack(description, packs);
    const sliders = all.groups.map((group) => group.names.map((text, i) => {
      const input = range(-group.reach, group.reach, STEP, 0), output = make("output", { textContent: "0.00", attributes: { "aria-live": "off" } });
      input.setAttribute("aria-label", text);
      return { input, output, row: make("div", { className: "vae-core-slider" }, make("span", { textContent: text }), input, output) };
    }));
    let shown;
    const steps = all.groups.map((group) => group.steps && range(0, group.steps.length - 1, 1, group.first, () => stepped()));
    const stepped = () => {
      steps[0].setAttribute("aria-valuetext", all.groups[0].steps[steps[0].value]);
      shown.columns[0].draw();
    };
    const zs = all.groups.map((_, g) => ({
      get: (i) => Number(sliders[g][i].input.value),
      set: (values) => {
        values.forEach((value, i) => (sliders[g][i].input.value = value));
        change(g);
      },
      chosen: () => (steps[g] ? Number(steps[g].value) : 0),
    }));
    const change = (g) => {
      for (const { input, output } of sliders[g]) output.textContent = Number(input.value).toFixed(2);
      shown.columns[g].draw();
    };
    shown = board(root, all, zs);
    sliders.forEach((of, g) => {
      const box = make("div");
      if (steps[g]) {
        steps[g].setAttribute("aria-label", all.groups[g].along);
        stepped();
        box.append(make("div", { className: "vae-core-slider" }, make("span", { textContent: all.groups[g].along }), steps[g]));
      }
      for (const i of all.groups[g].order) {
        of[i].input.addEventListener("input", () => change(g));
        of[i].input.addEventListener("dblclick", () => {
          of[i].input.value = 0;
          change(g);
        });
        box.append(of[i].row);
      }
      shown.columns[g].element.querySelector("canvas").after(box);
    });
  } catch (error) {
    complain(root, error);
  }
}

export default { render };
