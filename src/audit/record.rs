//! Formatting one record as one line of JSON, by hand, straight into the worker's buffer.
//!
//! Field names are Elastic Common Schema's, and ours under `bartizan`. Every member is written with a comma in front;
//! the first one's comma becomes the opening brace of its object, so absent facts need no bookkeeping. Every text,
//! wherever it came from, goes through [`Line::string`]: cut at [`TEXT_MAX`], invalid UTF-8 replaced, and whatever
//! could end the line, leave the string or steer a terminal escaped.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::{Outcome, REQUEST, Record};
use crate::refusal::{Refusal, Violation};

/// Most bytes of one text in a record, as UTF-8 and before escaping.
pub(super) const TEXT_MAX: usize = 1024;

/// Most elements of one array of texts.
const ARRAY_MAX: usize = 32;

/// Most violations of one record.
const VIOLATIONS_MAX: usize = 8;

/// Room made before a line is begun; most lines fit.
const LINE_ROOM: usize = 1536;

/// A member's name with the comma before it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Appends `record` to `out` as one line, its end included. `node` is the name of this host.
pub(super) fn write(out: &mut Vec<u8>, record: &Record<'_>, sequence: u64, node: &str, clock: &mut Clock) {
    out.reserve(LINE_ROOM);
    let mut line = Line { out };
    line.raw("{\"@timestamp\":\"");
    clock.write(line.out, record.at);
    line.raw("\",\"ecs\":{\"version\":\"8.17.0\"}");
    line.object(key!("event"), |line| event(line, record, sequence));
    line.object(key!("client"), |line| {
        line.address(key!("ip"), record.client);
        line.number(key!("port"), record.client_port);
    });
    line.object(key!("source"), |line| line.address(key!("ip"), record.source));
    line.object(key!("http"), |line| http(line, record));
    line.object(key!("url"), |line| {
        line.text(key!("path"), record.path.map(without_query));
        line.text(key!("domain"), record.domain);
    });
    line.object(key!("user_agent"), |line| line.text(key!("original"), record.user_agent));
    line.object(key!("user"), |line| {
        line.text(key!("id"), record.consumer);
        line.texts(key!("roles"), record.roles);
    });
    line.object(key!("tls"), |line| line.word(key!("version"), record.tls_version));
    line.object(key!("trace"), |line| line.text(key!("id"), record.trace_id));
    line.object(key!("bartizan"), |line| bartizan(line, record, node));
    line.raw("}\n");
}

/// The members of `event`.
fn event(line: &mut Line<'_>, record: &Record<'_>, sequence: u64) {
    let authentication = record.stage == Some("auth");
    line.raw(match (record.action == REQUEST, authentication) {
        (true, false) => ",\"kind\":\"event\",\"category\":[\"web\"]",
        (true, true) => ",\"kind\":\"event\",\"category\":[\"web\",\"authentication\"]",
        (false, false) => ",\"kind\":\"event\",\"category\":[\"web\",\"configuration\"]",
        (false, true) => ",\"kind\":\"event\",\"category\":[\"web\",\"configuration\",\"authentication\"]",
    });
    line.raw(match record.outcome {
        Outcome::Success => ",\"outcome\":\"success\"",
        Outcome::Failure => ",\"outcome\":\"failure\"",
    });
    line.raw(match (record.reason, record.stage) {
        // Let through, though the upstream's answer may be a failure.
        (None, None) => ",\"type\":[\"access\",\"allowed\"]",
        // Nothing was decided against it: it broke off, or could not be carried.
        (Some(_), None) | (_, Some("forward" | "response")) => ",\"type\":[\"access\",\"error\"]",
        (_, Some(_)) => ",\"type\":[\"access\",\"denied\"]",
    });
    line.word(key!("action"), Some(record.action));
    line.word(key!("reason"), record.reason);
    line.number(key!("duration"), Some(nanoseconds(record.duration)));
    line.word(key!("id"), Some(record.id));
    line.number(key!("sequence"), Some(sequence));
}

/// The members of `http`.
fn http(line: &mut Line<'_>, record: &Record<'_>) {
    line.word(key!("version"), Some(record.http_version));
    line.object(key!("request"), |line| {
        line.text(key!("method"), record.method);
        line.object(key!("body"), |line| line.number(key!("bytes"), Some(record.request_bytes)));
    });
    line.object(key!("response"), |line| {
        line.number(key!("status_code"), record.status);
        line.object(key!("body"), |line| line.number(key!("bytes"), Some(record.response_bytes)));
    });
}

/// The members of `bartizan`.
fn bartizan(line: &mut Line<'_>, record: &Record<'_>, node: &str) {
    line.text(key!("api"), record.api);
    line.text(key!("route"), record.route);
    line.text(key!("target"), record.target.map(str::as_bytes));
    line.word(key!("stage"), record.stage);
    line.word(key!("mode"), record.reports.then_some("report"));
    line.would_refuse(record.would_refuse);
    line.text(key!("plan"), record.plan);
    if let Some((kind, id)) = record.credential {
        line.object(key!("credential"), |line| {
            line.word(key!("kind"), Some(kind));
            line.text(key!("id"), id);
        });
    }
    line.object(key!("scopes"), |line| {
        line.texts(key!("required"), record.scopes_required);
        line.texts(key!("granted"), record.scopes_granted);
    });
    line.violations(record.violations);
    if let Some((server, duration)) = record.upstream {
        line.object(key!("upstream"), |line| {
            line.text(key!("server"), Some(server));
            line.number(key!("duration"), duration.map(nanoseconds));
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
    /// JSON that is already whole.
    #[inline]
    fn raw(&mut self, json: &'static str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// An object with the members that `members` writes; nothing at all when it writes none.
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

    /// A text, when there is one.
    #[inline]
    fn text<T: AsRef<[u8]> + ?Sized>(&mut self, key: &'static str, text: Option<&T>) {
        if let Some(text) = text {
            self.raw(key);
            self.string(text.as_ref());
        }
    }

    /// A fixed or generated word, if any: printable ASCII without a quote or a backslash.
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

    /// A number, when there is one.
    #[inline]
    fn number<N: itoa::Integer>(&mut self, key: &'static str, number: Option<N>) {
        if let Some(number) = number {
            self.raw(key);
            self.digits(number);
        }
    }

    /// An array of texts, when it is not empty.
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

    /// The codes of refusals that were only reported, if any.
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

    /// The first violations, when there are any.
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

    /// An address. IPv4 is written by hand: it is in every record twice, and `Display` costs several times as much.
    fn address(&mut self, key: &'static str, address: IpAddr) {
        self.raw(key);
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
    }

    #[inline]
    fn digits<N: itoa::Integer>(&mut self, number: N) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// A string, quoted, cut and escaped.
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

    /// The inside of a string that needs care. Ends early where replaced bytes would grow it past [`TEXT_MAX`].
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

/// Whether a character acts on a line or a terminal rather than being seen: controls (C0, DEL, C1), line and paragraph
/// separators, and marks that are invisible or turn the direction of text.
pub(super) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether a text is printable ASCII with nothing to escape.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = b' ' as usize;
        while byte < 0x7f {
            table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
            byte += 1;
        }
        table
    };
    let (blocks, rest) = bytes.as_chunks::<16>();
    // No early exit within a block, so that it is compiled to vector instructions.
    let plain = |block: &[u8; 16]| {
        block.iter().fold(true, |plain, &byte| plain & (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\'))
    };
    blocks.iter().all(plain) && rest.iter().all(|&byte| PLAIN[usize::from(byte)])
}

/// The first [`TEXT_MAX`] bytes, or up to three fewer so that no character is cut in two.
#[inline]
fn cut(bytes: &[u8]) -> &[u8] {
    let mut end = TEXT_MAX;
    let Some(mut next) = bytes.get(end) else { return bytes };
    while (TEXT_MAX - 3..=TEXT_MAX).contains(&end) && (0x80..0xc0).contains(next) {
        end -= 1;
        next = bytes.get(end).unwrap_or(&0);
    }
    bytes.get(..end).unwrap_or(bytes)
}

/// The path alone: callers pass none with a query, and a query must never be on record.
fn without_query(path: &[u8]) -> &[u8] {
    memchr::memchr(b'?', path).and_then(|end| path.get(..end)).unwrap_or(path)
}

/// Whole nanoseconds; the largest there is after 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Formats instants, remembering the text of the last second: many records share one.
#[derive(Default)]
pub(super) struct Clock {
    /// Seconds since the epoch that `text` is for.
    second: Option<i64>,
    /// Date and time up to the seconds, and the dot.
    text: String,
}

impl Clock {
    /// Appends `at` as RFC 3339 in UTC, cut to milliseconds.
    fn write(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        let milliseconds = at.as_millisecond();
        let second = milliseconds.div_euclid(1000);
        if self.second != Some(second) {
            self.text.clear();
            let start = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            // Writing to a `String` cannot fail, and the format is a good one.
            let _ = write!(self.text, "{}.", start.strftime("%Y-%m-%dT%H:%M:%S"));
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let fraction = milliseconds.rem_euclid(1000);
        out.extend([100, 10, 1].map(|unit| b"0123456789"[usize::try_from(fraction / unit % 10).unwrap_or(0)]));
        out.push(b'Z');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// A record with nothing that may be absent.
    pub(in crate::audit) fn sample() -> Record<'static> {
        Record {
            at: Timestamp::UNIX_EPOCH,
            action: REQUEST,
            id: "0192f0c1-7a53-7c4e-8f00-000000000001",
            duration: Duration::from_micros(1500),
            outcome: Outcome::Success,
            reason: None,
            client: Ipv4Addr::new(203, 0, 113, 255).into(),
            client_port: None,
            source: Ipv4Addr::new(10, 0, 0, 1).into(),
            user_agent: None,
            http_version: "1.1",
            method: None,
            request_bytes: 0,
            status: None,
            response_bytes: 0,
            path: None,
            domain: None,
            consumer: None,
            target: None,
            roles: &[],
            tls_version: None,
            trace_id: None,
            api: None,
            route: None,
            stage: None,
            reports: false,
            would_refuse: &[],
            plan: None,
            credential: None,
            scopes_required: &[],
            scopes_granted: &[],
            violations: &[],
            upstream: None,
            policy: "9f2c",
        }
    }

    /// The line of a record; fails unless it is exactly one line.
    pub(in crate::audit) fn line(record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, record, 7, "edge-1", &mut Clock::default());
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
        assert_eq!(out.last(), Some(&b'\n'));
        out
    }

    fn json_of(record: &Record<'_>) -> Value {
        serde_json::from_slice(&line(record)).unwrap()
    }

    fn strings(texts: &[&str]) -> Vec<Box<str>> {
        texts.iter().map(|text| Box::from(*text)).collect()
    }

    #[test]
    fn a_full_record_has_every_field() {
        let (roles, required, granted) =
            (strings(&["clerk", "auditor"]), strings(&["orders:write"]), strings(&["orders:read"]));
        let violations = [Violation::new("/lines/0/quantity", "\"0\" is less than 1")];
        let record = Record {
            at: "2026-11-23T22:04:05.123987Z".parse().unwrap(),
            outcome: Outcome::Failure,
            reason: Some("schema_violation"),
            client_port: Some(50123),
            source: Ipv6Addr::LOCALHOST.into(),
            user_agent: Some(b"curl/8.5"),
            method: Some("POST"),
            request_bytes: 512,
            status: Some(422),
            response_bytes: u64::MAX,
            path: Some(b"/v1/orders?token=secret"),
            domain: Some(b"api.example.com"),
            consumer: Some("acme"),
            target: None,
            roles: &roles,
            tls_version: Some("1.3"),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            api: Some("orders"),
            route: Some("POST /v1/orders"),
            stage: Some("schema"),
            plan: Some("gold"),
            credential: Some(("jwt", Some("jti-1"))),
            scopes_required: &required,
            scopes_granted: &granted,
            violations: &violations,
            upstream: Some(("http://10.1.0.7:9000", Some(Duration::from_micros(900)))),
            ..sample()
        };
        let expected = json!({
            "@timestamp": "2026-11-23T22:04:05.123Z",
            "ecs": { "version": "8.17.0" },
            "event": {
                "kind": "event", "category": ["web"], "type": ["access", "denied"], "action": "request",
                "outcome": "failure", "reason": "schema_violation", "duration": 1_500_000,
                "id": "0192f0c1-7a53-7c4e-8f00-000000000001", "sequence": 7,
            },
            "client": { "ip": "203.0.113.255", "port": 50123 },
            "source": { "ip": "::1" },
            "http": {
                "version": "1.1",
                "request": { "method": "POST", "body": { "bytes": 512 } },
                "response": { "status_code": 422, "body": { "bytes": u64::MAX } },
            },
            "url": { "path": "/v1/orders", "domain": "api.example.com" },
            "user_agent": { "original": "curl/8.5" },
            "user": { "id": "acme", "roles": ["clerk", "auditor"] },
            "tls": { "version": "1.3" },
            "trace": { "id": "4bf92f3577b34da6a3ce929d0e0e4736" },
            "bartizan": {
                "api": "orders", "route": "POST /v1/orders", "stage": "schema", "plan": "gold",
                "credential": { "kind": "jwt", "id": "jti-1" },
                "scopes": { "required": ["orders:write"], "granted": ["orders:read"] },
                "violations": [{ "pointer": "/lines/0/quantity", "detail": "\"0\" is less than 1" }],
                "upstream": { "server": "http://10.1.0.7:9000", "duration": 900_000 },
                "policy": "9f2c", "node": "edge-1",
            },
        });
        assert_eq!(json_of(&record), expected);
    }

    #[test]
    fn absent_facts_are_left_out() {
        let expected = json!({
            "@timestamp": "1970-01-01T00:00:00.000Z",
            "ecs": { "version": "8.17.0" },
            "event": {
                "kind": "event", "category": ["web"], "type": ["access", "allowed"], "action": "request",
                "outcome": "success", "duration": 1_500_000, "id": "0192f0c1-7a53-7c4e-8f00-000000000001", "sequence": 7,
            },
            "client": { "ip": "203.0.113.255" },
            "source": { "ip": "10.0.0.1" },
            "http": {
                "version": "1.1", "request": { "body": { "bytes": 0 } }, "response": { "body": { "bytes": 0 } },
            },
            "bartizan": { "policy": "9f2c", "node": "edge-1" },
        });
        assert_eq!(json_of(&sample()), expected);
        let one =
            Record { domain: Some(b"a"), credential: Some(("none", None)), upstream: Some(("u", None)), ..sample() };
        let value = json_of(&one);
        assert_eq!(value["url"], json!({ "domain": "a" }));
        assert_eq!(value["bartizan"]["credential"], json!({ "kind": "none" }));
        assert_eq!(value["bartizan"]["upstream"], json!({ "server": "u" }));
    }

    #[test]
    fn category_and_type_say_what_kind_of_event_it_was() {
        for (action, stage, reason, category, kind) in [
            (REQUEST, None, None, json!(["web"]), "allowed"),
            (REQUEST, Some("auth"), Some("revoked"), json!(["web", "authentication"]), "denied"),
            (REQUEST, Some("scope"), Some("insufficient_scope"), json!(["web"]), "denied"),
            (REQUEST, Some("forward"), Some("upstream_timeout"), json!(["web"]), "error"),
            (REQUEST, None, Some(super::super::CLIENT_DISCONNECTED), json!(["web"]), "error"),
            ("key revoked", None, None, json!(["web", "configuration"]), "allowed"),
            ("key revoked", Some("auth"), None, json!(["web", "configuration", "authentication"]), "denied"),
        ] {
            let event = &json_of(&Record { action, stage, reason, ..sample() })["event"];
            assert_eq!((&event["category"], &event["type"][1]), (&category, &json!(kind)), "{action} {stage:?}");
        }
    }

    #[test]
    fn hostile_text_stays_inside_its_string() {
        let long = "é".repeat(512 * 1024);
        let cases: [(&[u8], &str, String); 12] = [
            (b"a\r\nb\t", "a\\r\\nb\\t", "a\r\nb\t".to_owned()),
            (b"\"},{\"x\":\"", "\\\"},{\\\"x\\\":\\\"", "\"},{\"x\":\"".to_owned()),
            (b"\\", "\\\\", "\\".to_owned()),
            (b"\x1b[2J\x07\0", "\\u001b[2J\\u0007\\u0000", "\u{1b}[2J\u{7}\0".to_owned()),
            (b"\x7f", "\\u007f", "\u{7f}".to_owned()),
            ("\u{2028}\u{2029}".as_bytes(), "\\u2028\\u2029", "\u{2028}\u{2029}".to_owned()),
            ("\u{9b}31m\u{202e}".as_bytes(), "\\u009b31m\\u202e", "\u{9b}31m\u{202e}".to_owned()),
            (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}", "a\u{fffd}b\u{fffd}".to_owned()),
            ("żółw 🐢".as_bytes(), "żółw 🐢", "żółw 🐢".to_owned()),
            (b"", "", String::new()),
            (long.as_bytes(), &long[..1024], long[..1024].to_owned()),
            (&[0xff; 1 << 20], &"\u{fffd}".repeat(341), "\u{fffd}".repeat(341)),
        ];
        for (text, written, value) in cases {
            let line = line(&Record { user_agent: Some(text), ..sample() });
            let parsed: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(parsed["user_agent"]["original"], value, "{written}");
            let expected = format!("\"original\":\"{written}\"");
            assert!(String::from_utf8(line).unwrap().contains(&expected), "{expected}");
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        for (text, kept) in [
            ("a".repeat(1024), 1024),
            ("a".repeat(1025), 1024),
            (format!("{}é", "a".repeat(1022)), 1024),
            (format!("{}é", "a".repeat(1023)), 1023),
            (format!("{}🐢", "a".repeat(1021)), 1021),
            (format!("{}🐢!", "a".repeat(1020)), 1024),
            (format!("{}🐢", "\n".repeat(1021)), 1021),
        ] {
            let value = json_of(&Record { consumer: Some(&text), ..sample() });
            assert_eq!(value["user"]["id"], text[..kept]);
        }
    }

    #[test]
    fn lists_are_cut() {
        let many: Vec<Box<str>> = (0..100).map(|index| index.to_string().into()).collect();
        let violation = Violation::new("/a", "b");
        let violations = vec![violation; 100];
        let record = Record { roles: &many, scopes_granted: &many, violations: &violations, ..sample() };
        let value = json_of(&record);
        assert_eq!(value["user"]["roles"].as_array().unwrap().len(), ARRAY_MAX);
        assert_eq!(value["bartizan"]["scopes"]["granted"][31], "31");
        assert_eq!(value["bartizan"]["violations"].as_array().unwrap().len(), VIOLATIONS_MAX);
    }

    #[test]
    fn instants_are_utc_to_the_millisecond() {
        let mut clock = Clock::default();
        for text in [
            "2026-11-23T22:04:05.000Z",
            "2026-11-23T22:04:05.999Z",
            "2026-11-23T22:04:06.010Z",
            "2026-11-23T22:04:05.100Z",
            "1969-12-31T23:59:59.001Z",
        ] {
            let mut out = Vec::new();
            clock.write(&mut out, text.parse().unwrap());
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_of_json(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            characters in proptest::collection::vec(any::<char>(), 0..1200),
        ) {
            let text = String::from_iter(characters);
            let roles = [Box::from(text.as_str())];
            let violations = [Violation::new(text.as_str(), text.as_str())];
            let record = Record {
                user_agent: Some(&bytes), path: Some(&bytes), domain: Some(text.as_bytes()), consumer: Some(&text),
                roles: &roles, violations: &violations, method: Some(&text), ..sample()
            };
            let value = json_of(&record);
            let kept = &text[..text.floor_char_boundary(TEXT_MAX)];
            for pointer in ["/url/domain", "/user/id", "/user/roles/0", "/http/request/method", "/bartizan/violations/0/detail"] {
                prop_assert_eq!(value.pointer(pointer).unwrap(), kept);
            }
            for (pointer, bytes) in [("/user_agent/original", bytes.as_slice()), ("/url/path", without_query(&bytes))] {
                let written = value.pointer(pointer).unwrap().as_str().unwrap();
                prop_assert!(written.len() <= TEXT_MAX);
                prop_assert!(String::from_utf8_lossy(bytes).starts_with(written) || bytes.len() > TEXT_MAX);
                prop_assert!(!(pointer == "/url/path" && written.contains('?')));
            }
        }
    }
}
