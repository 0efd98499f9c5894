// Runs the network at the width that the slider, or the controller, chooses.

import * as ort from './ort.wasm.bundle.min.mjs';
import { Controller } from './controller.js';
import { drawable, middle, normalized } from './pictures.js';

const element = (id) => document.getElementById(id);
const facts = JSON.parse(element('facts').textContent);
const [slider, auto, budget] = ['width', 'auto', 'budget'].map(element);
const [pad, video, picture] = ['pad', 'video', 'picture'].map(element);
const widths = facts.widths; // widest first
const [height, across, channels] = facts.imageShape;
const cards = new Map(widths.map((width) => [width.name, card(width)]));
const times = new Map(widths.map((width) => [width.name, []]));
// Frames of which a card shows the latency.
const REMEMBERED = 200;
const WARM_UPS = 5;
const TIMED = 30;

let session;
let source = pad;
let costs;
let controller = null;
let busy = false;
let changed = false;

function say(text, wrong = false) {
  element('status').textContent = text;
  element('status').classList.toggle('wrong', wrong);
}

function tag(name, parent, className = '') {
  const made = document.createElement(name);
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function card(width) {
  const box = tag('article', element('widths'), 'width');
  box.dataset.width = width.name;
  tag('h2', box).textContent = width.name;
  tag('small', box).textContent = `${width.macs} MACs`;
  if (width.top1 != null) {
    tag('small', box).textContent = `top-1 ${(100 * width.top1).toFixed(2)} %`;
  }
  const latency = tag('div', box, 'numbers');
  const list = tag('ol', box);
  return { box, latency, list };
}

async function fetched({ file, integrity }) {
  const response = await fetch(file, { integrity });
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = await fetched(facts.binary);
  session = await ort.InferenceSession.create(await fetched(facts.model));
  const blank = new Float32Array(height * across * channels);
  for (const width of widths) {
    for (let turn = 0; turn < WARM_UPS; turn += 1) await run(width, blank);
  }
  // In turns, so that what else the device does hits all alike.
  for (let turn = 0; turn < TIMED; turn += 1) {
    for (const width of widths) remember(width, (await run(width, blank)).time);
  }
  costs = widths.map(({ name }) => ({
    name,
    // A clock that ticks rarely may have seen nothing.
    typical: Math.max(quantile(times.get(name), 0.5), 0.01),
    slow: quantile(times.get(name), 0.95),
  }));
}

async function run(width, values) {
  const images = new ort.Tensor('float32', values, [1, height, across, channels]);
  const inputs = { images };
  if (!facts.single) {
    const index = BigInt64Array.of(BigInt(width.index));
    inputs.width_index = new ort.Tensor('int64', index, []);
  }
  const start = performance.now();
  const outputs = await session.run(inputs);
  const time = performance.now() - start;
  return { logits: Object.values(outputs)[0].data, time };
}

function remember({ name }, time) {
  const own = times.get(name);
  own.push(time);
  if (own.length > REMEMBERED) own.shift();
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

function show(width, logits) {
  const { latency, list } = cards.get(width.name);
  const [p50, p95] = [0.5, 0.95].map((share) => quantile(times.get(width.name), share));
  latency.textContent = `${p50.toFixed(1)} ms, p95\u00a0${p95.toFixed(1)}`;
  const most = Math.max(...logits);
  const parts = Array.from(logits, (logit) => Math.exp(logit - most));
  const whole = parts.reduce((sum, part) => sum + part, 0);
  const order = [...parts.keys()].sort((one, other) => parts[other] - parts[one]);
  list.replaceChildren();
  for (const number of order.slice(0, 5)) {
    const row = tag('li', list);
    row.dataset.class = number;
    row.dataset.logit = logits[number];
    tag('span', row).textContent = facts.classNames[number];
    const share = ((100 * parts[number]) / whole).toFixed(1);
    tag('span', row, 'numbers').textContent = `${share} %`;
  }
}

function choose(name) {
  slider.value = widths.length - 1 - widths.findIndex((width) => width.name === name);
  element('chosen').textContent = name;
  for (const [own, { box }] of cards) box.classList.toggle('chosen', own === name);
}

function chosen() {
  return widths[widths.length - 1 - slider.valueAsNumber];
}

function look() {
  const seen = middle(source, facts.imageShape, facts.preprocessing.resize);
  const canvas = element('seen');
  [canvas.width, canvas.height] = [across, height];
  canvas.getContext('2d').putImageData(seen, 0, 0);
  return normalized(seen, channels, facts.preprocessing);
}

// A picture that stands still is shown to every width; moving ones, and all that is
// within a budget, to the chosen width alone, frame by frame.
async function frame() {
  const moving = controller || (source === video && video.readyState >= 2);
  if (!busy && (moving || changed)) {
    busy = true;
    changed = false;
    const values = look();
    const asked = moving ? [chosen()] : widths;
    for (const width of widths) {
      cards.get(width.name).box.classList.toggle('stale', !asked.includes(width));
    }
    for (const width of asked) {
      const { logits, time } = await run(width, values);
      remember(width, time);
      show(width, logits);
      const decision = controller?.observe(width.name, time, performance.now() / 1000);
      if (decision) {
        choose(decision.width);
        say(`auto: ${decision.previous} → ${decision.width} (${decision.reason})`);
      }
    }
    if (!moving) document.body.dataset.shown = Number(document.body.dataset.shown) + 1;
    busy = false;
  }
  requestAnimationFrame(() => frame().catch(fail));
}

function use(next) {
  if (next !== video && video.srcObject) {
    for (const track of video.srcObject.getTracks()) track.stop();
    video.srcObject = null;
  }
  source = next;
  for (const each of [pad, video, picture]) each.hidden = each !== next;
  changed = true;
}

async function open(file) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    say(`${file.name} is no image that this browser reads.`, true);
    return;
  }
  [picture.width, picture.height] = [image.width, image.height];
  picture.getContext('2d').drawImage(image, 0, 0);
  say('');
  use(picture);
}

async function film() {
  try {
    const wish = { video: { facingMode: 'environment' } };
    video.srcObject = await navigator.mediaDevices.getUserMedia(wish);
    await video.play();
  } catch (error) {
    say(`The camera cannot be used: ${error.message}`, true);
    return;
  }
  say('');
  use(video);
}

function keep() {
  const allowed = budget.valueAsNumber;
  controller = null;
  if (auto.checked && allowed > 0) {
    controller = new Controller(costs, allowed, facts.rule);
    choose(controller.width);
  }
  slider.disabled = controller !== null;
  changed = true;
}

function fail(error) {
  say(`The page cannot go on: ${error.message}`, true);
}

slider.max = widths.length - 1;
choose(widths[0].name);
slider.addEventListener('input', () => {
  choose(chosen().name);
  changed = true;
});
auto.addEventListener('change', keep);
budget.addEventListener('input', keep);
element('file').addEventListener('change', ({ target }) => {
  if (target.files.length) open(target.files[0]).catch(fail);
  target.value = '';
});
element('camera').addEventListener('click', film);
const clear = drawable(pad, () => (changed = true));
element('clear').addEventListener('click', () => {
  clear();
  use(pad);
});

try {
  await load();
  slider.disabled = auto.disabled = false;
  say('Draw something large, open an image, or use the camera.');
  changed = true;
  await frame();
} catch (error) {
  fail(error);
}
