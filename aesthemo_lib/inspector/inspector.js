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

/** Draw a page into an element.
 *  options: address (keep the state there), ask(question) (fetch what is not known), runs, pick(run).
 *  Returns {receive(answer)}, for the answers that ask() leads to. */
export function inspect(root, page, options = {}) {
  root.replaceChildren();
  root.classList.add("aesthemo");
  const say = make("p", { class: "say", role: "status", "aria-live": "polite" });
  if (options.runs?.length > 1) root.append(runChoice());
  if (page.problem) {
    say.textContent = page.problem;
    root.append(say);
    return { receive() {} };
  }
  const { tasks, switches, photos, complete } = page;
  const borrows = switches.length > 0;
  const states = 2 ** switches.length;
  const colourOf = Object.fromEntries(tasks.map((task) => [task.name, task.colour]));
  const slots = [0, null]; // the photos shown; the second only side by side
  let active = 0; // the slot that the thumbnails fill
  let cut = 0; // bit k: stream k is closed
  let donor = ""; // the photo whose maps a closed stream carries; none: the mean image
  let looked = {}; // by task, the class whose logit is split; none: the answer
  let layer = page.layers; // of the maps
  let mapped = tasks[0]; // the task of the maps
  let turns = {}; // by task, which of the smallest sets comes next
  let guessing = false;
  const guesses = new Map(); // photo -> {task name: class}
  const revealed = new Set();

  // --- what is known, and what is asked for

  const current = () => photos[slots[active]];
  const shown = () => slots.filter((number) => number !== null).map((number) => photos[number]);
  const asking = (item) => guessing && !revealed.has(item);
  const named = (name) => photos.find((item) => item.name === name);

  /** Where the answers of a state lie: every state with one donor in a table, or each state by itself. */
  function place(item, state, from) {
    if (!state || from === item.name) [state, from] = [0, ""]; // its own maps change nothing
    return { from, state, key: complete ? from : `${from}/${state}` };
  }
  function table(item, key) {
    item.tables ??= {};
    const packed = item.logits?.[key];
    if (packed && !item.tables[key])
      item.tables[key] = Object.fromEntries(Object.entries(packed).map(([name, text]) => [name, floats(text)]));
    return item.tables[key];
  }
  const known = (item, state = cut, from = donor) => Boolean(table(item, place(item, state, from).key));
  // Where a state lies in a task's table: states that can't differ for the task are kept once.
  const ranks = Object.fromEntries(tasks.map((task) => {
    if (!complete) return [task.name, null];
    const rank = new Int32Array(states);
    for (let n = 0, next = 0; n < states; n++) rank[n] = n & task.idle ? rank[n & ~task.idle] : next++;
    return [task.name, rank];
  }));
  function logits(item, task, state = cut, from = donor) {
    const at = place(item, state, from);
    const size = task.classes.length;
    const row = complete ? ranks[task.name][at.state] : 0;
    return table(item, at.key)[task.name].subarray(row * size, (row + 1) * size);
  }
  const verdict = (item, task, state = cut) => largest(logits(item, task, state));
  const classOf = (item, task) => looked[task.name] ?? verdict(item, task, 0);
  const mapKey = (item, at = layer, task = mapped, target = classOf(item, task)) => `${task.name}/${target}/${at}`;

  // First the maps on view, then, while the kernel has nothing else to do, those that one change leads to: they show at once.
  function looksNext(item) {
    const here = classOf(item, mapped);
    const layers = Array.from({ length: page.layers }, (_, k) => k + 1).filter((k) => k !== layer);
    const others = tasks.filter((task) => task !== mapped);
    const classes = mapped.classes.map((_, c) => c).filter((c) => c !== here);
    return [[mapped, here, layer], ...layers.map((k) => [mapped, here, k]),
      ...others.map((task) => [task, classOf(item, task), layer]), ...classes.map((c) => [mapped, c, layer])];
  }
  function wanted() {
    const found = [];
    for (const item of shown()) {
      for (const [state, from] of [[0, ""], [cut, donor]]) {
        const at = place(item, state, from);
        if (!table(item, at.key)) found.push({ what: "answers", item, key: at.key, donor: at.from, state: complete ? 0 : at.state });
      }
    }
    const item = current();
    if (where.open && known(item, 0) && !asking(item)) {
      for (const [task, target, k] of looksNext(item)) {
        const key = mapKey(item, k, task, target);
        if (!item.maps?.[key]) found.push({ what: "map", item, key, task: task.name, target, layer: k });
      }
    }
    return found.filter((question) => !question.item.problems?.[question.what + question.key]);
  }
  // One question at a time, always the first that the present view needs: what one has clicked past is never asked.
  let waiting = null;
  let count = 0;
  function askNext() {
    const next = !waiting && options.ask && wanted()[0];
    if (!next) return;
    const { item, key, ...question } = next;
    waiting = { ...next, id: ++count, timer: setTimeout(() => give("No answer came from the kernel; run the notebook's cell again."), PATIENCE) };
    const from = question.donor ? named(question.donor) : null;
    options.ask({ ...question, id: count, name: item.name, image: item.own ? item.image : null, donor_image: from?.own ? from.image : null });
  }
  function give(problem, answer = {}) {
    clearTimeout(waiting.timer);
    const { item, what, key } = waiting;
    waiting = null;
    if (problem) (item.problems ??= {})[what + key] = problem;
    else if (what === "map") (item.maps ??= {})[key] = answer.maps;
    else {
      (item.logits ??= {})[key] = answer.logits;
      if (answer.ledger) item.ledger = answer.ledger;
    }
    update();
  }

  // --- choosing: runs, photos, modes

  function runChoice() {
    const choice = make("select", { onchange: () => options.pick(choice.value) },
      ...options.runs.map((run) => make("option", { value: run, selected: run === page.run }, run)));
    return make("label", { class: "runs" }, "Run ", choice);
  }
  const strip = make("div", { class: "strip", role: "group", "aria-label": "Photos" });
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show((slots[active] + step + photos.length) % photos.length);
    strip.children[slots[active]].focus();
  });
  const thumbnail = (item, act, label) => make("button", { type: "button", "aria-label": label, title: item.name, onclick: act },
    make("img", { src: item.image, alt: "" }));
  const addThumbnail = (item) => strip.append(thumbnail(item, () => show(photos.indexOf(item)), `Photo ${item.name}`));
  photos.forEach(addThumbnail);

  const pair = button("Two photos side by side", "pair", () => { setMode(false, slots[1] === null); });
  const guess = button("Guess first", "guess", () => setMode(!guessing, false));
  function setMode(guessFirst, sideBySide) {
    guessing = guessFirst;
    if (sideBySide) slots[1] = (slots[0] + 1) % photos.length;
    else if (slots[1] !== null) [slots[0], slots[1]] = [slots[active], null];
    active = sideBySide ? 1 : 0;
    if (guessing) [cut, donor] = [0, ""];
    say.textContent = "";
    update();
  }

  function uploadField() {
    const input = make("input", { type: "file", accept: "image/*", "aria-label": "Your own photo", onchange: async () => {
      if (input.files[0]) await upload(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    } });
    return make("label", { class: "upload" }, "Your own photo ", input);
  }
  async function upload(file) {
    if (file.size > LARGEST_FILE) {
      say.textContent = `${file.name} has ${Math.round(file.size / 1e6)} MB; photos of up to ${LARGEST_FILE / 1e6} MB can be shown here, so shrink it first.`;
      return;
    }
    let image;
    try {
      image = await shrink(file);
    } catch {
      say.textContent = `${file.name} can't be read as a picture here; save it as JPEG or PNG and try again.`;
      return;
    }
    let name = file.name;
    for (let n = 2; named(name); n++) name = `${file.name} (${n})`;
    const item = { name, image, own: true, truth: {}, credit: `Your photo, shrunk here to at most ${SENT_SIDE} px` };
    photos.push(item);
    addThumbnail(item);
    if (!page.donors) addDonor(item);
    show(photos.length - 1);
  }

  // --- a photo with its answers

  const views = [0, 1].map(viewOf);
  const stage = make("div", { class: "stage" }, ...views.map((part) => part.element));
  const brief = make("p", { class: "brief", "aria-hidden": "true" }); // on a phone the answers stay in sight

  function viewOf(slot) {
    const picture = make("img", { class: "photo", alt: "" });
    const caption = make("figcaption");
    const choose = button("", "choose", () => { active = slot; update(); });
    const cards = tasks.map((task) => card(slot, task));
    const element = make("div", { class: "view", "data-slot": slot }, make("figure", {}, choose, picture, caption),
      make("div", { class: "verdicts" }, ...cards.map((part) => part.element)));
    function draw() {
      element.hidden = slots[slot] === null;
      if (element.hidden) return;
      const item = photos[slots[slot]];
      if (picture.getAttribute("src") !== item.image) picture.src = item.image;
      picture.alt = `The photo ${item.name}`;
      choose.textContent = active === slot ? "The photos above change this one" : "Change this one";
      choose.setAttribute("aria-pressed", String(active === slot));
      const people = Object.entries(item.truth).map(([task, name]) => `${task} ${words(name)}`).join(", ");
      const told = people && !asking(item) ? `People's consensus: ${people}` : "";
      caption.textContent = `${[item.name, told, item.credit].filter(Boolean).join(". ")}.`;
      if (known(item, 0) && known(item)) cards.forEach((part) => part.draw(item));
    }
    return { element, cards, draw };
  }

  function card(slot, task) {
    const answer = make("strong", { class: "answer" });
    const before = make("span", { class: "before" });
    const told = make("p", { class: "told" });
    const rows = task.classes.map((name, c) => {
      const bar = make("i", { class: "bar" });
      const mark = make("i", { class: "mark" });
      const value = make("span", { class: "value" });
      const pick = make("button", { type: "button", class: "name", disabled: true, onclick: () => {
        const item = photos[slots[slot]];
        guesses.set(item, { ...guesses.get(item), [task.name]: c });
        update();
      } }, words(name));
      bar.style.background = task.colour;
      const row = make("div", { class: "row" }, pick, make("span", { class: "track" }, bar, mark), value);
      return { row, pick, bar, mark, value };
    });
    const element = make("section", { class: "card", "data-task": task.name, "aria-label": task.name },
      make("h3", {}, task.name), make("p", { class: "head" }, answer, before), ...rows.map((r) => r.row), told);
    element.style.setProperty("--task", task.colour);
    function draw(item) {
      const hidden = asking(item);
      const mine = guesses.get(item)?.[task.name];
      const [now, uncut] = [softmax(logits(item, task)), softmax(logits(item, task, 0))];
      const [best, was] = [verdict(item, task), verdict(item, task, 0)];
      element.classList.toggle("asking", hidden);
      element.classList.toggle("turned", best !== was && !hidden);
      answer.textContent = hidden ? "What would you say?" : `${words(task.classes[best])} ${percent(now[best])}`;
      before.textContent = cut && !hidden ? `${best === was ? "before: " : "turned; before: "}${words(task.classes[was])} ${percent(uncut[was])}` : "";
      rows.forEach((r, c) => {
        r.pick.disabled = !hidden;
        r.pick.toggleAttribute("aria-pressed", false);
        if (hidden) r.pick.setAttribute("aria-pressed", String(c === mine));
        r.bar.style.width = hidden ? 0 : `${100 * now[c]}%`;
        r.mark.style.left = hidden ? 0 : `${100 * uncut[c]}%`;
        r.mark.hidden = !cut || hidden;
        r.value.textContent = hidden ? "" : percent(now[c]);
        r.row.classList.toggle("best", c === best && !hidden);
      });
      const people = item.truth[task.name];
      const against = (c) => (people ? (task.classes[c] === people ? " ✓" : " ✗") : "");
      told.textContent = revealed.has(item) && mine !== undefined
        ? `You: ${words(task.classes[mine])}${against(mine)}. Network: ${words(task.classes[was])}${against(was)}. ${people ? `People: ${words(people)}.` : "No people were asked about this photo."}` : "";
    }
    return { element, answer, draw };
  }

  // --- guess first

  const score = make("p", { class: "score", role: "status" });
  const reveal = button("Reveal", "reveal", () => { revealed.add(current()); update(); });
  const following = button("Next photo", "next", () => show((slots[0] + 1) % photos.length));
  const quiz = make("div", { class: "quiz" },
    make("p", {}, "Look, choose one answer for each task, then reveal what the network says and what people said."),
    make("div", { class: "buttons" }, reveal, following), score);
  function drawQuiz() {
    quiz.hidden = !guessing;
    const item = current();
    const done = tasks.every((task) => guesses.get(item)?.[task.name] !== undefined);
    reveal.disabled = revealed.has(item) || !done || !known(item, 0);
    let [n, mine, network, chance] = [0, 0, 0, 0];
    for (const one of revealed) {
      for (const task of tasks.filter((task) => one.truth[task.name])) {
        const right = task.classes.indexOf(one.truth[task.name]);
        n += 1;
        mine += guesses.get(one)[task.name] === right;
        network += verdict(one, task, 0) === right;
        chance += 1 / task.classes.length;
      }
    }
    score.textContent = n ? `Judged by people's consensus: you ${mine} of ${n}, the network ${network} of ${n}, a blind guess about ${chance.toFixed(1)}.` : "";
  }

  // --- the network, with a switch on each borrowed stream; it stands upright where there is little room

  const drawing = make("div", { class: "network" });
  let knobs = [];
  function drawNetwork(upright) {
    const along = upright ? 112 : 185;
    const rows = (t) => (upright ? 60 + 190 * t : 45 + 170 * t);
    const half = upright ? [52, 20] : [46, 22];
    const place = (i, t) => (upright ? [rows(t), 62 + along * i] : [70 + along * i, rows(t) + 30]);
    const size = upright ? [60 + 190 * tasks.length - 130, 62 + along * page.groups - 70]
      : [70 + along * page.groups - 110, 45 + 170 * tasks.length - 95];
    const ends = (i, s, t) => {
      const [a, b] = [place(i, s), place(i + 1, t)];
      return upright ? [a[0], a[1] + half[1], b[0], b[1] - half[1]] : [a[0] + half[0], a[1], b[0] - half[0], b[1]];
    };
    const image = svg("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, role: "group",
      "aria-label": "The network: a row of conv groups for each task, and between neighbouring groups what one branch borrows from the other" });
    const line = ([x1, y1, x2, y2], colour, name) =>
      svg("line", { x1, y1, x2, y2, stroke: colour, class: name });
    const index = Object.fromEntries(tasks.map((task, t) => [task.name, t]));
    tasks.forEach((task, t) => {
      for (let i = 0; i + 1 < page.groups; i++) image.append(line(ends(i, t, t), task.colour, "own"));
    });
    knobs = switches.map((s, k) => {
      const [x1, y1, x2, y2] = ends(s.layer - 1, index[s.source], index[s.receiver]);
      const [x, y] = [x1 + 0.7 * (x2 - x1), y1 + 0.7 * (y2 - y1)];
      const label = svg("text", { x, y: y + 6 });
      const hint = svg("title");
      const group = svg("g", { class: "knob", role: "switch", tabindex: 0, "data-stream": streamName(s) },
        hint, line([x1, y1, x2, y2], colourOf[s.source], "borrowed"),
        svg("circle", { cx: x, cy: y, r: 21, stroke: colourOf[s.source], fill: colourOf[s.source] }), label);
      const toggle = () => set(cut ^ (1 << k));
      group.addEventListener("click", toggle);
      group.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle();
      });
      return { group, label, hint };
    });
    image.append(...knobs.map((knob) => knob.group));
    tasks.forEach((task, t) => {
      for (let i = 0; i < page.groups; i++) {
        const [x, y] = place(i, t);
        image.append(svg("rect", { x: x - half[0], y: y - half[1], width: 2 * half[0], height: 2 * half[1], rx: 7,
          fill: task.colour }), svg("text", { x, y: y + 6, class: "group" }, `group ${i + 1}`));
      }
      const [x, y] = place(0, t);
      image.append(svg("text", { x: upright ? x : x - half[0], y: y - half[1] - 12,
        class: upright ? "task upright" : "task" }, task.name));
    });
    image.style.maxWidth = `${size[0] / 15}em`;
    drawing.replaceChildren(image);
    drawing.classList.toggle("upright", upright);
    drawKnobs();
  }
  function drawKnobs() {
    const [closed, verb] = donor ? [`from ${donor}`, "transplant"] : ["cut", "cut"];
    knobs.forEach(({ group, label, hint }, k) => {
      const off = (cut >> k) & 1;
      group.setAttribute("aria-checked", String(!off));
      group.setAttribute("aria-label", `${inWords(switches[k])}, ${off ? closed : "open"}`);
      group.classList.toggle("cut", Boolean(off));
      label.textContent = off ? (donor ? "⇄" : "×") : String(switches[k].layer);
      hint.textContent = `${inWords(switches[k])}: ${off ? `${closed}, click to restore` : `open, click to ${verb}`}`;
    });
  }

  // --- what a closed stream carries: the mean image's map, or a donor's

  const givers = make("div", { class: "strip givers", role: "group", "aria-label": "What a closed stream carries" });
  const nothing = button("the mean image: a cut", "mean", () => carryFrom(""));
  givers.append(nothing);
  const donorButtons = new Map();
  function addDonor(item) {
    const one = thumbnail(item, () => carryFrom(item.name), `the maps of ${item.name}: a transplant`);
    donorButtons.set(item.name, one);
    givers.append(one);
  }
  (page.donors ?? photos.map((item) => item.name)).forEach((name) => addDonor(named(name)));
  function carryFrom(name) {
    donor = name;
    turns = {};
    say.textContent = name && !cut ? `Now click a circle: the stream then carries what it carries for ${name}.` : "";
    update();
  }
  function drawDonors() {
    nothing.setAttribute("aria-pressed", String(!donor));
    for (const [name, one] of donorButtons) one.setAttribute("aria-pressed", String(name === donor));
  }

  const flips = tasks.map((task) => button(`Find the flip: ${task.name}`, `flip flip-${task.name}`, () => findFlip(task)));
  const buttons = make("div", { class: "buttons" }, ...(complete ? flips : []),
    button("Close all", "all", () => set(states - 1)), button("Open all", "none", () => set(0)));

  function smallestSets(item, task) {
    let found = [];
    for (let n = 1; n < states; n++) {
      if (verdict(item, task, n) === verdict(item, task, 0)) continue;
      if (!found.length || bits(n) < bits(found[0])) found = [n];
      else if (bits(n) === bits(found[0])) found.push(n);
    }
    return found;
  }
  function findFlip(task) {
    const item = current();
    if (!known(item, 0) || !known(item, states - 1)) return;
    const sets = smallestSets(item, task);
    const was = words(task.classes[verdict(item, task, 0)]);
    const what = donor ? "transplant" : "cut";
    if (!sets.length) {
      set(0);
      say.textContent = `No set of ${what}s turns ${task.name}: it stays ${was} in all ${states} states.`;
      return;
    }
    const turn = (turns[task.name] ?? 0) % sets.length;
    set(sets[turn]);
    turns[task.name] = turn + 1;
    const names = switches.filter((_, k) => (sets[turn] >> k) & 1).map(inWords).join("; ");
    const more = sets.length > 1 ? ` ${sets.length} sets are this small (this is ${turn + 1}); press again for the next.` : " No other set is this small.";
    const number = bits(sets[turn]) === 1 ? `One ${what} turns` : `${bits(sets[turn])} ${what}s turn`;
    say.textContent = `${number} ${task.name} from ${was} to ${words(task.classes[verdict(item, task)])}: ${names}.${more}`;
  }

  // --- the ledgers

  const ledgers = tasks.flatMap((task) => [0, 1].map((slot) => ledgerPanel(slot, task)));
  function ledgerPanel(slot, task) {
    const choice = classChoice(task);
    const side = make("span");
    const bars = make("div", { class: "ledger" });
    const check = make("p", { class: "check" });
    const element = make("section", { class: "card", "data-ledger": task.name, "data-slot": slot },
      make("h3", {}, side, `${task.name}: the logit of `, choice), bars, check);
    element.style.setProperty("--task", task.colour);
    const shadow = page.null?.tasks?.[task.name];
    const reach = (c, values) => Math.max(...[...values[c], ...(shadow?.low[c] ?? []), ...(shadow?.high[c] ?? [])].map(Math.abs));
    function draw() {
      const item = photos[slots[slot]];
      element.hidden = slots[slot] === null || !item?.ledger;
      if (element.hidden) return;
      const c = classOf(item, task);
      choice.value = c;
      side.textContent = slots[1] === null ? "" : ["left photo, ", "right photo, "][slot];
      const { players, sources, values, logits: whole, baseline, error } = item.ledger[task.name];
      const top = Math.max(...shown().filter((one) => one.ledger).map((one) => reach(classOf(one, task), one.ledger[task.name].values)), 1e-9);
      const span = (low, high, name) => {
        const part = make("i", { class: name });
        part.style.left = `${50 + (50 * low) / top}%`;
        part.style.width = `${(50 * (high - low)) / top}%`;
        return part;
      };
      bars.replaceChildren(...players.map((player, p) => {
        const value = values[c][p];
        const bar = span(Math.min(value, 0), Math.max(value, 0), "bar");
        bar.style.background = colourOf[sources[p]];
        const behind = shadow ? [span(shadow.low[c][p], shadow.high[c][p], "shadow")] : [];
        return make("div", { class: "row" }, make("span", { class: "name" }, player),
          make("span", { class: "track middle" }, ...behind, bar), make("span", { class: "value" }, signed(value)));
      }));
      const sum = values[c].reduce((a, b) => a + b);
      const gap = whole[c] - baseline[c];
      const off = Math.abs(sum - gap);
      const holds = off <= 1e-4 * Math.max(1, Math.abs(gap), top);
      check.textContent = `${holds ? "✓" : "✗"} The bars add up to ${signed(sum)}. The logit is ${signed(whole[c])}, that of the mean image ${signed(baseline[c])}: the difference is ${signed(gap)}. The sum ${holds ? "holds" : "does NOT hold"} (off by ${off.toFixed(6)}).${error ? ` Each bar is drawn from permutations, with a standard error of up to ${error.toFixed(3)}.` : ""}`;
    }
    return { element, draw };
  }
  function classChoice(task) {
    const choice = make("select", { "aria-label": `${task.name}: class whose logit is split`,
      onchange: () => { looked[task.name] = Number(choice.value); update(); } },
      ...task.classes.map((name, c) => make("option", { value: c }, words(name))));
    return choice;
  }

  // --- the maps

  const mapTask = make("select", { "aria-label": "Task of the maps", onchange: () => { mapped = tasks[mapTask.value]; update(); } },
    ...tasks.map((task, t) => make("option", { value: t }, task.name)));
  const mapClasses = tasks.map(classChoice);
  const mapLayer = make("select", { "aria-label": "Layer of the maps", onchange: () => { layer = Number(mapLayer.value); update(); } },
    ...Array.from({ length: page.layers }, (_, i) => make("option", { value: i + 1 }, `layer ${i + 1}`)));
  const mapBox = make("div", { class: "maps" });
  const mapNote = make("p", { class: "small" });
  const where = make("details", { class: "where", ontoggle: () => update() },
    make("summary", {}, "Where in the photo does it come from?"),
    make("p", { class: "buttons" }, mapTask, ...mapClasses, ...(borrows ? [mapLayer] : [])), mapBox, mapNote);
  where.open = !options.ask;
  let drawnMaps = null;
  function drawMaps() {
    const item = current();
    mapTask.value = tasks.indexOf(mapped);
    mapLayer.value = layer;
    mapClasses.forEach((choice, t) => {
      choice.hidden = tasks[t] !== mapped;
      if (known(item, 0)) choice.value = classOf(item, tasks[t]);
    });
    if (!where.open || !known(item, 0)) return;
    const key = mapKey(item);
    const found = item.maps?.[key];
    mapNote.textContent = found ? "Red takes the logit up, blue takes it down; each map has its own scale. Integrated gradients from the mean image to this photo, printed with what they leave unexplained."
      : item.problems?.[`map${key}`] ?? (options.ask ? "The network is looking ..." : "This file holds the maps of the network's answers alone; lesson 07 computes those of any class.");
    if (found === drawnMaps) return;
    drawnMaps = found;
    mapBox.replaceChildren(...(found ?? []).map((one) => mapFigure(item, one)));
  }
  function mapFigure(item, one) {
    const canvas = make("canvas", { role: "img", "aria-label": `Map over ${item.name}` });
    overlay(canvas, item.image, one);
    const own = one.source === mapped.name;
    const title = !borrows ? "the pixels" : own ? "own" : `borrowed from ${one.source}`;
    const falls = `${one.effect < 0 ? "rise" : "fall"} by ${Math.abs(one.effect).toFixed(3)}`;
    const without = borrows ? "Were this stream alone that of the mean image" : "For the mean image";
    const figure = make("figure", { "data-map": one.source }, make("h3", {}, title), canvas,
      make("p", {}, `The map adds up to ${signed(one.sum, 3)}. ${without}, the logit would ${falls}: ${Math.abs(one.sum - one.effect).toFixed(3)} is unexplained.`));
    if (one.channels.length)
      figure.append(make("p", { class: "channels" }, "Top channels: ", ...one.channels.map(([k, v]) => make("span", {}, `${k} (${signed(v, 3)})`))));
    figure.style.setProperty("--task", colourOf[one.source] ?? mapped.colour);
    return figure;
  }

  // --- putting it together

  const intervene = make("div", { class: "intervene" }, drawing,
    make("div", { class: "carries" }, make("span", {}, "A closed stream carries what it carries for"), givers), buttons);
  const account = make("div", { class: "account" },
    make("h2", {}, "The ledger: what the logits are made of, with every stream open"),
    make("div", { class: "ledgers" }, ...ledgers.map((part) => part.element)),
    make("p", { class: "small" }, "Exact Shapley values. ‘own’ is the branch’s own way through; ‘borrowed at i’ is what came in from the other branch at layer i, with what that one had borrowed before. The colour is the task whose maps they are."),
    make("p", { class: "small null" }, page.null?.note ?? ""));
  root.append(
    make("header", {}, make("h1", {}, "What does each judgement borrow?"),
      make("p", {}, borrows ? "Two branches judge one photo and exchange maps. Click a circle to close what one branch borrows there: the stream then carries what it carries for the mean image, so nothing of this photo, or what it carries for another photo. All answers are the network's own, computed anew for every set of closed streams."
        : `Nothing can be cut here: ${page.reason}.`)),
    strip,
    make("div", { class: "buttons modes" }, ...(options.ask ? [uploadField()] : []), pair, guess), quiz,
    stage, brief, ...(borrows ? [intervene] : []), say, ...(borrows ? [account] : []), where,
    make("footer", { class: "small" }, `Network: ${page.title}.`),
  );

  function show(number) {
    slots[active] = number;
    turns = {};
    say.textContent = "";
    const one = strip.children[number];
    strip.scrollTo?.({ left: one.offsetLeft - strip.clientWidth / 2 });
    update();
  }
  function set(state) {
    cut = state;
    turns = {};
    say.textContent = "";
    update();
  }
  const LOOKING = "The network is looking at this photo ...";
  function update() {
    const item = current();
    const all = shown();
    const ready = all.every((one) => known(one, 0) && known(one));
    const problem = all.flatMap((one) => Object.entries(one.problems ?? {})).find(([key]) => key.startsWith("answers"))?.[1];
    root.classList.toggle("waiting", !ready);
    root.classList.toggle("paired", slots[1] !== null);
    root.classList.toggle("guessing", asking(item));
    pair.setAttribute("aria-pressed", String(slots[1] !== null));
    guess.setAttribute("aria-pressed", String(guessing));
    [...strip.children].forEach((one, k) => one.setAttribute("aria-pressed", String(slots.includes(k))));
    views.forEach((part) => part.draw());
    drawQuiz();
    if (ready) {
      if (say.textContent === LOOKING) say.textContent = "";
      drawBrief(item);
      if (borrows) ledgers.forEach((part) => part.draw());
    } else say.textContent = problem ?? (options.ask ? LOOKING : `This file holds no transplant from ${donor}.`);
    drawMaps();
    drawKnobs();
    drawDonors();
    if (options.address) writeAddress();
    askNext();
  }
  function drawBrief(item) {
    const cards = views[active].cards;
    brief.replaceChildren(...(asking(item) ? [] : cards.map((part, t) => {
      const word = make("span", { class: part.element.classList.contains("turned") ? "turned" : "" }, make("b", {}, tasks[t].name), ` ${part.answer.textContent}`);
      word.style.borderColor = tasks[t].colour;
      return word;
    })));
  }

  function writeAddress() {
    const cuts = switches.filter((_, k) => (cut >> k) & 1).map(streamName);
    const given = [["photo", photos[slots[0]].name], ["second", photos[slots[1]]?.name], ["cut", cuts.join(",")], ["from", donor],
      ...tasks.map((task) => [task.name, task.classes[looked[task.name]]]), ["layer", layer === page.layers ? "" : layer], ["guess", guessing ? "first" : ""]];
    const text = `#${given.filter(([, value]) => value).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value).replaceAll("%2C", ",")}`).join("&")}`;
    if (text !== location.hash) history.replaceState(null, "", text);
  }
  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const names = (given.get("cut") ?? "").split(",");
    cut = switches.reduce((state, s, k) => state | (names.includes(streamName(s)) ? 1 << k : 0), 0);
    donor = donorButtons.has(given.get("from")) ? given.get("from") : "";
    guessing = given.get("guess") === "first";
    layer = Math.min(Math.max(Number(given.get("layer")) || page.layers, 1), page.layers);
    looked = Object.fromEntries(tasks.map((task) => [task.name, task.classes.indexOf(given.get(task.name))]).filter(([, c]) => c >= 0));
    const [first, second] = ["photo", "second"].map((key) => photos.findIndex((item) => item.name === given.get(key)));
    [slots[0], slots[1], active] = [Math.max(first, 0), second < 0 || guessing ? null : second, 0];
    show(slots[0]);
    if (given.has("photo") && first < 0) say.textContent = `There is no photo ${given.get("photo")} here; this is the first one.`;
  }

  const narrow = new ResizeObserver(() => {
    const upright = root.clientWidth < 620;
    if (upright !== drawing.classList.contains("upright") || !drawing.firstChild) drawNetwork(upright);
  });
  narrow.observe(root);
  drawNetwork(root.clientWidth > 0 && root.clientWidth < 620);
  if (options.address) {
    window.addEventListener("hashchange", readAddress);
    readAddress();
  } else show(0);

  return {
    receive(answer) {
      if (answer.run === page.run && answer.id === waiting?.id) give(answer.problem, answer); // else it comes too late
    },
  };
}

/** A grey photo with a signed map over it. */
function overlay(canvas, address, map) {
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
    cells.forEach((v, i) => drawn.data.set([...(v > 0 ? [178, 24, 43] : [33, 102, 172]), 230 * (Math.abs(v) / 127) ** 0.8], 4 * i));
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
      ask: (question) => model.send({ run: page.run, ...question }),
    });
  };
  const receive = (answer) => shown.receive(answer);
  model.on("change:page", draw);
  model.on("msg:custom", receive);
  draw();
  return () => { model.off("change:page", draw); model.off("msg:custom", receive); };
}
export default { render };
