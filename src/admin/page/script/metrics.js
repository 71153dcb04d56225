// What `/metrics` says, read each few seconds: it needs no token, and leaves no record.

const EVERY = 3000;
/** Of policies with many thousands of routes, it is long. */
const LONG = 1 << 20;
const EVERY_LONG = 15_000;
const SAMPLES = 60;

/** Counters of routes, and what was in flight, from the text format of Prometheus. */
function counters(text) {
  const found = { requests: [], findings: [], inFlight: 0 };
  const lists = { bartizan_requests_total: found.requests, bartizan_would_refuse_total: found.findings };
  for (const line of text.split("\n")) {
    const [, name, labels, value] = /^(bartizan_\w+)(?:\{(.*)\})? (\S+)/.exec(line) ?? [];
    if (name === "bartizan_requests_in_flight") found.inFlight = Number(value);
    if (!lists[name]) continue;
    const one = { count: Number(value) };
    for (const [, label, quoted] of (labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      one[label] = quoted.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));
    }
    if (one.count > 0) lists[name].push(one);
  }
  return found;
}

/** Whether a code is that of a refusal: others are classes of status, such as `2xx`. */
const isRefusal = (code) => !/^\dxx$/.test(code ?? "");
const sum = (counts) => counts.reduce((all, one) => all + one.count, 0);

/** What was last read, and the rates of the last few minutes. */
const pulse = { now: null, ready: null, rates: [], last: null, every: EVERY };

async function look() {
  const get = (path) => fetch(path, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(10_000) });
  try {
    pulse.ready = await (await get("/readyz")).json();
    if (!session.token) return;
    const text = await (await get("/metrics")).text();
    pulse.every = text.length > LONG ? EVERY_LONG : EVERY;
    pulse.now = counters(text);
    const at = performance.now();
    const all = sum(pulse.now.requests);
    const refused = sum(pulse.now.requests.filter(({ code }) => isRefusal(code)));
    // Counters of a process that was started again begin at zero.
    if (pulse.last && all >= pulse.last.all) {
      const seconds = (at - pulse.last.at) / 1000;
      pulse.rates.push({ all: (all - pulse.last.all) / seconds, refused: Math.max(0, refused - pulse.last.refused) / seconds });
      pulse.rates.splice(0, pulse.rates.length - SAMPLES);
    }
    pulse.last = { at, all, refused };
  } catch {
    pulse.ready = null;
  }
}

/** The state of the process as one badge. */
function readiness() {
  if (!pulse.ready) return ["bad", "no answer"];
  if (!pulse.ready.ready) return ["bad", "not ready"];
  return pulse.ready.degraded.length ? ["warn", `degraded: ${pulse.ready.degraded.join(", ")}`] : ["good", "ready"];
}

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** An area for each of the rates; numbers say the same beside it. */
function chart(rates) {
  const top = Math.max(1, ...rates.map(({ all }) => all));
  const width = Math.max(rates.length - 1, 1);
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${width} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const name of rates.length > 1 ? ["all", "refused"] : []) {
    const line = rates.map((rate, index) => `${index} ${(98 - (rate[name] / top) * 96).toFixed(1)}`).join("L");
    drawing.append(svg("path", { class: `area ${name}`, d: `M0 100L${line}L${width} 100Z` }), svg("path", { class: name, d: `M${line}` }));
  }
  return drawing;
}
