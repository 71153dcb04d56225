// Requests as they are recorded. Memory is bounded however fast they come: so many rows, and so many records that wait to be
// shown.

const ROWS = 200;
const FLUSH = 500;
/** Longest event, in characters: a record is far shorter. */
const LONGEST = 1 << 20;

/** Calls `event` with the name and the data of each server-sent event of a stream, until it ends. */
async function events(stream, event) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    if (rest.length > LONGEST) throw new Error("an event is too long");
    for (const block of blocks) {
      let [name, data] = ["message", ""];
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) event(name, data);
    }
  }
}

/** Follows the record until `signal`; connects again when the stream ends, as it does when another policy is in force. */
async function follow(query, signal, record, state) {
  let wait = 1000;
  while (!signal.aborted) {
    try {
      state("connecting", 0);
      const response = await fetch(`/v1/audit?${query}`, sends("GET", undefined, signal));
      if (!response.ok) await refuse(response);
      state("following", 0);
      wait = 1000;
      await events(response.body, (name, data) => {
        if (name === "record") record(JSON.parse(data));
        else if (name === "missed") state("following", Number(data));
      });
    } catch (error) {
      if (signal.aborted) return;
      state("interrupted", 0, error instanceof Refused ? error.message : UNANSWERED);
      if (error.status >= 400 && error.status < 500) return;
      wait = Math.min(wait * 2, 15_000);
    }
    await new Promise((resolve) => { setTimeout(resolve, wait); });
  }
}

/** What was decided about a request. */
function decision(record) {
  const reason = member(record, "event.reason");
  const would = member(record, "bartizan.would_refuse");
  if (member(record, "event.kind") === "alert") return badge("warn", member(record, "event.action"));
  if (reason) return el("span", {}, badge("bad", reason), " ", el("span", { class: "quiet" }, member(record, "bartizan.stage") ?? ""));
  if (would?.length) return badge("warn", `would refuse: ${would.join(", ")}`);
  const action = member(record, "event.action");
  return action === "request" ? badge("good", "allowed") : badge("", action ?? "–");
}

const took = (nanoseconds) => (nanoseconds === undefined ? "" : `${(nanoseconds / 1e6).toFixed(1)} ms`);

function status(record) {
  const code = member(record, "http.response.status_code");
  return code === undefined ? "–" : badge(code < 400 ? "good" : code < 500 ? "warn" : "bad", String(code));
}

/** The path of a request, or what an operator or an alert is about. */
function subject(record) {
  const path = [member(record, "http.request.method"), member(record, "url.path")].filter(Boolean).join(" ");
  const target = member(record, "bartizan.target");
  return [path, target && `(${target})`].filter(Boolean).join(" ") || (member(record, "event.action") ?? "record");
}

function inspect(record) {
  details(subject(record), [
    ["When", record["@timestamp"]],
    ["Decision", decision(record)],
    ["Consumer", member(record, "bartizan.consumer")],
    ["User", member(record, "user.id")],
    ["Client", member(record, "client.ip")],
    ["User agent", member(record, "user_agent.original")],
    ["Route", member(record, "bartizan.route")],
    ["Cause", member(record, "bartizan.cause")],
    ["Upstream", member(record, "bartizan.upstream.server")],
    ["Id", member(record, "http.request.id")],
  ], record);
}

const LIVE_COLUMNS = [
  { title: "Time", class: "tight", cell: (record) => clock(new Date(record["@timestamp"])) },
  { title: "Status", class: "tight", cell: status },
  { title: "Request", cell: (record) => el("button", { type: "button", class: "link code", click: () => inspect(record) }, subject(record)) },
  { title: "Consumer", cell: (record) => member(record, "bartizan.consumer") ?? member(record, "user.id") ?? "–" },
  { title: "Decision", cell: decision },
  { title: "Took", class: "number", cell: (record) => took(member(record, "event.duration")) },
];

/** A table that fills with records; `most` of them stay. Returns how to begin and to end it. */
function liveTable(most, says) {
  const rows = table("Requests, newest first", LIVE_COLUMNS, "Waiting for requests …");
  let pending = [];
  let shown = 0;
  const numbers = { received: 0, skipped: 0, missed: 0, paused: false };

  // While somebody reads a row with the keyboard or in a dialog, it must not move away.
  const holds = () => numbers.paused || $("dialog").open || rows.body.contains(document.activeElement);
  const flush = () => {
    if (pending.length === 0 || holds()) return says(numbers, holds());
    if (shown === 0) rows.show([]);
    const fresh = pending.reverse().map(rows.row);
    // A few that flash are seen; many would only flicker.
    if (fresh.length <= 3) for (const row of fresh) row.classList.add("new");
    pending = [];
    rows.body.prepend(...fresh);
    while (rows.body.childElementCount > most) rows.body.lastElementChild.remove();
    shown = rows.body.childElementCount;
    rows.root.firstElementChild.hidden = false;
    rows.root.lastElementChild.hidden = true;
    says(numbers, false);
  };
  const add = (record) => {
    numbers.received += 1;
    pending.push(record);
    if (pending.length > most) {
      pending.shift();
      numbers.skipped += 1;
    }
  };
  const clear = () => { pending = []; shown = 0; rows.show([]); };
  return { root: rows.root, numbers, add, flush, clear };
}
