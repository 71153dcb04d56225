// The views, and the way between them.

/** What begins with a view and ends with it. */
let current = { name: null, ends: new AbortController() };

const heading = (text, ...tools) => el("div", { class: "head" }, el("h1", {}, text), ...tools);
const panel = (title, content, ...tools) =>
  el("section", { class: "panel" }, el("div", { class: "head" }, el("h2", {}, title), ...tools), content);
const button = (text, click, kind) => el("button", { type: "button", class: kind, click }, text);
const row = (...buttons) => el("div", { class: "row" }, buttons);

/** A part of a view that is loaded on its own: what fails does not take the rest with it. */
function loaded(title, path, columns, empty, { items = (answer) => answer.items, tools = [], search, missing } = {}) {
  const shown = table(title, columns, "Loading …");
  const problem = el("p", { class: "wrong", role: "alert" });
  const filter = search && el("input", { type: "search", class: "search", placeholder: "Filter", "aria-label": `Filter ${title}` });
  if (filter && search !== true) filter.value = search;
  const more = el("button", { type: "button", class: "more", hidden: true, click: () => next() }, "Show more");
  let all = [];
  let after = null;
  const refresh = button("Refresh", () => load());
  const draw = () => {
    const held = shown.root.contains(document.activeElement);
    const text = filter?.value.trim().toLowerCase();
    shown.show(text ? all.filter((item) => JSON.stringify(item).toLowerCase().includes(text)) : all);
    shown.root.lastElementChild.textContent = text ? "Nothing matches the filter." : empty;
    // The focus would be lost with the row that had it.
    if (held) refresh.focus();
  };
  const get = async (address) => {
    try {
      const answer = await api("GET", address);
      problem.textContent = "";
      return answer;
    } catch (error) {
      if (missing && error.status === 404) return { items: [] };
      problem.textContent = error.message;
      shown.root.lastElementChild.textContent = "";
      return null;
    }
  };
  const take = (answer, before) => {
    if (!answer) return;
    all = [...before, ...items(answer)];
    after = answer.next ?? null;
    more.hidden = !after;
    draw();
  };
  const load = async () => take(await get(path), []);
  const next = async () => take(await get(`${path}${path.includes("?") ? "&" : "?"}after=${part(after)}`), all);
  filter?.addEventListener("input", draw);
  const root = panel(title, el("div", {}, problem, shown.root, more), filter, ...tools, refresh);
  load();
  return { root, load };
}

// --- overview ---

function overview(place, signal) {
  const cards = ["requests/s", "refused in the last minutes", "in flight", "report-mode findings"].map((name) => {
    const number = el("div", { class: "number" }, "–");
    return { number, root: el("div", { class: "card" }, number, el("div", { class: "quiet" }, name)) };
  });
  const drawing = el("div", {}, chart([]));
  const peak = el("span", { class: "quiet" });
  const legend = el("p", { class: "legend" }, el("span", {}, "all"), el("span", { class: "refused" }, "refused"));
  const top = table("Refusals since the process started", [
    { title: "Code", cell: ([code]) => el("code", {}, code) },
    { title: "Requests", class: "number", cell: ([, number]) => count(number) },
  ], "Nothing was refused.");
  const notes = el("ul", { class: "attention" }, el("li", {}, "Looking …"));
  const live = liveTable(8, () => {});
  place.append(
    heading("Overview"),
    el("div", { class: "cards" }, cards.map(({ root }) => root)),
    el("div", { class: "split" }, panel("Requests", el("div", {}, drawing, legend), peak), panel("Refusals", top.root)),
    panel("Needs attention", notes, button("Refresh", () => attention(notes))),
    panel("Latest requests", live.root, el("a", { href: "#live" }, "All live requests")),
  );
  const draw = () => {
    if (!pulse.now) return;
    const rate = pulse.rates.at(-1);
    const refusals = new Map();
    for (const { code, count: number } of pulse.now.requests) {
      if (isRefusal(code)) refusals.set(code, (refusals.get(code) ?? 0) + number);
    }
    const total = (name) => pulse.rates.reduce((all, one) => all + one[name], 0);
    const values = [
      rate ? rate.all.toFixed(1) : "–",
      total("all") ? `${((100 * total("refused")) / total("all")).toFixed(1)} %` : "–",
      count(pulse.now.inFlight),
      count(sum(pulse.now.findings)),
    ];
    cards.forEach(({ number }, index) => { number.textContent = values[index]; });
    drawing.replaceChildren(chart(pulse.rates));
    peak.textContent = rate ? `up to ${Math.max(...pulse.rates.map(({ all }) => all)).toFixed(1)}/s` : "";
    top.show([...refusals].sort(([, one], [, other]) => other - one).slice(0, 6));
  };
  draw();
  attention(notes);
  const timers = [setInterval(draw, 1000), setInterval(live.flush, FLUSH)];
  signal.addEventListener("abort", () => timers.forEach(clearInterval));
  follow("action=request", signal, live.add, () => {});
}

/** What an operator should look at, of everything that is known. What cannot be asked is said, too. */
async function attention(place) {
  const found = [];
  const note = (kind, what, text) => found.push(el("li", {}, badge(kind, what), el("span", {}, text)));
  const asks = async (what, path, each) => {
    try {
      const answer = await api("GET", path);
      answer.items.forEach(each);
      if (answer.next) note("warn", what, "There are more than this page has looked at.");
    } catch (error) {
      note("bad", what, error.message);
    }
  };
  if (pulse.ready && pulse.ready.store.state !== "ready") note("bad", "store", pulse.ready.store.state.replaceAll("_", " "));
  for (const one of pulse.ready?.certificates ?? []) {
    note(one.state === "expires_soon" ? "warn" : "bad", "certificate", `${one.file}: ${one.state.replaceAll("_", " ")}, until ${one.expires ?? "–"}`);
  }
  await Promise.all([
    asks("keys", "/v1/keys?limit=1000", ({ id, consumer, state, expires, replaced_by: successor }) => {
      const left = Date.parse(expires ?? "") - Date.now();
      if (state === "active" && !successor && left < 14 * DAY) note("warn", "key", [`${id} of ${consumer} ends `, time(expires), "; rotate it"]);
    }),
    asks("clients", "/v1/clients?limit=1000", ({ id, consumer, state, expires }) => {
      const left = Date.parse(expires ?? "") - Date.now();
      if (state === "active" && left < 14 * DAY) note("warn", "client", [`${id} of ${consumer} ends `, time(expires), "; its owner replaces it, or is invited again"]);
    }),
    asks("issuers", "/v1/issuers", ({ name, state }) => state && state !== "ready" && note("bad", "issuer", `${name}: its keys are ${state.replaceAll("_", " ")}`)),
    asks("secrets", "/v1/secrets", ({ reference, error }) => error && note("bad", "secret", `${reference}: ${error.message}`)),
    asks("sinks", "/v1/sinks", ({ sink, error, rejected, waiting }) => {
      if (error) note("bad", "sink", `${sink}: ${error} (${count(waiting)} records wait)`);
      if (rejected) note("warn", "sink", `${sink} refused ${count(rejected)} records`);
    }),
    asks("upstreams", "/v1/upstreams?limit=1000", ({ server, address, state, error }) =>
      state !== "available" && note(state === "drained" ? "warn" : "bad", "upstream", `${address ?? server}: ${state}${error ? `: ${error}` : ""}`)),
    asks("suspensions", "/v1/suspensions?limit=1000", ({ consumer, reason }) => note("warn", "suspended", `${consumer}${reason ? `: ${reason}` : ""}`)),
  ]);
  place.replaceChildren(...(found.length ? found : [el("li", {}, badge("good", "all well"), el("span", {}, "No key ends soon, and nothing fails."))]));
}

// --- live ---

function liveView(place, signal) {
  const FILTERS = [["Consumer", "acme"], ["User", ""], ["API", ""], ["Route", "GET /orders/{id}"], ["Code", "403, 4xx or rate_limited"]];
  const inputs = FILTERS.map(([label, placeholder]) => el("input", { id: `filter-${label.toLowerCase()}`, name: label.toLowerCase(), placeholder, autocomplete: "off", spellcheck: "false" }));
  const kinds = el("select", { id: "filter-action" }, el("option", { value: "request" }, "requests"), el("option", { value: "" }, "everything on record"));
  const labelled = (input, text) => el("div", {}, el("label", { for: input.id }, text), input);
  const says = el("span", { class: "quiet", id: "live-state" }, "");
  const pause = button("Pause", () => {
    live.numbers.paused = !live.numbers.paused;
    pause.textContent = live.numbers.paused ? "Continue" : "Pause";
  });
  let state = "connecting";
  const live = liveTable(ROWS, ({ received, skipped, missed }, held) => {
    const parts = [held ? "held" : state, `${count(received)} received`];
    if (skipped) parts.push(`${count(skipped)} too fast to show`);
    if (missed) parts.push(`${count(missed)} batches missed`);
    says.textContent = parts.join(" · ");
  });
  const problem = el("p", { class: "wrong", role: "alert" });
  place.append(
    heading("Live requests", says, pause, button("Clear", live.clear)),
    el("form", { class: "filters", submit: (event) => event.preventDefault() },
      inputs.map((input, index) => labelled(input, FILTERS[index][0])), labelled(kinds, "Show")),
    problem,
    el("section", { class: "panel", id: "live-rows" }, live.root),
  );
  let following = new AbortController();
  const begin = () => {
    following.abort();
    following = new AbortController();
    live.clear();
    const query = new URLSearchParams();
    for (const { name, value } of inputs) if (value.trim()) query.set(name, value.trim());
    if (kinds.value) query.set("action", kinds.value);
    follow(query, AbortSignal.any([signal, following.signal]), live.add, (now, missed, why) => {
      state = now;
      live.numbers.missed += missed;
      problem.textContent = why ?? "";
    });
  };
  for (const input of [...inputs, kinds]) input.addEventListener("change", begin);
  const timer = setInterval(live.flush, FLUSH);
  signal.addEventListener("abort", () => clearInterval(timer));
  begin();
}

// --- consumers, keys and clients ---

const credentialName = (name) => CREDENTIALS.find(([known]) => known === name)?.[1] ?? name;

function consumersView(place) {
  const state = ({ suspension }) => {
    if (!suspension) return badge("good", "active");
    const until = suspension.until ? [" ends ", time(suspension.until)] : [];
    return el("span", {}, badge("warn", "suspended"), until, suspension.reason && el("div", { class: "quiet" }, suspension.reason));
  };
  const consumers = loaded("Consumers", "/v1/consumers?limit=500", [
    { title: "Name", cell: ({ name }) => el("strong", {}, name) },
    { title: "State", cell: state },
    { title: "Plan", cell: ({ plan }) => plan ?? "–" },
    { title: "Roles", cell: ({ roles }) => list(roles) },
    { title: "Organization", cell: ({ organization }) => organization ?? "–" },
    { title: "Source", cell: ({ source }) => source },
    {
      title: "Actions", class: "actions", cell: ({ name, suspension }) => {
        const again = () => Promise.all([consumers.load(), invitations.load()]);
        return row(
          button("Keys", () => go(`keys/${part(name)}`)),
          session.operates && button("New key", () => newKey(name, again)),
          session.operates && button("Invite", () => invite(name, again)),
          session.operates && (suspension ? button("Resume", () => resume(name, again)) : button("Suspend", () => suspend(name, again), "danger")),
          session.operates && button("Revoke all", () => revokeConsumer(name, again), "danger"),
        );
      },
    },
  ], "The policy has no consumers.", { search: true });
  const kind = { open: "warn", claimed: "good", withdrawn: "", expired: "" };
  const invitations = loaded("Invitations", "/v1/invitations?limit=500", [
    { title: "Id", cell: ({ id }) => el("code", {}, id) },
    { title: "Consumer", cell: ({ consumer }) => consumer },
    { title: "For", cell: ({ credential, key, client }) => el("span", {}, credentialName(credential), (key ?? client) && el("div", { class: "quiet" }, key ?? client)) },
    { title: "State", cell: ({ state: text }) => badge(kind[text] ?? "", text) },
    { title: "Expires", class: "tight", cell: ({ expires }) => time(expires) },
    { title: "Claimed", cell: ({ claimed, claimed_from: from }) => (claimed ? [time(claimed), ` from ${from}`] : "–") },
    { title: "Made by", cell: ({ created_by: by }) => by },
    { title: "Actions", class: "actions", cell: ({ id, state: text }) => session.operates && text === "open" ? row(button("Withdraw", () => withdraw(id, invitations.load), "danger")) : "" },
  ], "There are no invitations.");
  place.append(heading("Consumers"), consumers.root, invitations.root);
}

function keysView(place, _signal, wanted) {
  const kind = { active: "good", not_yet: "", expired: "", too_old: "bad", revoked: "bad" };
  const ends = ({ expires, state, replaced_by: successor }) => {
    const soon = state === "active" && !successor && Date.parse(expires ?? "") - Date.now() < 14 * DAY;
    return soon ? el("span", {}, time(expires), " ", badge("warn", "ends soon")) : time(expires);
  };
  const again = () => Promise.all([keys.load(), clients.load(), revocations.load()]);
  const keys = loaded("Keys", "/v1/keys?limit=500", [
    { title: "Id", cell: ({ id, note }) => el("span", {}, el("code", {}, id), note && el("div", { class: "quiet" }, note)) },
    { title: "Consumer", cell: ({ consumer }) => consumer },
    { title: "State", cell: ({ state, replaced_by: successor }) => el("span", {}, badge(kind[state] ?? "", state), successor && el("div", { class: "quiet" }, `next: ${successor}`)) },
    { title: "Expires", cell: ends },
    { title: "Last used", cell: ({ last_used: at, last_address: address }) => (at ? el("span", {}, time(at), el("div", { class: "quiet" }, address)) : "never") },
    { title: "Scopes", cell: ({ scopes }) => (scopes ? list(scopes) : "all of the consumer") },
    {
      title: "Actions", class: "actions", cell: ({ id, state, source, replaced_by: successor }) => {
        return session.operates && row(
          source === "store" && state === "active" && !successor && button("Rotate", () => rotate(id, again)),
          state !== "revoked" && button("Revoke", () => revokeKey(id, again), "danger"),
        );
      },
    },
  ], "There are no keys.", { search: wanted || true });
  const clients = loaded("Clients of the token service", "/v1/clients?limit=500", [
    { title: "Id", cell: ({ id, note }) => el("span", {}, el("code", {}, id), note && el("div", { class: "quiet" }, note)) },
    { title: "Consumer", cell: ({ consumer }) => consumer },
    { title: "Credential", cell: ({ credential }) => credentialName(credential) },
    { title: "State", cell: ({ state }) => badge(kind[state] ?? "", state) },
    { title: "Expires", cell: ends },
    { title: "Scopes", cell: ({ scopes }) => (scopes ? list(scopes) : "all of the consumer") },
    { title: "Actions", class: "actions", cell: ({ id, state }) => session.operates && row(state !== "revoked" && button("Revoke", () => revokeClient(id, again), "danger")) },
  ], "There are no clients.", { search: wanted || true });
  const target = ({ id, ...one }) => ["key", "consumer", "subject", "jti", "sha256", "certificate", "issuer", "family"]
    .filter((name) => one[name]).map((name) => `${name} ${one[name]}`).join(" of ") || id;
  const revocations = loaded("Revocations", "/v1/revocations?limit=500", [
    { title: "Refused", cell: target },
    { title: "Reason", cell: ({ reason }) => reason ?? "–" },
    { title: "Since", class: "tight", cell: ({ created }) => time(created) },
    { title: "By", cell: ({ created_by: by }) => by },
    { title: "Until", class: "tight", cell: ({ expires }) => time(expires) },
    { title: "Actions", class: "actions", cell: ({ id }) => session.operates && row(button("Undo", () => undo(id, again), "danger")) },
  ], "Nothing is revoked.");
  place.append(heading("Keys"), keys.root, clients.root, revocations.root);
}

// --- limits, findings ---

function limitsView(place) {
  const share = ({ used, allowed }) => (allowed ? used / allowed : 0);
  const flat = (answer) => answer.items
    .flatMap(({ consumer, plan, limits }) => (limits ?? []).map((limit) => ({ consumer, plan, ...limit })))
    .filter(({ used }) => used > 0 || everything.checked)
    .sort((one, other) => share(other) - share(one));
  const everything = el("input", { type: "checkbox", id: "unused", change: () => limits.load() });
  const limits = loaded("Limits and quotas", "/v1/usage?limit=200", [
    { title: "Consumer", cell: ({ consumer }) => consumer },
    { title: "Limit", cell: ({ name, kind, route }) => el("span", {}, name, " ", badge("", kind), route && el("div", { class: "quiet code" }, route)) },
    {
      title: "Used", cell: ({ used, allowed }) => el("span", {},
        el("meter", { min: 0, max: allowed || 1, value: used, low: allowed * 0.8, high: allowed * 0.95, optimum: 0, "aria-label": `${used} of ${allowed}` }),
        ` ${count(used)} of ${count(allowed)}`),
    },
    { title: "Left", class: "number", cell: ({ remaining }) => count(remaining) },
    { title: "Resets", class: "tight", cell: ({ resets }) => time(resets) },
    { title: "Actions", class: "actions", cell: ({ consumer }) => session.operates && row(button("Reset", () => resetUsage(consumer, limits.load))) },
  ], "No limit is in use now.", {
    items: flat, search: true, tools: [el("label", { class: "check", for: "unused" }, everything, "unused ones, too")],
  });
  place.append(heading("Limits"), limits.root);
}

function findingsView(place, signal) {
  const columns = [
    { title: "API", cell: ({ api: name }) => name || "–" },
    { title: "Route", cell: ({ route }) => el("code", {}, route || "–") },
    { title: "Code", cell: ({ code }) => el("code", {}, code) },
    { title: "Requests", class: "number", cell: ({ count: number }) => count(number) },
  ];
  const findings = table("Report-mode findings", columns, "Nothing. When this stays so for as long as your traffic takes to show all it does, switch the routes from report to enforce.");
  const refusals = table("Refusals by route", columns, "Nothing was refused.");
  place.append(
    heading("Findings", el("span", { class: "quiet" }, "since the process started; read again every few seconds")),
    panel("Report mode: would be refused", el("div", {}, el("p", { class: "quiet" }, "Requests that were let through, because their route only reports, and that enforcing would refuse."), findings.root)),
    panel("Refused", refusals.root),
  );
  const most = (all) => [...all].sort((one, other) => other.count - one.count).slice(0, 100);
  const draw = () => {
    if (!pulse.now) return;
    findings.show(most(pulse.now.findings));
    refusals.show(most(pulse.now.requests.filter(({ code }) => isRefusal(code))));
  };
  draw();
  const timer = setInterval(draw, EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));
}

// --- launch check ---

/** A sentence in which what is between two backticks is code. */
const prose = (text) => {
  const parts = text.split("`");
  return parts.length % 2 ? parts.map((part, index) => (index % 2 ? el("code", {}, part) : part)) : text;
};

/** Shows what `bartizan ready` shows. Where something is to be done comes first. */
function launchView(place, signal) {
  const KINDS = { failed: ["bad", "failed"], not_looked_at: ["warn", "not looked at"], passed: ["good", "passed"], not_applicable: ["", "not applicable"] };
  const verdict = el("p", { class: "verdict", role: "status" }, "Reading the policy, its tests and its record …");
  const problem = el("p", { class: "wrong", role: "alert" });
  const items = el("ol", { class: "checks" });
  const again = button("Look again", () => load());
  const line = ({ file, line: number, column }) => file && [el("code", {}, `${file}:${number}:${column}`), ": "];
  const finding = (one) => el("li", {}, line(one), prose(one.message), "; ", prose(one.help));
  const item = ({ asks, status, evidence, findings, more }) => el("li", {},
    badge(...KINDS[status]),
    el("div", {},
      el("h2", {}, prose(asks)),
      el("p", { class: "quiet" }, prose(evidence)),
      findings.length > 0 && el("ul", {}, findings.map(finding), more > 0 && el("li", {}, `and ${count(more)} more; bartizan ready shows all`))));
  const show = (report) => {
    const parts = Object.entries(KINDS).filter(([kind]) => report[kind]).map(([kind, [, words]]) => `${report[kind]} ${words}`);
    verdict.replaceChildren(badge(report.ready ? "good" : "bad", report.ready ? "ready" : "not ready"), ` ${parts.join(", ")}`);
    const order = Object.keys(KINDS);
    const sorted = [...report.items].sort((one, other) => order.indexOf(one.status) - order.indexOf(other.status));
    items.replaceChildren(...sorted.map(item));
    about.replaceChildren(el("code", {}, report.file), ", looked at ", time(report.at), ", and again from ", time(report.again), " on");
    problem.textContent = report.of_policy_before ? "The node has another policy in force since: look again then." : "";
  };
  const about = el("span", { class: "quiet" });
  const load = async () => {
    again.disabled = true;
    try {
      const report = await api("GET", "/v1/launch-check");
      if (signal.aborted) return;
      show(report);
    } catch (error) {
      if (signal.aborted) return;
      problem.textContent = error.message;
      verdict.textContent = "";
    } finally {
      again.disabled = false;
    }
  };
  place.append(heading("Launch check", about, again), el("section", { class: "panel", "aria-label": "The launch checklist" }, verdict, problem, items));
  load();
}

// --- system ---

const fresh = (state) => badge(state === "ready" || state === "available" || state === "active" ? "good" : state === "unavailable" || state === "unhealthy" || state === "unresolved" ? "bad" : "warn", state ?? "–");
const wrong = (text) => (text ? el("span", { class: "wrong" }, text) : "–");

function systemView(place) {
  const store = el("span", {}, "Store: ", pulse.ready ? fresh(pulse.ready.store.state) : "–");
  const sinks = loaded("Audit record", "/v1/sinks", [
    { title: "Sink", cell: ({ sink }) => el("code", {}, sink) },
    { title: "Records", class: "number", cell: ({ records }) => count(records) },
    { title: "Size", class: "number", cell: ({ bytes }) => size(bytes) },
    { title: "Waiting", class: "number", cell: ({ waiting, lag }) => (waiting ? `${count(waiting)}, ${lag} s` : "0") },
    { title: "Rejected", class: "number", cell: ({ rejected }) => count(rejected) },
    { title: "Error", cell: ({ error }) => wrong(error) },
  ], "The policy keeps no record.");
  const upstreams = loaded("Upstream servers", "/v1/upstreams?limit=500", [
    { title: "API", cell: ({ api: name }) => name },
    { title: "Server", cell: ({ server }) => el("code", {}, server) },
    { title: "Address", cell: ({ address }) => el("code", {}, address ?? "–") },
    { title: "State", cell: ({ state }) => fresh(state) },
    { title: "In flight", class: "number", cell: ({ in_flight: number }) => count(number) },
    { title: "Error", cell: ({ error }) => wrong(error) },
    { title: "Actions", class: "actions", cell: (one) => session.operates && row(button(one.state === "drained" ? "Use again" : "Take out", () => drain(one, upstreams.load))) },
  ], "There are no servers.");
  const issuers = loaded("Issuers", "/v1/issuers", [
    { title: "Name", cell: ({ name }) => name },
    { title: "Issuer", cell: ({ issuer, location }) => el("code", {}, issuer ?? location ?? "–") },
    { title: "Keys", cell: ({ kind, state }) => (kind === "introspection" ? badge("", kind) : fresh(state)) },
    { title: "Key ids", cell: ({ keys }) => list((keys ?? []).map(({ kid, tokens }) => `${kid ?? "no id"} (${count(tokens)} tokens)`)) },
    { title: "Fetched", class: "tight", cell: ({ since }) => time(since) },
  ], "The policy trusts no issuer.");
  const signing = loaded("Signing keys", "/v1/signing-keys", [
    { title: "Id", cell: ({ kid }) => el("code", {}, kid) },
    { title: "Algorithm", cell: ({ algorithm }) => algorithm },
    { title: "State", cell: ({ state }) => fresh(state) },
    { title: "Signs from", class: "tight", cell: ({ active }) => time(active) },
    { title: "Until", class: "tight", cell: ({ until }) => time(until) },
  ], "The policy has no token service.", { missing: true });
  const secrets = loaded("Secrets and certificates", "/v1/secrets", [
    { title: "Reference", cell: ({ reference }) => el("code", {}, reference) },
    { title: "Source", cell: ({ source, kind }) => `${source}, ${kind}` },
    { title: "Version", cell: ({ version }) => version ?? "–" },
    { title: "Since", class: "tight", cell: ({ since }) => time(since) },
    { title: "Error", cell: ({ error }) => wrong(error?.message) },
  ], "The policy names no secret.");
  const routes = (answer) => answer.apis.flatMap(({ api: name, routes: all }) => all.map((one) => ({ api: name, ...one })));
  const policy = loaded("Routes of the policy", "/v1/policy", [
    { title: "API", cell: ({ api: name }) => name },
    { title: "Route", cell: ({ route }) => el("code", {}, route) },
    { title: "Scopes", cell: (one) => (one.public ? badge("warn", "public") : list((one.scopes ?? []).map((scope) => (Array.isArray(scope) ? scope.join(" ") : String(scope))))) },
    { title: "Only", cell: ({ only }) => list(only) },
  ], "The policy has no routes.", {
    items: routes, search: true, tools: [session.operates && button("Reload policy", () => reloadPolicy(() => policy.load()))].filter(Boolean),
  });
  place.append(heading("System", store), sinks.root, upstreams.root, issuers.root, signing.root, secrets.root, policy.root);
}

// --- the way between them ---

const VIEWS = {
  overview: ["Overview", overview],
  live: ["Live", liveView],
  consumers: ["Consumers", consumersView],
  keys: ["Keys", keysView],
  limits: ["Limits", limitsView],
  findings: ["Findings", findingsView],
  launch: ["Launch", launchView],
  system: ["System", systemView],
};

function go(address) {
  if (location.hash === `#${address}`) show();
  else location.hash = address;
}

/** Shows the view that the address names. */
function show() {
  if (!session.token) return;
  const [name, wanted] = location.hash.slice(1).split("/");
  // The link that skips the navigation is no view.
  if (name === "main" && current.name) return;
  const [title, view] = VIEWS[name] ?? VIEWS.overview;
  leave();
  current = { name: title, ends: new AbortController() };
  for (const link of $("nav").children) {
    if (link.textContent === title) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} – Bartizan`;
  $("main").replaceChildren();
  scrollTo(0, 0);
  view($("main"), current.ends.signal, decoded(wanted));
}

function decoded(text) {
  try {
    return decodeURIComponent(text ?? "");
  } catch {
    return "";
  }
}

function leave() {
  current.ends.abort();
  current.name = null;
}

function enter() {
  show();
}

async function beat() {
  if (document.visibilityState === "visible") {
    await look();
    const [kind, text] = readiness();
    if ($("state").textContent !== text) $("state").textContent = text;
    $("state").className = `badge ${kind}`;
    $("door-state").replaceChildren(badge(kind, text));
  }
  setTimeout(beat, pulse.every);
}

/** A link may bring a token, like that of `bartizan demo` does. It is taken out of the address and the history at once. */
function tokenOfAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname);
  return token;
}

function start() {
  $("nav").append(...Object.entries(VIEWS).map(([name, [title]]) => el("a", { href: `#${name}` }, title)));
  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const token = $("token").value.trim();
    $("token").value = "";
    signIn(token);
  });
  $("sign-out").addEventListener("click", () => signOut());
  addEventListener("hashchange", () => {
    const token = tokenOfAddress();
    // A link cannot change who is signed in.
    if (token === null) show();
    else if (!session.token) signIn(token);
  });
  beat();
  const token = tokenOfAddress();
  if (token === null) signOut();
  else signIn(token);
}

start();
