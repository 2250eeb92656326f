// Draws the inspector: in inspector.html, which holds all answers, and in the notebook's widget, which asks for them.
// All text enters the page as text (textContent), never as markup.

const SVG = "http://www.w3.org/2000/svg";

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

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;
const bits = (n) => n.toString(2).replaceAll("0", "").length;

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / sum);
}

// What inspector.html keeps in the address, in words: #photo=scene_00003.jpg&cut=2-emotion-to-aesthetics
const streamName = (s) => `${s.layer}-${s.source}-to-${s.receiver}`;
const shortRun = (run) => run.split(/[\\/]/).slice(-4).join("/");
const inWords = (s) => `${s.source} to ${s.receiver} at layer ${s.layer}`;

/** Draw a page into an element.
 *  options: address (keep the state there), ask(photo) (fetch a photo's answers), runs, pick(run).
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
  const { tasks, switches, photos } = page;
  const states = 2 ** switches.length;
  const colourOf = Object.fromEntries(tasks.map((task) => [task.name, task.colour]));
  const looked = {}; // the class whose logit each ledger shows; none: the answer
  let current = 0;
  let cut = 0;
  let turns = {}; // by task, which of the smallest sets comes next

  // --- what is known

  const photo = () => photos[current];
  function logits(task, state) {
    photo().tables ??= Object.fromEntries(Object.entries(photo().logits).map(([name, text]) => [name, floats(text)]));
    const size = task.classes.length;
    return photo().tables[task.name].subarray(state * size, (state + 1) * size);
  }
  function verdict(task, state) {
    const values = logits(task, state);
    return values.indexOf(Math.max(...values));
  }
  function smallestSets(task) {
    let found = [];
    for (let n = 1; n < states; n++) {
      if (verdict(task, n) === verdict(task, 0)) continue;
      if (!found.length || bits(n) < bits(found[0])) found = [n];
      else if (bits(n) === bits(found[0])) found.push(n);
    }
    return found;
  }

  // --- the parts, made once

  function runChoice() {
    const choice = make("select", { onchange: () => options.pick(choice.value) },
      ...options.runs.map((run) => make("option", { value: run, selected: run === page.run }, shortRun(run))));
    return make("label", { class: "runs" }, "Run ", choice);
  }

  const strip = make("div", { class: "strip", role: "group", "aria-label": "Photos" });
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show((current + step + photos.length) % photos.length);
    strip.children[current].focus();
  });
  function addThumbnail(item) {
    strip.append(make("button", { type: "button", "aria-label": `Photo ${item.name}`, title: item.name,
      onclick: () => show(photos.indexOf(item)) }, make("img", { src: item.image, alt: "" })));
  }
  photos.forEach(addThumbnail);

  const picture = make("img", { class: "photo", alt: "" });
  const caption = make("figcaption");
  const verdicts = make("div", { class: "verdicts" });
  const brief = make("p", { class: "brief", "aria-hidden": "true" }); // on a phone the answers stay in sight
  const cards = tasks.map(card);
  verdicts.append(...cards.map((part) => part.element));

  function card(task) {
    const answer = make("strong", { class: "answer" });
    const before = make("span", { class: "before" });
    const rows = task.classes.map((name) => {
      const bar = make("i", { class: "bar" });
      const mark = make("i", { class: "mark" });
      const value = make("span", { class: "value" });
      bar.style.background = task.colour;
      const row = make("div", { class: "row" }, make("span", { class: "name" }, name.replaceAll("_", " ")),
        make("span", { class: "track" }, bar, mark), value);
      return { row, bar, mark, value };
    });
    const element = make("section", { class: "card", "data-task": task.name, "aria-label": task.name },
      make("h3", {}, task.name), make("p", { class: "head" }, answer, before), ...rows.map((r) => r.row));
    element.style.setProperty("--task", task.colour);
    function update() {
      const now = softmax(logits(task, cut));
      const uncut = softmax(logits(task, 0));
      const best = verdict(task, cut);
      const was = verdict(task, 0);
      answer.textContent = `${task.classes[best].replaceAll("_", " ")} ${percent(now[best])}`;
      before.textContent = cut ? `${best === was ? "uncut: " : "turned; uncut: "}${task.classes[was].replaceAll("_", " ")} ${percent(uncut[was])}` : "";
      element.classList.toggle("turned", best !== was);
      rows.forEach((r, c) => {
        r.bar.style.width = `${100 * now[c]}%`;
        r.mark.style.left = `${100 * uncut[c]}%`;
        r.mark.hidden = !cut;
        r.value.textContent = percent(now[c]);
        r.row.classList.toggle("best", c === best);
      });
    }
    return { element, answer, update };
  }

  // The network, with a switch on each borrowed stream; it stands upright where there is little room.
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
    updateKnobs();
  }
  function updateKnobs() {
    knobs.forEach(({ group, label, hint }, k) => {
      const off = (cut >> k) & 1;
      group.setAttribute("aria-checked", String(!off));
      group.setAttribute("aria-label", `${inWords(switches[k])}, ${off ? "cut" : "open"}`);
      group.classList.toggle("cut", Boolean(off));
      label.textContent = off ? "×" : String(switches[k].layer);
      hint.textContent = `${inWords(switches[k])}: ${off ? "cut, click to restore" : "open, click to cut"}`;
    });
  }

  const button = (text, name, act) => make("button", { type: "button", class: name, onclick: act }, text);
  const buttons = make("div", { class: "buttons" },
    ...tasks.map((task) => button(`Find the flip: ${task.name}`, `flip flip-${task.name}`, () => findFlip(task))),
    button("Cut all", "all", () => set(states - 1)), button("Restore all", "none", () => set(0)));

  function findFlip(task) {
    if (!photo().logits) return;
    const sets = smallestSets(task);
    const was = task.classes[verdict(task, 0)];
    if (!sets.length) {
      set(0);
      say.textContent = `No set of cuts turns ${task.name}: it stays ${was} in all ${states} states.`;
      return;
    }
    const turn = (turns[task.name] ?? 0) % sets.length;
    set(sets[turn]);
    turns[task.name] = turn + 1;
    const names = switches.filter((_, k) => (sets[turn] >> k) & 1).map(inWords).join("; ");
    const more = sets.length > 1 ? ` ${sets.length} sets are this small (this is ${turn + 1}); press again for the next.` : " No other set is this small.";
    const count = bits(sets[turn]) === 1 ? "One cut turns" : `${bits(sets[turn])} cuts turn`;
    say.textContent = `${count} ${task.name} from ${was} to ${task.classes[verdict(task, cut)]}: ${names}.${more}`;
  }

  const ledgers = tasks.map(ledgerPanel);
  function ledgerPanel(task) {
    const choice = make("select", { "aria-label": `${task.name}: class whose logit is split`,
      onchange: () => { looked[task.name] = Number(choice.value); update(); } },
      ...task.classes.map((name, c) => make("option", { value: c }, name.replaceAll("_", " "))));
    const bars = make("div", { class: "ledger" });
    const check = make("p", { class: "check" });
    const element = make("section", { class: "card", "data-ledger": task.name },
      make("h3", {}, `${task.name}: the logit of `, choice), bars, check);
    element.style.setProperty("--task", task.colour);
    function draw() {
      const c = looked[task.name] ?? verdict(task, 0);
      choice.value = c;
      const { players, sources, values, logits: whole, baseline } = photo().ledger[task.name];
      const top = Math.max(...values.flat().map(Math.abs), 1e-9);
      bars.replaceChildren(...players.map((player, p) => {
        const value = values[c][p];
        const bar = make("i", { class: "bar" });
        bar.style.background = colourOf[sources[p]];
        bar.style.width = `${(50 * Math.abs(value)) / top}%`;
        bar.style.left = `${50 + (value < 0 ? (50 * value) / top : 0)}%`;
        return make("div", { class: "row" }, make("span", { class: "name" }, player),
          make("span", { class: "track middle" }, bar), make("span", { class: "value" }, signed(value)));
      }));
      const sum = values[c].reduce((a, b) => a + b);
      const gap = whole[c] - baseline[c];
      const off = Math.abs(sum - gap);
      const holds = off <= 1e-4 * Math.max(1, Math.abs(gap), top);
      check.textContent = `${holds ? "✓" : "✗"} The bars add up to ${signed(sum)}. The logit is ${signed(whole[c])}, that of the mean image ${signed(baseline[c])}: the difference is ${signed(gap)}. The sum ${holds ? "holds" : "does NOT hold"} (off by ${off.toFixed(6)}).`;
    }
    return { element, draw };
  }

  // --- putting it together

  root.append(
    make("header", {}, make("h1", {}, "What does each judgement borrow?"),
      make("p", {}, "Two branches judge one photo and exchange maps. Click a circle to cut what one branch borrows there: the stream then carries what it carries for the mean image, so nothing of this photo. Both answers are the network's own, computed anew for every set of cuts.")),
    strip,
    ...(options.ask ? [uploadField()] : []),
    make("div", { class: "stage" }, make("figure", {}, picture, caption), verdicts),
    brief, drawing, buttons, say,
    make("h2", {}, "The ledger: what the uncut logits are made of"),
    make("div", { class: "ledgers" }, ...ledgers.map((part) => part.element)),
    make("p", { class: "small" }, "Exact Shapley values. ‘own’ is the branch’s own way through; ‘borrowed at i’ is what came in from the other branch at layer i, with what that one had borrowed before. The colour is the task whose maps they are."),
    make("footer", { class: "small" }, `Network: ${page.title}.`),
  );

  function uploadField() {
    const input = make("input", { type: "file", accept: "image/*", "aria-label": "Your own photo", onchange: () => input.files[0] && upload(input.files[0]) });
    return make("label", { class: "upload" }, "Your own photo ", input);
  }
  async function upload(file) {
    let image;
    try {
      image = await shrink(file);
    } catch {
      say.textContent = `${file.name} can't be read as a picture here; save it as JPEG or PNG and try again.`;
      return;
    }
    const item = { name: file.name, image, own: true, truth: {}, credit: "Your photo, shrunk here to 512 px" };
    photos.push(item);
    addThumbnail(item);
    show(photos.length - 1);
  }

  function show(number) {
    current = number;
    turns = {};
    say.textContent = "";
    const item = photo();
    picture.src = item.image;
    picture.alt = `The photo ${item.name}`;
    const people = Object.entries(item.truth).map(([task, name]) => `${task} ${name.replaceAll("_", " ")}`).join(", ");
    caption.textContent = [item.name, people && `People's consensus: ${people}`, item.credit].filter(Boolean).join(". ") + ".";
    [...strip.children].forEach((thumbnail, k) => thumbnail.setAttribute("aria-pressed", String(k === number)));
    const thumbnail = strip.children[number];
    strip.scrollTo?.({ left: thumbnail.offsetLeft - strip.clientWidth / 2 });
    if (!item.logits && !item.asked) {
      item.asked = true;
      options.ask?.(item);
    }
    update();
  }
  function set(state) {
    cut = state;
    turns = {};
    say.textContent = "";
    update();
  }
  function update() {
    const known = Boolean(photo().logits);
    root.classList.toggle("waiting", !known);
    if (known) {
      cards.forEach((part) => part.update());
      brief.replaceChildren(...cards.map((part, t) => {
        const word = make("span", { class: part.element.classList.contains("turned") ? "turned" : "" }, make("b", {}, tasks[t].name), ` ${part.answer.textContent}`);
        word.style.borderColor = tasks[t].colour;
        return word;
      }));
      ledgers.forEach((part) => part.draw());
    } else say.textContent = photo().problem ?? "The network is looking at this photo ...";
    updateKnobs();
    if (options.address) writeAddress();
  }
  function writeAddress() {
    const cuts = switches.filter((_, k) => (cut >> k) & 1).map(streamName);
    const classes = tasks.filter((task) => looked[task.name] !== undefined)
      .map((task) => `&${encodeURIComponent(task.name)}=${encodeURIComponent(task.classes[looked[task.name]])}`);
    const text = `#photo=${encodeURIComponent(photo().name)}${cuts.length ? `&cut=${cuts.join(",")}` : ""}${classes.join("")}`;
    if (text !== location.hash) history.replaceState(null, "", text);
  }
  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    const names = (given.get("cut") ?? "").split(",");
    cut = switches.reduce((state, s, k) => state | (names.includes(streamName(s)) ? 1 << k : 0), 0);
    for (const task of tasks) {
      const c = task.classes.indexOf(given.get(task.name));
      if (c >= 0) looked[task.name] = c;
      else delete looked[task.name];
    }
    const number = photos.findIndex((item) => item.name === given.get("photo"));
    show(Math.max(number, 0));
    if (given.has("photo") && number < 0) say.textContent = `There is no photo ${given.get("photo")} here; this is the first one.`;
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
      const item = photos.find((one) => one.name === answer.name && !one.logits && !one.problem);
      if (answer.run !== page.run || !item) return; // of another run, or known by now
      Object.assign(item, answer.problem ? { problem: answer.problem } : { logits: answer.logits, ledger: answer.ledger });
      if (item !== photo()) return;
      say.textContent = "";
      update();
    },
  };
}

/** A picture file as a JPEG of at most 512 px, upright, over white. */
async function shrink(file, most = 512) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, most / Math.max(bitmap.width, bitmap.height));
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
      ask: (photo) => model.send({ run: page.run, name: photo.name, image: photo.own ? photo.image : null }),
    });
  };
  const receive = (answer) => shown.receive(answer);
  model.on("change:page", draw);
  model.on("msg:custom", receive);
  draw();
  return () => { model.off("change:page", draw); model.off("msg:custom", receive); };
}
export default { render };
