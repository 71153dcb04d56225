// One dialog, for questions, secrets and details. Escape closes it, and the focus goes back to where it was.

let act = null;

function open({ title, body, verb, danger, wide, close }) {
  const dialog = $("dialog");
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...body);
  $("dialog-error").textContent = "";
  dialog.classList.toggle("wide", Boolean(wide));
  const button = $("dialog-act");
  button.hidden = !verb;
  button.disabled = false;
  button.textContent = verb ?? "";
  button.classList.toggle("danger", Boolean(danger));
  $("dialog-close").textContent = close ?? "Cancel";
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector("input, select, textarea") ?? $("dialog-close")).focus();
}

function dismiss() {
  if ($("dialog").open) $("dialog").close();
}

$("dialog-close").addEventListener("click", dismiss);
// What it showed, which may be a secret, does not stay in the document.
$("dialog").addEventListener("close", () => {
  // The event comes a moment later: the next dialog may be open already.
  if ($("dialog").open) return;
  act = null;
  $("dialog-body").replaceChildren();
  // The button that opened it may be gone, with a row that was drawn again.
  if ([document.body, null].includes(document.activeElement) || $("dialog").contains(document.activeElement)) $("main").focus();
});

$("dialog-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!act) return;
  const mine = act;
  const values = {};
  for (const input of $("dialog-body").querySelectorAll("[name]")) values[input.name] = input.value.trim();
  $("dialog-act").disabled = true;
  $("dialog-error").textContent = "";
  try {
    await mine(values);
  } catch (error) {
    if (act === mine) $("dialog-error").textContent = error.message;
  } finally {
    if (act === mine) $("dialog-act").disabled = false;
  }
});

let fields = 0;

/** An input with its label; with `options`, one of these: value and text of each. */
function field({ name, label, hint, value, required, options, ...other }) {
  const id = `field-${fields += 1}`;
  const describedby = hint && `${id}-hint`;
  const properties = { id, name, required, "aria-describedby": describedby, ...other };
  return el("div", { class: "field" },
    el("label", { for: id }, label),
    options
      ? el("select", properties, options.map(([value, text]) => el("option", { value }, text)))
      : el("input", { ...properties, value, autocomplete: "off", spellcheck: "false" }),
    hint && el("p", { class: "hint", id: `${id}-hint` }, hint));
}

/** Asks before something is done. `does` gets the values of the fields; what it throws is shown, and it can be tried again. */
function ask({ title, text, inputs = [], verb, danger, typed, does }) {
  const body = [el("p", {}, text), ...inputs.map(field)];
  if (typed) body.push(field({ name: "typed", label: `Type ${typed} to confirm`, required: true }));
  open({ title, body, verb, danger });
  act = async (values) => {
    if (typed && values.typed !== typed) throw new Error(`This is not ${typed}.`);
    delete values.typed;
    // An empty field is absent: the server has its own default.
    await does(Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "")));
  };
}

/** Shows what is there only once. */
function reveal({ title, text, secret, sheet }) {
  const value = el("code", { class: "secret", id: "secret", tabindex: "0" }, secret);
  const copy = el("button", { type: "button", click: ({ target }) => copies(value, target) }, "Copy");
  const more = sheet ? [el("h3", {}, "For the partner"), el("pre", { tabindex: "0" }, sheet)] : [];
  open({ title, body: [el("p", {}, text), value, copy, ...more], close: "Done" });
  act = null;
}

async function copies(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    button.textContent = "Copied";
  } catch {
    // Without TLS, or where the browser forbids it.
    getSelection().selectAllChildren(element);
    button.textContent = "Selected; copy it with the keyboard";
  }
}

/** Shows one thing in full. */
function details(title, facts, json) {
  const pairs = facts.filter(([, value]) => value !== undefined && value !== null && value !== "")
    .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  const whole = el("pre", { tabindex: "0", "aria-label": "The whole record" }, JSON.stringify(json, null, 2));
  open({ title, body: [el("dl", {}, pairs), whole], wide: true, close: "Close" });
  act = null;
}
