// The session, the admin API, and elements made of text.

/** Who is signed in. The token is nowhere else: not in storage, not in the address, not in the document. */
const session = { token: null, operates: false, number: 0 };

const $ = (id) => document.getElementById(id);

/** An element. Texts become text nodes, so that nothing that callers control is read as HTML. */
function el(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** A request that was refused, or not answered (status 0). */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const UNANSWERED = "Bartizan does not answer. Check that it runs, and try again.";

function sends(method, body, signal) {
  const headers = { Authorization: `Bearer ${session.token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
  };
}

/** Throws what a refusal says (RFC 9457), and ends the session when the token is not accepted any longer. */
async function refuse(response) {
  const problem = await response.json().catch(() => ({}));
  const errors = (problem.errors ?? []).map((error) => `${error.pointer || "body"}: ${error.detail}`);
  const message = [problem.detail || problem.title || `Status ${response.status}`, ...errors].join("\n");
  if (response.status === 401) signOut(message);
  throw new Refused(response.status, message);
}

/** Asks the admin API; returns the JSON of its answer. */
async function api(method, path, body) {
  const number = session.number;
  let response;
  try {
    response = await fetch(path, sends(method, body, AbortSignal.timeout(30_000)));
  } catch {
    throw new Refused(0, UNANSWERED);
  }
  // An answer to somebody who has signed out meanwhile is nobody's.
  if (number !== session.number) throw new Refused(0, "The session has ended.");
  return response.ok ? response.json() : refuse(response);
}

/** A part of a path. */
const part = (text) => encodeURIComponent(text);

/** A member of a nested object: `http.request.method`. */
const member = (value, path) => path.split(".").reduce((inner, name) => inner?.[name], value);

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const UNITS = [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];
const DAY = 86_400_000;

/** A time as people say it, with the exact one behind it. */
function time(text) {
  if (!text) return "–";
  const at = Date.parse(text);
  if (Number.isNaN(at)) return text;
  const seconds = Math.round((at - Date.now()) / 1000);
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return el("time", { datetime: text, title: text }, RELATIVE.format(Math.trunc(seconds / size), unit));
}

const clock = (date) => date.toLocaleTimeString("en-GB");
const count = (number) => Number(number ?? 0).toLocaleString("en-GB");

function size(bytes) {
  const unit = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  for (; bytes >= 1024 && step < unit.length - 1; step += 1) bytes /= 1024;
  return `${step ? bytes.toFixed(1) : bytes} ${unit[step]}`;
}

const badge = (kind, text) => el("span", { class: `badge ${kind}` }, text);
const list = (items) => (items?.length ? items.join(", ") : "–");

/** Says that something was done, to all readers. */
function announce(text) {
  const place = $("announcement");
  place.textContent = text;
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => { place.textContent = ""; }, 5000);
}

/** A table. `columns`: `title`, `cell` (what stands in it), `class`. Where it is narrow, rows are cards, hence the roles. */
function table(caption, columns, empty) {
  const body = el("tbody", { role: "rowgroup" });
  const heads = columns.map(({ title, class: kind }) => el("th", { role: "columnheader", scope: "col", class: kind }, title));
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads));
  const shown = el("table", { role: "table", "aria-label": caption }, head, body);
  const nothing = el("p", { class: "empty" }, empty);
  const row = (item) => el("tr", { role: "row" }, columns.map(({ title, cell, class: kind }) =>
    el("td", { role: "cell", class: kind, "data-column": title }, cell(item))));
  const show = (items) => {
    body.replaceChildren(...items.map(row));
    shown.hidden = items.length === 0;
    nothing.hidden = items.length > 0;
  };
  show([]);
  return { root: el("div", {}, shown, nothing), body, row, show };
}

function signOut(message) {
  session.token = null;
  session.operates = false;
  session.number += 1;
  leave();
  dismiss();
  $("main").replaceChildren();
  $("app").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-error").textContent = message ?? "";
  document.title = "Bartizan";
  $("token").focus();
}

/** Signs in; what is wrong is said beside the form. */
async function signIn(token) {
  $("sign-in-error").textContent = "";
  // Other characters cannot be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(token)) return signOut("This is not an admin token: it has characters that none has.");
  session.token = token;
  session.number += 1;
  const { number } = session;
  try {
    const { name, rights } = await api("GET", "/v1/operator");
    session.operates = rights === "operate";
    $("operator").replaceChildren(el("span", { class: "name" }, name), ...(session.operates ? [] : [" ", badge("", "read only")]));
  } catch (error) {
    // Another attempt may have begun meanwhile.
    return number === session.number ? signOut(error.message) : undefined;
  }
  $("sign-in").hidden = true;
  $("app").hidden = false;
  enter();
  $("main").focus();
}
