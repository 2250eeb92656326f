// Draws the inspector: in inspector.html, which holds all answers, and in the notebook's widget, which asks for them.
// All text enters the page as text (textContent), never as markup.

const SVG = "http://www.w3.org/2000/svg";
const LARGEST_FILE = 100e6; // bytes; a photo of a phone has 2 to 15 MB
const SENT_SIDE = 512;
const PATIENCE = 60_000; // ms until a question without an answer is given up

function make(tag, attributes = {}, ...children) {
  const element = attributes.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}
const svg = (tag, attributes, ...children) => make(tag, { svg: true, ...attributes }, ...children);
const button = (text, name, act) => make("button", { type: "button", class: name, onclick: act }, text);

const words = (name) => name.replaceAll("_", " ");
const percent = (p) => `${(100 * p).toFixed(1)} %`;
const signed = (x, digits = 2) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;
const bits = (n) => n.toString(2).replaceAll("0", "").length;
const largest = (values) => values.indexOf(Math.max(...values));

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
const floats = (text) => new Float32Array(bytes(text).buffer);

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / sum);
}

// What inspector.html keeps in the address, in words: #photo=scene_00003.jpg&cut=2-emotion-to-aesthetics
const streamName = (s) => `${s.layer}-${s.source}-to-${s.receiver}`;
const inWords = (s) => `${s.source} to ${s.receiver} at layer ${s.layer}`;

// --- the page's state, which every part below takes as `s`: what is chosen, what is known, and the parts to draw

function newState(root, page, options) {
  const { tasks, switches, photos } = page;
  const states = 2 ** switches.length;
  return {
    root, page, options, tasks, switches, photos, states, borrows: switches.length > 0,
    colourOf: Object.fromEntries(tasks.map((task) => [task.name, task.colour])),
    ranks: Object.fromEntries(tasks.map((task) => [task.name, ranksOf(task, states)])),
    say: make("p", { class: "say", role: "status", "aria-live": "polite" }),
    slots: [0, null], // the photos shown; the second only side by side
    active: 0, // the slot that the thumbnails fill
    cut: 0, // bit k: stream k is closed
    donor: "", // the photo whose maps a closed stream carries; none: the mean image
    looked: {}, // by task, the row of its ledger that is looked at; none: the answer's
    layer: page.layers, // of the maps
    mapped: tasks[0], // the task of the maps
    turns: {}, // by task, which of the smallest sets comes next
    guessing: false,
    guesses: new Map(), // photo -> {task name: class}
    revealed: new Set(),
    waiting: null, count: 0, // the question that the kernel is answering, and how many it was asked
    parts: {}, // by name, {element, draw}
  };
}

/** Where a state lies in a task's table: states that can't differ for the task are kept once. */
function ranksOf(task, states) {
  const rank = new Int32Array(states);
  for (let n = 0, next = 0; n < states; n++) rank[n] = n & task.idle ? rank[n & ~task.idle] : next++;
  return rank;
}

const current = (s) => s.photos[s.slots[s.active]];
const shown = (s) => s.slots.filter((number) => number !== null).map((number) => s.photos[number]);
const asking = (s, item) => s.guessing && !s.revealed.has(item);
const named = (s, name) => s.photos.find((item) => item.name === name);
// The table of a state: one for all states with the same donor; a photo's own maps change nothing.
const keyOf = (item, state, from) => (!state || from === item.name ? "" : from);

function table(item, key) {
  item.tables ??= {};
  const packed = item.logits?.[key];
  if (packed && !item.tables[key])
    item.tables[key] = Object.fromEntries(Object.entries(packed).map(([name, text]) => [name, floats(text)]));
  return item.tables[key];
}
const known = (s, item, state = s.cut, from = s.donor) => Boolean(table(item, keyOf(item, state, from)));
function logits(s, item, task, state = s.cut, from = s.donor) {
  const size = task.classes.length;
  const row = s.ranks[task.name][from === item.name ? 0 : state];
  return table(item, keyOf(item, state, from))[task.name].subarray(row * size, (row + 1) * size);
}
const verdict = (s, item, task, state = s.cut, from = s.donor) => largest(logits(s, item, task, state, from));
// What a ledger or a map splits: each class's logit; of two classes, the difference of both, for one mirrors the other.
const rowsOf = (task) => (task.classes.length === 2 ? [`${task.classes[1]} minus ${task.classes[0]}`] : task.classes);
const rowOf = (s, item, task) => (rowsOf(task).length === 1 ? 0 : s.looked[task.name] ?? verdict(s, item, task, 0));
const mapKey = (s, item, at = s.layer, task = s.mapped, row = rowOf(s, item, task)) => `${task.name}/${row}/${at}`;

function smallestSets(s, item, task, from = s.donor) {
  let found = [];
  for (let n = 1; n < s.states; n++) {
    if (verdict(s, item, task, n, from) === verdict(s, item, task, 0)) continue;
    if (!found.length || bits(n) < bits(found[0])) found = [n];
    else if (bits(n) === bits(found[0])) found.push(n);
  }
  return found;
}
/** The fewest cuts that turn any of a photo's answers; 0: none do. */
function fewestCuts(s, item) {
  if (!known(s, item, 0) || !known(s, item, s.states - 1, "")) return 0;
  item.fewest ??= Math.min(...s.tasks.map((task) => bits(smallestSets(s, item, task, "")[0] ?? 0) || Infinity));
  return Number.isFinite(item.fewest) ? item.fewest : 0;
}

function show(s, number) {
  s.slots[s.active] = number;
  s.turns = {};
  s.say.textContent = "";
  const one = s.parts.strip.element.children[number];
  s.parts.strip.element.scrollTo?.({ left: one.offsetLeft - s.parts.strip.element.clientWidth / 2 });
  update(s);
}
function set(s, state) {
  s.cut = state;
  s.turns = {};
  s.say.textContent = "";
  update(s);
}

const LOOKING = "The network is looking at this photo ...";
function update(s) {
  const all = shown(s);
  s.ready = all.every((one) => known(s, one, 0) && known(s, one));
  const problem = all.flatMap((one) => Object.entries(one.problems ?? {})).find(([key]) => key.startsWith("answers"))?.[1];
  s.root.classList.toggle("waiting", !s.ready);
  s.root.classList.toggle("paired", s.slots[1] !== null);
  s.root.classList.toggle("guessing", asking(s, current(s)));
  if (!s.ready) s.say.textContent = problem ?? (s.options.ask ? LOOKING : `This file holds no transplant from ${s.donor}.`);
  else if (s.say.textContent === LOOKING) s.say.textContent = "";
  for (const part of Object.values(s.parts)) part.draw();
  if (s.options.address) writeAddress(s);
  askNext(s);
}

// --- what is asked of a kernel

// First the maps on view, then, while the kernel has nothing else to do, those that one change leads to: they show at once.
function looksNext(s, item) {
  const here = rowOf(s, item, s.mapped);
  const layers = Array.from({ length: s.page.layers }, (_, k) => k + 1).filter((k) => k !== s.layer);
  const others = s.tasks.filter((task) => task !== s.mapped);
  const rows = rowsOf(s.mapped).map((_, c) => c).filter((c) => c !== here);
  return [[s.mapped, here, s.layer], ...layers.map((k) => [s.mapped, here, k]),
    ...others.map((task) => [task, rowOf(s, item, task), s.layer]), ...rows.map((c) => [s.mapped, c, s.layer])];
}
function wanted(s) {
  const found = [];
  const answers = (item, key) => table(item, key) || found.push({ what: "answers", item, key, donor: key });
  for (const item of shown(s)) {
    answers(item, "");
    answers(item, keyOf(item, s.cut, s.donor));
  }
  const item = current(s);
  if (s.parts.maps.element.open && known(s, item, 0) && !asking(s, item)) {
    for (const [task, target, k] of looksNext(s, item)) {
      const key = mapKey(s, item, k, task, target);
      if (!item.maps?.[key]) found.push({ what: "map", item, key, task: task.name, target, layer: k });
    }
  }
  if (s.borrows) s.photos.forEach((one) => answers(one, "")); // last: how many cuts turn the photos not yet looked at
  return found.filter((question) => !question.item.problems?.[question.what + question.key]);
}
// One question at a time, always the first that the present view needs: what one has clicked past is never asked.
function askNext(s) {
  const next = !s.waiting && s.options.ask && wanted(s)[0];
  if (!next) return;
  const { item, key, ...question } = next;
  const late = () => give(s, "No answer came; start the inspector again (in a notebook: run its cell).");
  s.waiting = { ...next, id: ++s.count, timer: setTimeout(late, PATIENCE) };
  const from = question.donor ? named(s, question.donor) : null;
  s.options.ask({ ...question, run: s.page.run, id: s.count, name: item.name, image: item.own ? item.image : null, donor_image: from?.own ? from.image : null });
}
function give(s, problem, answer = {}) {
  clearTimeout(s.waiting.timer);
  const { item, what, key } = s.waiting;
  s.waiting = null;
  if (problem) (item.problems ??= {})[what + key] = problem;
  else if (what === "map") (item.maps ??= {})[key] = answer.maps;
  else {
    (item.logits ??= {})[key] = answer.logits;
    for (const more of ["ledger", "flows", "unusual"]) if (answer[more]) item[more] = answer[more];
  }
  update(s);
}

// --- choosing: runs, photos, modes

function runChoice(page, options) {
  if (!(options.runs?.length > 1)) return "";
  const choice = make("select", { onchange: () => options.pick(choice.value) },
    ...options.runs.map((run) => make("option", { value: run, selected: run === page.run }, run)));
  return make("label", { class: "runs" }, "Network: ", choice);
}
const thumbnail = (item, act, label) => make("button", { type: "button", "aria-label": label, title: item.name, onclick: act },
  make("img", { src: item.image, alt: "" }));

function photoStrip(s) {
  const element = make("div", { class: "strip", role: "group", "aria-label": "Photos" });
  element.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(s, (s.slots[s.active] + step + s.photos.length) % s.photos.length);
    element.children[s.slots[s.active]].focus();
  });
  const one = (item) => thumbnail(item, () => show(s, s.photos.indexOf(item)), `Photo ${item.name}`);
  element.append(...s.photos.map(one));
  const add = (item) => element.prepend(one(item));
  const draw = () => [...element.children].forEach((one, k) => one.setAttribute("aria-pressed", String(s.slots.includes(k))));
  return { element, draw, add };
}
function modes(s) {
  const setMode = (guessFirst, sideBySide) => {
    s.guessing = guessFirst;
    if (sideBySide) s.slots[1] = (s.slots[0] + 1) % s.photos.length;
    else if (s.slots[1] !== null) s.slots = [s.slots[s.active], null];
    s.active = sideBySide ? 1 : 0;
    if (s.guessing) [s.cut, s.donor] = [0, ""];
    s.say.textContent = "";
    update(s);
  };
  const pair = button("Two photos side by side", "pair", () => setMode(false, s.slots[1] === null));
  const guess = button("Guess first", "guess", () => setMode(!s.guessing, false));
  const draw = () => {
    pair.setAttribute("aria-pressed", String(s.slots[1] !== null));
    guess.setAttribute("aria-pressed", String(s.guessing));
  };
  return { element: make("div", { class: "buttons modes" }, ...(s.options.ask ? [uploadField(s)] : []), pair, guess), draw };
}
function uploadField(s) {
  const input = make("input", { type: "file", accept: "image/*", "aria-label": "Your own photo", onchange: async () => {
    if (input.files[0]) await upload(s, input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  } });
  return make("label", { class: "upload" }, "Your own photo ", input);
}
async function upload(s, file) {
  if (file.size > LARGEST_FILE) {
    s.say.textContent = `${file.name} has ${Math.round(file.size / 1e6)} MB; photos of up to ${LARGEST_FILE / 1e6} MB can be shown here, so shrink it first.`;
    return;
  }
  let image;
  try {
    image = await shrink(file);
  } catch {
    s.say.textContent = `${file.name} can't be read as a picture here; save it as JPEG or PNG and try again.`;
    return;
  }
  let name = file.name;
  for (let n = 2; named(s, name); n++) name = `${file.name} (${n})`;
  const item = { name, image, own: true, truth: {}, credit: `Your photo, shrunk here to at most ${SENT_SIDE} px` };
  s.photos.unshift(item); // one's own come first
  s.slots = s.slots.map((number) => (number === null ? null : number + 1));
  s.parts.strip.add(item);
  if (!s.page.donors) s.parts.donors?.add(item);
  show(s, 0);
}

// --- a photo with its answers

function stage(s) {
  s.views = [0, 1].map((slot) => viewOf(s, slot));
  const brief = make("p", { class: "brief", "aria-hidden": "true" }); // on a phone, the answers beside the photo
  const draw = () => {
    s.views.forEach((view) => view.draw());
    if (s.ready) brief.replaceChildren(...(asking(s, current(s)) ? [] : s.views[s.active].cards.map((one, t) => {
      const turned = one.element.classList.contains("turned") ? "turned" : "";
      const word = make("span", { class: turned }, make("b", {}, s.tasks[t].name), ` ${one.answer.textContent}`);
      word.style.borderColor = s.tasks[t].colour;
      return word;
    })));
  };
  return { element: make("div", { class: "stage" }, ...s.views.map((view) => view.element), brief), draw };
}
const UNUSUAL = "Far from the training data: what the network sees in it differs more from the training photos than 19 of 20 of these do. The answers may mean little";
function viewOf(s, slot) {
  const picture = make("img", { class: "photo", alt: "" });
  const caption = make("figcaption");
  const choose = button("", "choose", () => { s.active = slot; update(s); });
  const cards = s.tasks.map((task) => card(s, slot, task));
  const element = make("div", { class: "view", "data-slot": slot }, make("figure", {}, choose, picture, caption),
    make("div", { class: "verdicts" }, ...cards.map((part) => part.element)));
  function draw() {
    element.hidden = s.slots[slot] === null;
    if (element.hidden) return;
    const item = s.photos[s.slots[slot]];
    if (picture.getAttribute("src") !== item.image) picture.src = item.image;
    picture.alt = `The photo ${item.name}`;
    choose.textContent = s.active === slot ? "The photos above change this one" : "Change this one";
    choose.setAttribute("aria-pressed", String(s.active === slot));
    const people = Object.entries(item.truth).map(([task, name]) => `${task} ${words(name)}`).join(", ");
    const told = people && !asking(s, item) ? `People's consensus: ${people}` : "";
    caption.textContent = `${[item.name, told, item.credit].filter(Boolean).join(". ")}.`;
    if (item.unusual) caption.append(make("b", { class: "unusual" }, ` ${UNUSUAL}.`));
    if (known(s, item, 0) && known(s, item)) cards.forEach((part) => part.draw(item));
  }
  return { element, cards, draw };
}
function card(s, slot, task) {
  const answer = make("strong", { class: "answer" });
  const before = make("span", { class: "before" });
  const told = make("p", { class: "told" });
  const rows = task.classes.map((name, c) => cardRow(task, name, () => {
    const item = s.photos[s.slots[slot]];
    s.guesses.set(item, { ...s.guesses.get(item), [task.name]: c });
    update(s);
  }));
  const element = make("section", { class: "card", "data-task": task.name, "aria-label": task.name },
    make("h3", {}, task.name), make("p", { class: "head" }, answer, before), ...rows.map((r) => r.row), told);
  element.style.setProperty("--task", task.colour);
  function draw(item) {
    const hidden = asking(s, item);
    const mine = s.guesses.get(item)?.[task.name];
    const [now, uncut] = [softmax(logits(s, item, task)), softmax(logits(s, item, task, 0))];
    const [best, was] = [verdict(s, item, task), verdict(s, item, task, 0)];
    element.classList.toggle("asking", hidden);
    element.classList.toggle("turned", best !== was && !hidden);
    answer.textContent = hidden ? "What would you say?" : `${words(task.classes[best])} ${percent(now[best])}`;
    before.textContent = s.cut && !hidden ? `${best === was ? "before: " : "turned; before: "}${words(task.classes[was])} ${percent(uncut[was])}` : "";
    rows.forEach((r, c) => r.draw({ hidden, now: now[c], uncut: uncut[c], best: c === best, mine: c === mine, cut: s.cut }));
    const people = item.truth[task.name];
    const against = (c) => (people ? (task.classes[c] === people ? " ✓" : " ✗") : "");
    told.textContent = s.revealed.has(item) && mine !== undefined
      ? `You: ${words(task.classes[mine])}${against(mine)}. Network: ${words(task.classes[was])}${against(was)}. ${people ? `People: ${words(people)}.` : "No people were asked about this photo."}` : "";
  }
  return { element, answer, draw };
}
function cardRow(task, name, guess) {
  const bar = make("i", { class: "bar" });
  const mark = make("i", { class: "mark" });
  const value = make("span", { class: "value" });
  const pick = make("button", { type: "button", class: "name", disabled: true, onclick: guess }, words(name));
  bar.style.background = task.colour;
  const row = make("div", { class: "row" }, pick, make("span", { class: "track" }, bar, mark), value);
  function draw({ hidden, now, uncut, best, mine, cut }) {
    pick.disabled = !hidden;
    pick.toggleAttribute("aria-pressed", false);
    if (hidden) pick.setAttribute("aria-pressed", String(mine));
    bar.style.width = hidden ? 0 : `${100 * now}%`;
    mark.style.left = hidden ? 0 : `${100 * uncut}%`;
    mark.hidden = !cut || hidden;
    value.textContent = hidden ? "" : percent(now);
    row.classList.toggle("best", best && !hidden);
  }
  return { row, draw };
}

// --- guess first

function quiz(s) {
  const score = make("p", { class: "score", role: "status" });
  const reveal = button("Reveal", "reveal", () => { s.revealed.add(current(s)); update(s); });
  const following = button("Next photo", "next", () => show(s, (s.slots[0] + 1) % s.photos.length));
  const element = make("div", { class: "quiz" },
    make("p", {}, "Look, choose one answer for each task, then reveal what the network says and what people said."),
    make("div", { class: "buttons" }, reveal, following), score);
  function draw() {
    element.hidden = !s.guessing;
    const item = current(s);
    const done = s.tasks.every((task) => s.guesses.get(item)?.[task.name] !== undefined);
    reveal.disabled = s.revealed.has(item) || !done || !known(s, item, 0);
    let [n, mine, network, chance] = [0, 0, 0, 0];
    for (const one of s.revealed) {
      for (const task of s.tasks.filter((task) => one.truth[task.name])) {
        const right = task.classes.indexOf(one.truth[task.name]);
        n += 1;
        mine += s.guesses.get(one)[task.name] === right;
        network += verdict(s, one, task, 0) === right;
        chance += 1 / task.classes.length;
      }
    }
    score.textContent = n ? `Judged by people's consensus: you ${mine} of ${n}, the network ${network} of ${n}, a blind guess about ${chance.toFixed(1)}.` : "";
  }
  return { element, draw };
}

// --- the network: its boxes show the maps that flow there, its lines are as wide as their share, with a switch on each

const HALF = { wide: 27, narrow: 20 }; // of a box's side, px
const NARROW = 500;
const KNOB = 19; // px: large enough for a finger
const LANE = 138; // from one task's row to the next

/** What a borrowed stream contributes to its receiver's logit: its share of all players, and whether the null reaches it. */
function contribution(s, item, stream) {
  const ledger = item?.ledger?.[stream.receiver];
  if (!ledger) return null;
  const row = rowOf(s, item, s.tasks.find((task) => task.name === stream.receiver));
  const p = ledger.layers.findIndex((layer, k) => layer === stream.layer && ledger.sources[k] === stream.source);
  if (p < 0) return null;
  const values = ledger.values[row];
  const total = values.reduce((sum, value) => sum + Math.abs(value), 0) || 1;
  const shadow = s.page.null?.tasks?.[stream.receiver];
  const within = shadow && shadow.low[row][p] <= values[p] && values[p] <= shadow.high[row][p];
  return { share: Math.abs(values[p]) / total, within: Boolean(within) };
}

function networkDrawing(s) {
  const element = make("div", { class: "network" });
  const index = Object.fromEntries(s.tasks.map((task, t) => [task.name, t]));
  let [width, edges, boxes] = [0, [], []];
  function build(room) {
    width = room;
    const half = room < NARROW ? HALF.narrow : HALF.wide;
    const trunk = s.page.frozen ? 1 : 0;
    const columns = trunk + s.page.groups + (s.page.layers === s.page.groups ? 1 : 0);
    const step = Math.max(2 * half + 12, Math.min(150, (room - 2 * half - 8) / Math.max(columns - 1, 1)));
    const size = [step * (columns - 1) + 2 * half + 8, LANE * (s.tasks.length - 1) + 2 * half + 68];
    const middle = 26 + half + (LANE * (s.tasks.length - 1)) / 2;
    const place = (i, t) => [half + 4 + step * (i + trunk), t === null ? middle : 26 + half + LANE * t];
    const image = svg("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, width: size[0], height: size[1], role: "group",
      "aria-label": "The network: a row of conv groups for each task, and between neighbouring groups what one branch borrows from the other" });
    const ends = (i, a, b) => [place(i, a)[0] + half, place(i, a)[1], place(i + 1, b)[0] - half, place(i + 1, b)[1]];
    const line = ([x1, y1, x2, y2], colour, name) => svg("line", { x1, y1, x2, y2, stroke: colour, class: name });
    s.tasks.forEach((task, t) => {
      if (trunk) image.append(line(ends(-1, null, t), task.colour, "own"));
      for (let i = 0; i + 1 < columns - trunk; i++) image.append(line(ends(i, t, t), task.colour, "own"));
    });
    edges = s.page.edges.map((stream) => {
      const at = ends(stream.layer - 1, index[stream.source], index[stream.receiver]);
      const drawn = line(at, s.colourOf[stream.source], "borrowed");
      const k = s.switches.findIndex((one) => streamName(one) === streamName(stream));
      const knob = k < 0 ? null : knobOf(s, k, drawn, at[0] + 0.7 * (at[2] - at[0]), at[1] + 0.7 * (at[3] - at[1]));
      image.append(knob ? knob.group : drawn);
      return { stream, drawn, knob, k };
    });
    boxes = [...(trunk ? [{ task: null, i: -1, title: s.page.frozen > 1 ? `1–${s.page.frozen}` : "1" }] : []),
      ...s.tasks.flatMap((task, t) => Array.from({ length: columns - trunk }, (_, i) => (
        { task, t, i, title: i < s.page.groups ? `${i + 1 + s.page.frozen}` : "head" })))];
    boxes.forEach((one) => image.append(...boxOf(one, half, place(one.i, one.task ? one.t : null))));
    const nameAt = (t) => place(0, t)[1] + (t && t + 1 === s.tasks.length ? half + 33 : -half - 8); // circles lie between the rows
    s.tasks.forEach((task, t) => image.append(svg("text", { x: place(0, t)[0] - half, y: nameAt(t), class: "task" }, task.name)));
    if (trunk) image.append(svg("text", { x: place(-1, null)[0] - half, y: middle - half - 8, class: "task" }, "shared"));
    element.replaceChildren(image);
  }
  function draw() {
    const item = current(s);
    const room = Math.floor(element.clientWidth) || width || 700;
    if (!edges.length || room !== width) build(room);
    edges.forEach((edge) => drawEdge(s, item, edge));
    boxes.forEach((one) => drawBox(item, one));
  }
  new ResizeObserver(() => Math.floor(element.clientWidth) !== width && draw()).observe(element);
  return { element, draw };
}
function knobOf(s, k, line, x, y) {
  const label = svg("text", { x, y: y + 6 });
  const hint = svg("title");
  const colour = s.colourOf[s.switches[k].source];
  const group = svg("g", { class: "knob", role: "switch", tabindex: 0, "data-stream": streamName(s.switches[k]) },
    hint, line, svg("circle", { cx: x, cy: y, r: KNOB, stroke: colour, fill: colour }), label);
  const toggle = () => set(s, s.cut ^ (1 << k));
  group.addEventListener("click", toggle);
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
  return { group, label, hint };
}
function drawEdge(s, item, { stream, drawn, knob, k }) {
  const part = asking(s, item) ? null : contribution(s, item, stream);
  drawn.style.strokeWidth = part ? 1 + 40 * part.share : 4;
  drawn.classList.toggle("within", Boolean(part?.within));
  if (!knob) return;
  const off = (s.cut >> k) & 1;
  const [closed, verb] = s.donor ? [`from ${s.donor}`, "transplant"] : ["cut", "cut"];
  knob.group.setAttribute("aria-checked", String(!off));
  knob.group.setAttribute("aria-label", `${inWords(stream)}, ${off ? closed : "open"}`);
  knob.group.classList.toggle("cut", Boolean(off));
  knob.label.textContent = off ? (s.donor ? "⇄" : "×") : String(stream.layer);
  const share = part ? ` Its share of the logit: ${percent(part.share)}${part.within ? ", no more than where there was nothing to borrow" : ""}.` : "";
  knob.hint.textContent = `${inWords(stream)}: ${off ? `${closed}, click to restore` : `open, click to ${verb}`}.${share}`;
}
function boxOf(one, half, [x, y]) {
  const side = 2 * half;
  one.map = svg("image", { x: x - half, y: y - half, width: side, height: side, preserveAspectRatio: "none" });
  const frame = svg("rect", { x: x - half, y: y - half, width: side, height: side, rx: 4, stroke: one.task?.colour ?? "var(--soft)", class: "frame" });
  const back = svg("rect", { x: x - half, y: y - half, width: side, height: side, rx: 4, class: "back" });
  return [back, one.map, frame, svg("text", { x, y: y + half + 15, class: "group" }, one.title)];
}
function drawBox(item, one) {
  const flow = item.flows?.[one.task?.name ?? ""]?.[Math.max(one.i, 0)];
  const address = flow ? (flow.address ??= greyPicture(flow)) : "";
  if (one.map.getAttribute("href") !== address) one.map.setAttribute("href", address);
}
/** A mean map, dark where it is low, as a picture's address. */
function greyPicture({ size: [height, width], cells }) {
  const canvas = make("canvas", { width, height });
  const drawn = canvas.getContext("2d").createImageData(width, height);
  bytes(cells).forEach((v, i) => drawn.data.set([v, v, v, 255], 4 * i));
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return canvas.toDataURL();
}

// --- what a closed stream carries: the mean image's map, or a donor's

function donors(s) {
  const givers = make("div", { class: "strip givers", role: "group", "aria-label": "What a closed stream carries" });
  const carryFrom = (name) => {
    s.donor = name;
    s.turns = {};
    s.say.textContent = name && !s.cut ? `Now click a circle: the stream then carries what it carries for ${name}.` : "";
    update(s);
  };
  const nothing = button("the mean image: a cut", "mean", () => carryFrom(""));
  givers.append(nothing);
  const buttons = new Map();
  const add = (item) => {
    const one = thumbnail(item, () => carryFrom(item.name), `the maps of ${item.name}: a transplant`);
    buttons.set(item.name, one);
    givers.append(one);
  };
  (s.page.donors ?? s.photos.map((item) => item.name)).forEach((name) => add(named(s, name)));
  const draw = () => {
    nothing.setAttribute("aria-pressed", String(!s.donor));
    for (const [name, one] of buttons) one.setAttribute("aria-pressed", String(name === s.donor));
  };
  const element = make("div", { class: "carries" }, make("span", {}, "A closed stream carries the maps of"), givers);
  return { element, draw, add, has: (name) => buttons.has(name) };
}

// --- the flips: the smallest sets of cuts that turn an answer, and the photos that have them

function flips(s) {
  const finders = s.tasks.map((task) => button(`Find the flip: ${task.name}`, `flip flip-${task.name}`, () => findFlip(s, task)));
  const element = make("div", { class: "buttons" }, ...finders,
    button("Close all", "all", () => set(s, s.states - 1)), button("Open all", "none", () => set(s, 0)));
  return { element, draw() {} };
}
function findFlip(s, task) {
  const item = current(s);
  if (!known(s, item, 0) || !known(s, item, s.states - 1)) return;
  const sets = smallestSets(s, item, task);
  const was = words(task.classes[verdict(s, item, task, 0)]);
  const what = s.donor ? "transplant" : "cut";
  if (!sets.length) {
    set(s, 0);
    s.say.textContent = `No set of ${what}s turns ${task.name}: it stays ${was} in all ${s.states} states.`;
    return;
  }
  const turn = (s.turns[task.name] ?? 0) % sets.length;
  set(s, sets[turn]);
  s.turns[task.name] = turn + 1;
  const names = s.switches.filter((_, k) => (sets[turn] >> k) & 1).map(inWords).join("; ");
  const more = sets.length > 1 ? ` ${sets.length} sets are this small (this is ${turn + 1}); press again for the next.` : " No other set is this small.";
  const number = bits(sets[turn]) === 1 ? `One ${what} turns` : `${bits(sets[turn])} ${what}s turn`;
  s.say.textContent = `${number} ${task.name} from ${was} to ${words(task.classes[verdict(s, item, task)])}: ${names}.${more}`;
}
const NUMBERS = ["none", "one cut", "two", "three", "four", "five", "six", "seven", "eight"];
/** '5 photos turn by one cut, 9 by two': each a button that shows the next of them, uncut. */
function offers(s) {
  const element = make("p", { class: "offers" });
  const draw = () => {
    const seen = s.photos.filter((item) => known(s, item, 0));
    const by = new Map();
    for (const item of seen) by.set(fewestCuts(s, item), [...(by.get(fewestCuts(s, item)) ?? []), item]);
    const few = [...by.keys()].filter(Boolean).sort((a, b) => a - b);
    element.hidden = asking(s, current(s)) || !seen.length;
    const next = (items) => {
      [s.cut, s.donor] = [0, ""];
      show(s, s.photos.indexOf(items[(items.indexOf(current(s)) + 1) % items.length]));
    };
    const first = (n) => (n === 1 ? "1 photo turns" : `${n} photos turn`);
    element.replaceChildren(...few.flatMap((k, at) => {
      const n = by.get(k).length;
      return [button(`${at ? n : first(n)} by ${NUMBERS[k] ?? k}`, "offer", () => next(by.get(k))), " "];
    }), few.length ? `${by.get(0)?.length ?? 0} of ${seen.length} by none.` : `None of ${seen.length} photos turns by any set of cuts.`);
  };
  return { element, draw };
}

// --- the ledgers

function ledgers(s) {
  const panels = s.tasks.flatMap((task) => [0, 1].map((slot) => ledgerPanel(s, slot, task)));
  const element = make("div", { class: "account" },
    make("h2", {}, "The ledger: what the logits are made of, with every stream open"),
    make("div", { class: "ledgers" }, ...panels.map((panel) => panel.element)),
    make("p", { class: "small" }, "‘own’ is the branch’s own way through; ‘borrowed at i’ is what came in from another branch at layer i, with what that one had borrowed before. The colour is the task whose maps they are."),
    make("p", { class: "small null" }, s.page.null?.note ?? ""),
    make("details", { class: "formula" }, make("summary", {}, "The formula"),
      make("p", {}, "φ(p) = Σ |S|! (n − 1 − |S|)! / n! · ( f(S ∪ {p}) − f(S) )"),
      make("p", { class: "small" }, "These are Shapley values: f(S) is the logit when the players in S carry this photo’s maps and the other ones the mean image’s; the sum runs over all sets S without p, of n players. All φ add up to the logit of the photo minus that of the mean image. Of two classes the ledger splits the difference of the logits, since one mirrors the other.")));
  return { element, draw: () => s.ready && panels.forEach((panel) => panel.draw()) };
}
function ledgerPanel(s, slot, task) {
  const choice = rowChoice(s, task);
  const side = make("span");
  const bars = make("div", { class: "ledger" });
  const check = make("p", { class: "check" });
  const element = make("section", { class: "card", "data-ledger": task.name, "data-slot": slot },
    make("h3", {}, side, `${task.name}: the logit of `, choice.hidden ? words(rowsOf(task)[0]) : choice), bars, check);
  element.style.setProperty("--task", task.colour);
  const shadow = s.page.null?.tasks?.[task.name];
  const reach = (c, values) => Math.max(...[...values[c], ...(shadow?.low[c] ?? []), ...(shadow?.high[c] ?? [])].map(Math.abs));
  function draw() {
    const item = s.photos[s.slots[slot]];
    element.hidden = s.slots[slot] === null || !item?.ledger;
    if (element.hidden) return;
    const c = rowOf(s, item, task);
    choice.value = c;
    side.textContent = s.slots[1] === null ? "" : ["left photo, ", "right photo, "][slot];
    const ledger = item.ledger[task.name];
    const top = Math.max(...shown(s).filter((one) => one.ledger).map((one) => reach(rowOf(s, one, task), one.ledger[task.name].values)), 1e-9);
    bars.replaceChildren(...ledger.players.map((player, p) => {
      const behind = shadow ? [span(shadow.low[c][p], shadow.high[c][p], top, "shadow")] : [];
      return ledgerRow(player, ledger.values[c][p], top, s.colourOf[ledger.sources[p]], behind);
    }));
    check.textContent = checkedSum(ledger, c, top) + (shadow ? beyondNull(ledger, c, shadow) : "");
  }
  return { element, draw };
}
function span(low, high, top, name) {
  const part = make("i", { class: name });
  part.style.left = `${50 + (50 * low) / top}%`;
  part.style.width = `${(50 * (high - low)) / top}%`;
  return part;
}
function ledgerRow(player, value, top, colour, behind) {
  const bar = span(Math.min(value, 0), Math.max(value, 0), top, "bar");
  bar.style.background = colour;
  return make("div", { class: "row" }, make("span", { class: "name" }, player),
    make("span", { class: "track middle" }, ...behind, bar), make("span", { class: "value" }, signed(value)));
}
function checkedSum({ values, logits: whole, baseline, error }, c, top) {
  const sum = values[c].reduce((a, b) => a + b);
  const gap = whole[c] - baseline[c];
  const off = Math.abs(sum - gap);
  const holds = off <= 1e-4 * Math.max(1, Math.abs(gap), top);
  return `${holds ? "✓" : "✗"} The bars add up to ${signed(sum)}. The logit is ${signed(whole[c])}, that of the mean image ${signed(baseline[c])}: the difference is ${signed(gap)}. The sum ${holds ? "holds" : "does NOT hold"} (off by ${off.toFixed(6)}).${error ? ` Each bar is drawn from permutations, with a standard error of up to ${error.toFixed(3)}.` : ""}`;
}
/** How much of what is borrowed lies outside the null's reach. */
function beyondNull(ledger, c, { low, high }) {
  const values = ledger.values[c].filter((_, p) => ledger.layers[p]);
  const outside = ledger.values[c].map((v, p) => (ledger.layers[p] ? v - Math.min(Math.max(v, low[c][p]), high[c][p]) : 0));
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  return ` Borrowed: ${signed(sum(values))}; beyond the null: ${signed(sum(outside))}.`;
}
function rowChoice(s, task) {
  const choice = make("select", { "aria-label": `${task.name}: class whose logit is split`,
    onchange: () => { s.looked[task.name] = Number(choice.value); update(s); } },
    ...rowsOf(task).map((name, c) => make("option", { value: c }, words(name))));
  choice.hidden = rowsOf(task).length === 1;
  return choice;
}

// --- the maps

function maps(s) {
  const task = make("select", { "aria-label": "Task of the maps", onchange: () => { s.mapped = s.tasks[task.value]; update(s); } },
    ...s.tasks.map((one, t) => make("option", { value: t }, one.name)));
  const rows = s.tasks.map((one) => rowChoice(s, one));
  const layer = make("select", { "aria-label": "Layer of the maps", onchange: () => { s.layer = Number(layer.value); update(s); } },
    ...Array.from({ length: s.page.layers }, (_, i) => make("option", { value: i + 1 }, `layer ${i + 1}`)));
  const box = make("div", { class: "maps" });
  const note = make("p", { class: "small" });
  const element = make("details", { class: "where", ontoggle: () => update(s) },
    make("summary", {}, "Where in the photo does it come from?"),
    make("p", { class: "buttons" }, task, ...rows, ...(s.borrows ? [layer] : [])), box, note);
  element.open = !s.options.ask;
  let drawn = null;
  function draw() {
    const item = current(s);
    task.value = s.tasks.indexOf(s.mapped);
    layer.value = s.layer;
    rows.forEach((choice, t) => {
      choice.hidden = s.tasks[t] !== s.mapped || choice.options.length === 1;
      if (known(s, item, 0)) choice.value = rowOf(s, item, s.tasks[t]);
    });
    if (!element.open || !known(s, item, 0)) return;
    const found = item.maps?.[mapKey(s, item)];
    note.textContent = found ? "Red takes the logit up, blue takes it down; all maps shown together have one scale. Integrated gradients from the mean image to this photo, printed with what they leave unexplained."
      : item.problems?.[`map${mapKey(s, item)}`] ?? (s.options.ask ? "The network is looking ..." : "This file holds the maps of the network's answers alone; lesson 07 computes those of any class.");
    if (found === drawn) return;
    drawn = found;
    const scale = Math.max(...(found ?? []).map((one) => one.scale));
    box.replaceChildren(...(found ?? []).map((one) => mapFigure(s, item, one, one.scale / scale)));
  }
  return { element, draw };
}
function mapFigure(s, item, one, strength) {
  const canvas = make("canvas", { role: "img", "aria-label": `Map over ${item.name}` });
  overlay(canvas, item.image, one, strength);
  const own = one.source === s.mapped.name;
  const title = !s.borrows ? "the pixels" : own ? "own" : `borrowed from ${one.source}`;
  const falls = `${one.effect < 0 ? "rise" : "fall"} by ${Math.abs(one.effect).toFixed(3)}`;
  const without = s.borrows ? "Were this stream alone that of the mean image" : "For the mean image";
  const figure = make("figure", { "data-map": one.source }, make("h3", {}, title), canvas,
    make("p", {}, `The map adds up to ${signed(one.sum, 3)}. ${without}, the logit would ${falls}: ${Math.abs(one.sum - one.effect).toFixed(3)} is unexplained.`));
  if (one.channels.length)
    figure.append(make("p", { class: "channels" }, "Top channels: ", ...one.channels.map(([k, v]) => make("span", {}, `${k} (${signed(v, 3)})`))));
  figure.style.setProperty("--task", s.colourOf[one.source] ?? s.mapped.colour);
  return figure;
}

// --- the story: ten sentences in four steps

const STORY = [
  ["Look", "02_network", "Each row of boxes judges the same photo, one for each task. A box shows the average of the maps that leave its group: bright is where this stage responds most."],
  ["Cut", "06_attribution", "A numbered circle sits on what one branch borrows from another. Click it, and the stream carries what it carries for the mean image: nothing of this photo. Choose another photo as the giver, and the same click is a transplant."],
  ["Compare", "07_inspector", "A line is as wide as its Shapley share of the logit, and the ledger below has the same numbers. Put two photos side by side to see where the same cut matters more."],
  ["Doubt", "more/08_attribution_checks", "Grey is what a stream reaches where the other branch has learnt nothing of its task, so a grey line proves nothing. Most answers do not turn by one cut. And what is explained here is the network, which may be wrong about the photo."],
];
/** Where a lesson is, seen from this page: beside a notebook, in a checkout or on the site; none in an app of its own. */
function lessonAddress(s, name) {
  if (s.options.address) return location.pathname.includes("/figures/") ? `../notebooks/${name}.ipynb` : `notebooks/${name}.html`;
  return /\/lab\/.*\.ipynb$/.test(location.pathname) ? `${name}.ipynb` : null;
}
function story(s) {
  return make("ol", { class: "story" }, ...STORY.map(([title, lesson, text]) => {
    const address = lessonAddress(s, lesson);
    const name = `Lesson ${lesson.match(/\d\d/)[0]}`;
    return make("li", {}, make("h3", {}, title), make("p", {}, `${text} `, address ? make("a", { href: address }, name) : `(${name})`));
  }));
}

// --- what inspector.html keeps in the address

function writeAddress(s) {
  const cuts = s.switches.filter((_, k) => (s.cut >> k) & 1).map(streamName);
  const given = [["network", s.options.runs?.indexOf(s.page.run) > 0 ? s.page.run : ""], ["photo", s.photos[s.slots[0]].name], ["second", s.photos[s.slots[1]]?.name], ["cut", cuts.join(",")], ["from", s.donor],
    ...s.tasks.map((task) => [task.name, rowsOf(task)[s.looked[task.name]]]), ["layer", s.layer === s.page.layers ? "" : s.layer], ["guess", s.guessing ? "first" : ""]];
  const text = `#${given.filter(([, value]) => value).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value).replaceAll("%2C", ",")}`).join("&")}`;
  if (text !== location.hash) history.replaceState(null, "", text);
}
function readAddress(s) {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = (given.get("cut") ?? "").split(",");
  s.cut = s.switches.reduce((state, one, k) => state | (names.includes(streamName(one)) ? 1 << k : 0), 0);
  s.donor = s.parts.donors?.has(given.get("from")) ? given.get("from") : "";
  s.guessing = given.get("guess") === "first";
  s.layer = Math.min(Math.max(Number(given.get("layer")) || s.page.layers, 1), s.page.layers);
  s.looked = Object.fromEntries(s.tasks.map((task) => [task.name, rowsOf(task).indexOf(given.get(task.name))]).filter(([, c]) => c >= 0));
  const [first, second] = ["photo", "second"].map((key) => s.photos.findIndex((item) => item.name === given.get(key)));
  s.slots = [first < 0 ? opening(s) : first, second < 0 || s.guessing ? null : second];
  s.active = 0;
  show(s, s.slots[0]);
  if (given.has("photo") && first < 0) s.say.textContent = `There is no photo ${given.get("photo")} here; this is another one.`;
}
/** The first photo whose answer turns by the fewest cuts. */
function opening(s) {
  const fewest = s.photos.map((item) => fewestCuts(s, item) || Infinity);
  return Math.max(fewest.indexOf(Math.min(...fewest)), 0);
}

// --- putting it together

/** Draw a page into an element.
 *  options: address (keep the state there), ask(question) (fetch what is not known), runs, pick(run).
 *  Returns {receive(answer)}, for the answers that ask() leads to. */
export function inspect(root, page, options = {}) {
  root.replaceChildren();
  root.classList.add("aesthemo");
  if (page.problem) {
    root.append(runChoice(page, options), make("p", { class: "say", role: "status" }, page.problem));
    return { receive() {} };
  }
  const s = newState(root, page, options);
  const parts = { strip: photoStrip(s), modes: modes(s), quiz: quiz(s), stage: stage(s), maps: maps(s) };
  if (s.borrows) Object.assign(parts, { network: networkDrawing(s), flips: flips(s), offers: offers(s), donors: donors(s), ledgers: ledgers(s) });
  s.parts = parts;
  const lead = s.borrows ? "Two branches judge one photo and borrow maps from each other. Click a circle to cut what is borrowed there, and see what changes."
    : `Nothing can be cut here: ${page.reason}.`;
  const intervene = s.borrows ? [make("div", { class: "intervene" }, parts.network.element, parts.flips.element, parts.offers.element)] : [];
  root.append(make("header", {}, make("h1", {}, "What does each judgement borrow?"), runChoice(page, options), make("p", {}, lead)), parts.strip.element,
    make("div", { class: "first" }, parts.stage.element, make("div", { class: "right" }, ...intervene, s.say, ...(s.borrows ? [parts.donors.element] : []), parts.modes.element, parts.quiz.element)),
    ...(s.borrows ? [story(s), parts.ledgers.element] : []), parts.maps.element,
    make("footer", { class: "small" }, `Network: ${page.title}.${page.note ? ` ${page.note}` : ""}`));
  if (options.address) {
    options.follow = () => readAddress(s);
    readAddress(s);
  } else show(s, 0);
  return {
    receive(answer) {
      if (answer.run === page.run && answer.id === s.waiting?.id) give(s, answer.problem, answer); // else it comes too late
    },
  };
}

/** The same with a choice of networks, one at a time; the address may name one: #network=drawn scenes. */
export function inspectOne(root, pages, options = {}) {
  const runs = pages.map((page) => page.run);
  let shown, opened;
  const open = (name) => {
    shown = pages[Math.max(runs.indexOf(name), 0)];
    opened = inspect(root, shown, Object.assign(options, { runs, pick }));
  };
  const pick = (name) => {
    if (options.address) history.replaceState(null, "", `#network=${encodeURIComponent(name)}`);
    open(name);
  };
  const asked = () => (options.address && new URLSearchParams(location.hash.slice(1)).get("network")) || runs[0];
  open(asked());
  if (options.address) window.addEventListener("hashchange", () => (asked() === shown.run ? options.follow() : open(asked())));
  return { receive: (answer) => opened.receive(answer) };
}

/** A grey photo with a signed map over it; strength is the map's largest value as a share of those it is compared with. */
function overlay(canvas, address, map, strength) {
  const image = new Image();
  image.onload = () => {
    const [w, h] = [image.naturalWidth, image.naturalHeight];
    Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, w, h);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const grey = 0.3 * pixels.data[i] + 0.59 * pixels.data[i + 1] + 0.11 * pixels.data[i + 2];
      pixels.data.fill(90 + 0.6 * grey, i, i + 3);
    }
    context.putImageData(pixels, 0, 0);
    const cells = new Int8Array(bytes(map.cells).buffer);
    const small = make("canvas", { width: map.size[1], height: map.size[0] });
    const drawn = small.getContext("2d").createImageData(map.size[1], map.size[0]);
    cells.forEach((v, i) => drawn.data.set([...(v > 0 ? [178, 24, 43] : [33, 102, 172]), 230 * ((strength * Math.abs(v)) / 127) ** 0.8], 4 * i));
    small.getContext("2d").putImageData(drawn, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, w, h);
  };
  image.src = address;
}

/** A picture file as a JPEG of at most SENT_SIDE px, upright, over white. */
async function shrink(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SENT_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.9);
}

function render({ model, el }) {
  let shown;
  const draw = () => {
    const box = make("div");
    el.replaceChildren(box);
    const page = structuredClone(model.get("page")); // what is added here must not be sent back
    shown = inspect(box, page, {
      runs: model.get("runs"),
      pick: (run) => { model.set("run", run); model.save_changes(); },
      ask: (question) => model.send(question),
    });
  };
  const receive = (answer) => shown.receive(answer);
  model.on("change:page", draw);
  model.on("msg:custom", receive);
  draw();
  return () => { model.off("change:page", draw); model.off("msg:custom", receive); };
}
export default { render };
