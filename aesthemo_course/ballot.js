// The ballot of voting.py. Texts are set as text, never as HTML: a name is anything that somebody typed.

const add = (parent, tag, attributes = {}, text = "") => {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  one.textContent = text;
  parent.append(one);
  return one;
};

const QUESTIONS = { aesthetics: "Is it beautiful?", emotion: "What does it make you feel?" };

function render({ model, el }) {
  const { photos, tasks, seconds } = model.get("page");
  const root = add(el, "div", { class: "aesthemo ballot" });
  const who = add(root, "label", {}, "Your name, or any other: ");
  const name = add(who, "input", { type: "text", maxlength: "40" });
  name.value = model.get("name");
  const line = add(root, "p", { class: "clock", "aria-live": "off" });
  const picture = add(root, "img", { class: "photo", alt: "" });
  const choices = add(root, "div");
  const step = add(root, "p");
  const back = add(step, "button", { type: "button", class: "back" }, "Back");
  const next = add(step, "button", { type: "button", class: "next" }, "Skip");
  const say = add(root, "p", { class: "say", role: "status" });

  let at = 0, ends = null, timer = null;
  const left = () => (ends === null ? seconds : Math.max(0, Math.ceil((ends - Date.now()) / 1000)));
  const closed = () => left() === 0;
  const given = () => model.get("votes")[photos[at]?.name] ?? {};

  function choose(task, label) {
    if (closed()) return;
    if (!name.value.trim()) {
      say.textContent = "Write a name first.";
      return name.focus();
    }
    if (ends === null) {
      ends = Date.now() + 1000 * seconds;
      timer = setInterval(tick, 250);
    }
    const mine = { ...given(), [task]: label };
    model.set("votes", { ...model.get("votes"), [photos[at].name]: mine });
    model.save_changes();
    if (tasks.every((one) => mine[one.name]) && at < photos.length) at += 1;
    draw();
  }

  function tick() {
    if (closed()) clearInterval(timer);
    clock();
    if (closed()) draw();
  }

  function clock() {
    const where = at < photos.length ? `photograph ${at + 1} of ${photos.length}` : "all photographs seen";
    line.textContent = `${left()} s left, ${where}${closed() ? ": the ballot is closed, thank you" : ""}`;
  }

  function draw() {
    clock();
    choices.replaceChildren();
    const shown = photos[at];
    picture.hidden = !shown || closed();
    back.disabled = at === 0 || closed();
    next.disabled = !shown || closed();
    if (!shown || closed()) return;
    picture.src = shown.image;
    picture.alt = `photograph ${at + 1} of ${photos.length}, to be judged by you`;
    for (const task of tasks) {
      const field = add(choices, "fieldset", { "data-task": task.name, style: `--task: ${task.colour}` });
      add(field, "legend", {}, QUESTIONS[task.name] ?? task.name);
      for (const label of task.classes) {
        const pressed = String(given()[task.name] === label);
        const button = add(field, "button", { type: "button", "aria-pressed": pressed }, label.replaceAll("_", " "));
        button.addEventListener("click", () => choose(task.name, label));
      }
    }
  }

  const move = (by) => () => { at = Math.min(photos.length, Math.max(0, at + by)); draw(); };
  back.addEventListener("click", move(-1));
  next.addEventListener("click", move(1));
  name.addEventListener("change", () => { model.set("name", name.value); model.save_changes(); });
  const heard = () => { say.textContent = model.get("said"); };
  model.on("change:said", heard);
  heard();
  draw();
  return () => { clearInterval(timer); model.off("change:said", heard); };
}

export default { render };
