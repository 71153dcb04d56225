//! Formats a record as one line of JSON, directly into the worker's buffer.
//!
//! Field names are Elastic Common Schema's, and ours under `bartizan`. The sealer adds the place in the hash chain at the two
//! [`MARK`]s that every line has: at the end of `bartizan` and of `event`, which is the last member. Every member is written with a comma before it; the
//! first comma of an object becomes its opening brace, so absent fields need no bookkeeping. Every text goes through
//! [`Line::string`], which truncates it to [`TEXT_MAX`], replaces invalid UTF-8, and escapes what could end the line or the
//! string, or control a terminal.

use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use super::clock::Clock;
use super::fields::{
    ALERTS, Change, CredentialFacts, DrillFacts, LimitFacts, Outcome, REQUEST, Record, SignalFacts, UpstreamFields,
};
use super::mark::{CheckpointFacts, Follows, Mark, MarkKind};
use super::text::{TEXT_MAX, cut, is_hidden, is_plain};
use crate::audit::chain::MARK;
use crate::refusal::{Refusal, Violation};

/// Most elements of one array of texts.
pub(crate) const ARRAY_MAX: usize = 32;

/// Most violations of one record.
pub(super) const VIOLATIONS_MAX: usize = 8;

/// Bytes reserved for a line; most lines fit.
pub(in crate::audit) const LINE_ROOM: usize = 1536;

/// A member's name with the comma before it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Appends `record` to `out` as one line with its line break, to be sealed. `node` is the name of this host.
pub(in crate::audit) fn write(out: &mut Vec<u8>, record: &Record<'_>, node: &str, clock: &mut Clock) {
    out.reserve(LINE_ROOM);
    let mut line = Line { out };
    line.start(record.at, clock);
    let mut client = 0..0;
    line.object(key!("client"), |line| {
        client = line.address(key!("ip"), record.client);
        line.number(key!("port"), record.client_port);
    });
    let mut source = client.clone();
    line.object(key!("source"), |line| match record.source == record.client {
        true => line.again(key!("ip"), &client),
        false => source = line.address(key!("ip"), record.source),
    });
    related(&mut line, record, &client, &source);
    line.object(key!("http"), |line| http(line, record));
    line.object(key!("url"), |line| {
        line.text(key!("path"), record.path.map(without_query));
        line.text(key!("domain"), record.domain);
        line.word(key!("scheme"), record.scheme);
    });
    line.object(key!("user_agent"), |line| line.text(key!("original"), record.user_agent));
    line.object(key!("user"), |line| {
        line.text(key!("id"), record.user.or(record.consumer));
        line.texts(key!("roles"), record.roles);
    });
    line.object(key!("organization"), |line| line.text(key!("name"), record.organization));
    line.object(key!("tls"), |line| line.word(key!("version"), record.tls_version));
    if let Some((trace, span)) = record.trace {
        line.raw(",\"trace\":{\"id\":\"");
        line.out.extend_from_slice(trace.text().as_bytes());
        line.raw("\"},\"span\":{\"id\":\"");
        line.out.extend_from_slice(span.text().as_bytes());
        line.raw("\"}");
    }
    line.observer(node);
    line.end(|line| bartizan(line, record, node), |line| event(line, record));
}

/// Everybody that a record is about: readers search for an address or a user without knowing where it is.
fn related(line: &mut Line<'_>, record: &Record<'_>, client: &Range<usize>, source: &Range<usize>) {
    let Record { user, consumer, .. } = *record;
    line.object(key!("related"), |line| {
        line.again(",\"ip\":[", client);
        if source != client {
            line.again(",", source);
        }
        line.raw("]");
        let user = user.filter(|user| Some(*user) != consumer);
        if let Some(first) = consumer.or(user) {
            line.text(",\"user\":[", Some(first));
            line.text(",", user.filter(|_| consumer.is_some()));
            line.raw("]");
        }
    });
}

/// Appends what the sealer itself puts on record to `out`, as one line with its line break, to be sealed.
pub(in crate::audit) fn write_mark(out: &mut Vec<u8>, mark: &Mark<'_>, node: &str, clock: &mut Clock) {
    let mut line = Line { out };
    line.start(mark.at, clock);
    line.observer(node);
    line.end(
        |line| {
            match &mark.kind {
                MarkKind::Started { follows } => line.object(key!("chain"), |line| chain(line, follows)),
                MarkKind::Dropped(records) => line.number(key!("dropped"), Some(*records)),
                MarkKind::Checkpoint(facts) => line.object(key!("checkpoint"), |line| checkpoint(line, facts)),
            }
            line.text(key!("node"), Some(node));
        },
        |line| {
            line.raw(",\"kind\":\"event\",\"category\":[\"process\"],\"outcome\":\"success\",\"type\":[\"info\"]");
            line.word(key!("action"), Some(mark.kind.action()));
            line.word(key!("reason"), mark.kind.reason());
            line.word(key!("id"), Some(mark.id));
        },
    );
}

/// The members of `bartizan.chain`.
fn chain(line: &mut Line<'_>, follows: &Follows) {
    line.text(key!("follows"), Some(&*follows.stream));
    line.number(key!("after"), Some(follows.sequence));
    line.number(key!("torn"), (follows.torn > 0).then_some(follows.torn));
}

/// The members of `bartizan.checkpoint`.
fn checkpoint(line: &mut Line<'_>, facts: &CheckpointFacts<'_>) {
    line.word(key!("previous"), facts.previous);
    line.word(key!("key"), Some(facts.key));
    line.number(key!("every"), Some(facts.every));
    line.word(key!("next_key"), facts.next_key);
    line.word(key!("signature"), Some(facts.signature));
}

/// The members of `event`.
fn event(line: &mut Line<'_>, record: &Record<'_>) {
    let authentication = record.stage == Some("auth");
    let is_alert = record.action != REQUEST && ALERTS.contains(&record.action);
    line.raw(match (record.action == REQUEST, authentication) {
        _ if is_alert => ",\"kind\":\"alert\",\"category\":[\"api\",\"web\"]",
        (true, false) => ",\"kind\":\"event\",\"category\":[\"api\",\"web\"]",
        (true, true) => ",\"kind\":\"event\",\"category\":[\"api\",\"web\",\"authentication\"]",
        (false, false) => ",\"kind\":\"event\",\"category\":[\"api\",\"web\",\"configuration\"]",
        (false, true) => ",\"kind\":\"event\",\"category\":[\"api\",\"web\",\"configuration\",\"authentication\"]",
    });
    line.raw(match record.outcome {
        Outcome::Success => ",\"outcome\":\"success\"",
        Outcome::Failure => ",\"outcome\":\"failure\"",
        Outcome::Unknown => ",\"outcome\":\"unknown\"",
    });
    line.raw(match (record.reason, record.stage) {
        _ if is_alert || record.outcome == Outcome::Unknown => ",\"type\":[\"info\"]",
        // Admitted, though the upstream's response may be an error.
        (None, None) => ",\"type\":[\"access\",\"allowed\"]",
        // Not refused by a stage: the client disconnected or stalled, or forwarding failed.
        (Some(_), None) | (_, Some("forward" | "response")) => ",\"type\":[\"access\",\"error\"]",
        (_, Some(_)) => ",\"type\":[\"access\",\"denied\"]",
    });
    line.word(key!("action"), Some(record.action));
    line.word(key!("reason"), record.reason);
    line.number(key!("duration"), Some(nanoseconds(record.duration)));
    line.word(key!("id"), Some(record.id));
}

/// The members of `http`.
fn http(line: &mut Line<'_>, record: &Record<'_>) {
    line.word(key!("version"), Some(record.http_version));
    line.object(key!("request"), |line| {
        line.word(key!("id"), record.request);
        line.text(key!("method"), record.method);
        line.object(key!("body"), |line| line.number(key!("bytes"), Some(record.request_bytes)));
    });
    line.object(key!("response"), |line| {
        line.number(key!("status_code"), record.status);
        line.object(key!("body"), |line| line.number(key!("bytes"), Some(record.response_bytes)));
    });
}

/// What an operator changed, or what a drill showed.
fn change(line: &mut Line<'_>, Change { scopes, until, reason, drill }: &Change) {
    line.object(key!("change"), |line| {
        line.texts(key!("scopes"), scopes);
        line.word(key!("until"), until.map(|until| until.to_string()).as_deref());
        line.text(key!("reason"), reason.as_deref());
    });
    if let Some(DrillFacts { auth, nodes, within, refused_after }) = drill {
        line.object(key!("drill"), |line| {
            line.word(key!("auth"), Some(auth));
            line.number(key!("nodes"), Some(*nodes));
            line.number(key!("within"), Some(nanoseconds(*within)));
            line.number(key!("refused_after"), refused_after.map(nanoseconds));
        });
    }
}

/// The members of `bartizan`.
fn bartizan(line: &mut Line<'_>, record: &Record<'_>, node: &str) {
    line.text(
        key!("consumer"),
        // The name of an operator is no consumer; only callers come to an API.
        record.consumer.filter(|_| record.action == REQUEST || ALERTS.contains(&record.action) || record.api.is_some()),
    );
    line.text(key!("api"), record.api);
    line.text(key!("route"), record.route);
    line.text(key!("target"), record.target.map(str::as_bytes));
    if let Some(made) = record.change {
        change(line, made);
    }
    line.word(key!("stage"), record.stage);
    line.text(key!("cause"), record.cause);
    line.word(key!("mode"), record.reports.then_some("report"));
    line.would_refuse(record.would_refuse);
    line.text(key!("plan"), record.plan);
    if let Some(LimitFacts { name, used }) = record.limit {
        line.object(key!("limit"), |line| {
            line.word(key!("name"), Some(name));
            line.number(key!("used_percent"), used.map(|(percent, _)| percent));
            line.word(key!("resets"), used.map(|(_, resets)| resets.to_string()).as_deref());
        });
    }
    let SignalFacts { last_used, routes } = record.signal;
    line.object(key!("signal"), |line| {
        line.word(key!("last_used"), last_used.map(|at| at.to_string()).as_deref());
        line.number(key!("routes"), routes);
    });
    if let Some(CredentialFacts { kind, id, issuer }) = record.credential {
        line.object(key!("credential"), |line| {
            line.word(key!("kind"), Some(kind));
            line.text(key!("id"), id);
            line.text(key!("issuer"), issuer);
        });
    }
    line.object(key!("scopes"), |line| {
        line.texts(key!("required"), record.scopes_required);
        line.texts(key!("granted"), record.scopes_granted);
        line.texts(key!("lent"), record.scopes_lent);
        line.texts(key!("cut"), record.scopes_cut);
    });
    line.violations(record.violations);
    if let Some(UpstreamFields { server, duration, attempts }) = record.upstream {
        line.object(key!("upstream"), |line| {
            line.text(key!("server"), Some(server));
            line.number(key!("duration"), duration.map(nanoseconds));
            line.number(key!("attempts"), (attempts > 1).then_some(attempts));
        });
    }
    line.word(key!("policy"), Some(record.policy));
    line.text(key!("node"), Some(node));
}

/// A line being written.
struct Line<'b> {
    out: &'b mut Vec<u8>,
}

impl Line<'_> {
    /// Writes the members that every line starts with.
    fn start(&mut self, at: Timestamp, clock: &mut Clock) {
        self.raw("{\"@timestamp\":\"");
        clock.write(self.out, at);
        self.raw("\",\"ecs\":{\"version\":\"8.17.0\"}");
    }

    /// Writes who makes the record.
    fn observer(&mut self, node: &str) {
        const REST: &str = concat!(",\"type\":\"proxy\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"");
        self.object(key!("observer"), |line| {
            line.text(key!("name"), Some(node));
            line.raw(REST);
        });
    }

    /// Writes `bartizan` and `event`, each with a mark at its end instead of what the sealer adds, and the line break.
    fn end(&mut self, bartizan: impl FnOnce(&mut Line<'_>), event: impl FnOnce(&mut Line<'_>)) {
        self.object(key!("bartizan"), |line| {
            bartizan(line);
            line.out.push(MARK);
        });
        self.object(key!("event"), event);
        // The sealer closes `event` and the line.
        self.out.pop();
        self.out.extend([MARK, b'\n']);
    }

    /// Writes complete JSON.
    #[inline]
    fn raw(&mut self, json: &'static str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Writes an object with the members that `members` writes; nothing if it writes none.
    #[inline]
    fn object(&mut self, key: &'static str, members: impl FnOnce(&mut Line<'_>)) {
        let before = self.out.len();
        self.raw(key);
        let first = self.out.len();
        members(self);
        match self.out.get_mut(first) {
            Some(comma) => {
                *comma = b'{';
                self.out.push(b'}');
            }
            None => self.out.truncate(before),
        }
    }

    /// Writes a text, if present.
    #[inline]
    fn text<T: AsRef<[u8]> + ?Sized>(&mut self, key: &'static str, text: Option<&T>) {
        if let Some(text) = text {
            self.raw(key);
            self.string(text.as_ref());
        }
    }

    /// Writes a fixed or generated word, if present: printable ASCII without a quote or a backslash.
    #[inline]
    fn word(&mut self, key: &'static str, word: Option<&str>) {
        if let Some(word) = word {
            debug_assert!(is_plain(word.as_bytes()), "{word}");
            self.raw(key);
            self.out.push(b'"');
            self.out.extend_from_slice(word.as_bytes());
            self.out.push(b'"');
        }
    }

    /// Writes a number, if present.
    #[inline]
    fn number<N: itoa::Integer>(&mut self, key: &'static str, number: Option<N>) {
        if let Some(number) = number {
            self.raw(key);
            self.digits(number);
        }
    }

    /// Writes an array of texts, if not empty.
    fn texts(&mut self, key: &'static str, texts: &[Box<str>]) {
        if texts.is_empty() {
            return;
        }
        self.raw(key);
        let mut before = b'[';
        for text in texts.iter().take(ARRAY_MAX) {
            self.out.push(before);
            self.string(text.as_bytes());
            before = b',';
        }
        self.out.push(b']');
    }

    /// Writes the codes of refusals that were only reported, if any.
    fn would_refuse(&mut self, refusals: &[Refusal]) {
        if refusals.is_empty() {
            return;
        }
        self.raw(key!("would_refuse"));
        let mut before = b'[';
        for refusal in refusals {
            self.out.push(before);
            self.string(refusal.reason().code().as_bytes());
            before = b',';
        }
        self.out.push(b']');
    }

    /// Writes the first violations, if any.
    fn violations(&mut self, violations: &[Violation]) {
        if violations.is_empty() {
            return;
        }
        self.raw(key!("violations"));
        let mut before = b'[';
        for violation in violations.iter().take(VIOLATIONS_MAX) {
            self.out.push(before);
            self.raw("{\"pointer\":");
            self.string(violation.pointer.as_bytes());
            self.text(key!("detail"), Some(&violation.detail));
            self.text(key!("keyword"), violation.keyword.as_deref());
            self.text(key!("schema"), violation.schema.as_deref());
            self.out.push(b'}');
            before = b',';
        }
        self.out.push(b']');
    }

    /// Writes what was written before, at this place.
    fn again(&mut self, key: &'static str, place: &Range<usize>) {
        self.raw(key);
        self.out.extend_from_within(place.clone());
    }

    /// Writes an address. IPv4 does not use `Display`, which is several times slower. Returns the place of its text, with quotes.
    fn address(&mut self, key: &'static str, address: IpAddr) -> Range<usize> {
        self.raw(key);
        let start = self.out.len();
        self.out.push(b'"');
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                self.digits(a);
                for octet in [b, c, d] {
                    self.out.push(b'.');
                    self.digits(octet);
                }
            }
            // Writing to a `Vec` cannot fail.
            IpAddr::V6(address) => {
                let _ = write!(self.out, "{address}");
            }
        }
        self.out.push(b'"');
        start..self.out.len()
    }

    #[inline]
    fn digits<N: itoa::Integer>(&mut self, number: N) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Writes a string, quoted, truncated and escaped.
    #[inline]
    fn string(&mut self, bytes: &[u8]) {
        let bytes = cut(bytes);
        self.out.push(b'"');
        if is_plain(bytes) {
            self.out.extend_from_slice(bytes);
        } else {
            self.escaped(bytes);
        }
        self.out.push(b'"');
    }

    /// Writes the content of a string that needs escaping. Stops early if replaced bytes would make it longer than
    /// [`TEXT_MAX`].
    #[cold]
    fn escaped(&mut self, bytes: &[u8]) {
        let mut left = TEXT_MAX;
        for chunk in bytes.utf8_chunks() {
            let replaced = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            for character in chunk.valid().chars().chain(replaced) {
                match left.checked_sub(character.len_utf8()) {
                    Some(rest) => left = rest,
                    None => return,
                }
                self.character(character);
            }
        }
    }

    fn character(&mut self, character: char) {
        match character {
            '"' => self.raw("\\\""),
            '\\' => self.raw("\\\\"),
            '\n' => self.raw("\\n"),
            '\r' => self.raw("\\r"),
            '\t' => self.raw("\\t"),
            // Writing to a `Vec` cannot fail, and every hidden character is in the Basic Multilingual Plane.
            hidden if is_hidden(hidden) => {
                let _ = write!(self.out, "\\u{:04x}", u32::from(hidden));
            }
            shown => self.out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Strips a query. Callers pass paths without one, and a query must never be recorded.
pub(super) fn without_query(path: &[u8]) -> &[u8] {
    memchr::memchr(b'?', path).and_then(|end| path.get(..end)).unwrap_or(path)
}

/// Whole nanoseconds; saturates after 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
