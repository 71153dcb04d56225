//! The reference of the fields of a record, for `bartizan help record`.

/// The fields of a record, in the order in which they are written. A test compares them with a full record.
pub(crate) const FIELDS: [(&str, &str); 84] = [
    ("@timestamp", "When the request started"),
    ("ecs.version", "Version of the Elastic Common Schema"),
    ("client.ip", "Address of the client, behind trusted proxies"),
    ("client.port", "Port of the client"),
    ("source.ip", "Address of the TCP peer"),
    ("related.ip", "Both addresses"),
    ("related.user", "The consumer and the user"),
    ("http.version", "`1.0`, `1.1` or `2`"),
    ("http.request.id", "Id of the request, as in `X-Request-Id`"),
    ("http.request.method", "Method"),
    ("http.request.body.bytes", "Bytes of the request body"),
    ("http.response.status_code", "Status that was sent; absent if none was"),
    ("http.response.body.bytes", "Bytes of the response body that were sent"),
    ("url.path", "Path, without the query"),
    ("url.domain", "Host of the request"),
    ("url.scheme", "`https` or `http`, by which the client came"),
    ("user_agent.original", "`User-Agent`"),
    ("user.id", "The user that the consumer acts for, otherwise the consumer; or the operator"),
    ("user.roles", "Roles of the caller"),
    ("organization.name", "The organization of the consumer"),
    ("tls.version", "Version of TLS"),
    ("trace.id", "W3C trace id: the caller's, or a new one"),
    ("span.id", "Id of the request's own span in that trace"),
    ("observer.name", "Name of this host"),
    ("observer.type", "`proxy`"),
    ("observer.version", "Version of Bartizan"),
    ("bartizan.consumer", "The consumer whose credential was sent, also if it was refused"),
    ("bartizan.api", "Name of the API"),
    ("bartizan.route", "The route, as the policy writes it"),
    ("bartizan.target", "What an operator changed, or a caller for itself"),
    ("bartizan.change.scopes", "The scopes that an operator gave"),
    ("bartizan.change.until", "When what an operator gave or took ends"),
    ("bartizan.change.reason", "The operator's reason"),
    ("bartizan.drill.auth", "Digest of what the policy says about authentication: the drill is evidence for this one"),
    ("bartizan.drill.nodes", "How many nodes took part in a drill"),
    ("bartizan.drill.within", "Nanoseconds within which they had to refuse a revoked credential"),
    ("bartizan.drill.refused_after", "Nanoseconds until the last of them did; absent: one did not"),
    ("bartizan.stage", "The stage that refused the request"),
    ("bartizan.cause", "What happened, for operators; the caller is not told"),
    ("bartizan.mode", "`report` if a stage of the route only reports"),
    ("bartizan.would_refuse", "Codes of refusals that were only reported"),
    ("bartizan.plan", "The plan that the request counted against"),
    ("bartizan.limit.name", "The limit that refused the request, or the quota that an alert is about"),
    ("bartizan.limit.used_percent", "How much of the quota has been used: 80 or 100"),
    ("bartizan.limit.resets", "When the quota resets"),
    ("bartizan.signal.last_used", "When the key of an alert was last used before"),
    ("bartizan.signal.routes", "How many routes the caller of an alert has tried without their scopes"),
    ("bartizan.credential.kind", "Kind of the credential"),
    ("bartizan.credential.id", "Id of the token or key, never the secret"),
    ("bartizan.credential.issuer", "Who issued the token, by its name in the policy; or `token_service`"),
    ("bartizan.scopes.required", "Scopes that the route requires"),
    ("bartizan.scopes.granted", "Scopes of the caller"),
    ("bartizan.scopes.lent", "Those of them that operators have granted for a time"),
    ("bartizan.scopes.cut", "Scopes of the credential that the roles of its consumer do not allow"),
    ("bartizan.violations.pointer", "Where the message violates its schema"),
    ("bartizan.violations.detail", "What is wrong there, without the value"),
    ("bartizan.violations.keyword", "The violated keyword of JSON Schema"),
    ("bartizan.violations.schema", "Where that keyword is in the schema"),
    ("bartizan.upstream.server", "The server that was called"),
    ("bartizan.upstream.duration", "Nanoseconds until its response headers"),
    ("bartizan.upstream.attempts", "How often the request was sent, if more than once; the server is the last one"),
    ("bartizan.policy", "Digest of the policy in force"),
    ("bartizan.dropped", "Records that were dropped before this line, because they could not be kept"),
    ("bartizan.chain.follows", "The stream that was kept here before this one"),
    ("bartizan.chain.after", "`event.sequence` of the last whole line of that stream"),
    ("bartizan.chain.torn", "Bytes after it, of a line that was not written whole"),
    ("bartizan.checkpoint.previous", "`event.hash` of the checkpoint before"),
    ("bartizan.checkpoint.key", "Id of the key: the first 16 hexadecimal digits of the SHA-256 of the public key"),
    ("bartizan.checkpoint.every", "Longest time from a line to the checkpoint that covers it, in seconds"),
    ("bartizan.checkpoint.next_key", "Public key of the checkpoints that follow, in Base64"),
    ("bartizan.checkpoint.signature", "Ed25519 signature over everything in the stream up to here, in Base64"),
    ("bartizan.node", "Name of this host"),
    ("bartizan.stream", "Name of the hash chain that the line is in: one for each run of a node"),
    ("bartizan.previous", "`event.hash` of the line before it in its stream"),
    ("event.kind", "`event`, or `alert` for what somebody should look at"),
    ("event.category", "`api` and `web`, also `authentication` or `configuration`; `process` of the record itself"),
    ("event.outcome", "`success` or `failure`; `unknown` of a change that the store did not confirm"),
    ("event.type", "`access` with `allowed`, `denied` or `error`; otherwise `info`"),
    (
        "event.action",
        "`request`; what an operator did: `admin_read`, `operator_refused`, `revocation_drilled`, `revocation_drill_failed`, a change; what a caller changed for itself: `invitation_claimed`, `key_rotated`, `client_secret_rotated`; an alert: `quota_used`, `new_network`, `unused_key_used`, `replaced_secret_used`, `scopes_probed`, `key_rotation_failed`; or of the record itself: `chain_started`, `records_dropped`, `checkpoint`",
    ),
    (
        "event.reason",
        "Code of the refusal, `client_disconnected` or `client_stalled`; of a checkpoint `stopped` or `key_changed`",
    ),
    ("event.duration", "Nanoseconds until the last byte of the response"),
    ("event.id", "Id of the record; of a request, that of the request"),
    ("event.sequence", "Number of the line in its stream, from 1, increasing by one"),
    ("event.hash", "SHA-256 of the exact bytes of the line before this field was added"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::Value;

    use super::super::UpstreamFields;
    use super::super::clock::Clock;
    use super::super::fields::{Change, CredentialFacts, DrillFacts, LimitFacts, Record, SignalFacts};
    use super::super::mark::{CheckpointFacts, Follows, KEY_CHANGED, Mark, MarkKind};
    use super::super::tests::{line, sample};
    use super::super::write::write_mark;
    use super::FIELDS;
    use crate::audit::chain::Chain;
    use crate::exchange::{SpanId, TraceId};
    use crate::refusal::{Reason, Refusal, Stage, Violation};

    /// The paths of all values that are not objects; items of lists have the path of the list.
    fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                let dot = if path.is_empty() { "" } else { "." };
                paths(value, &format!("{path}{dot}{name}"), found);
            }),
            Value::Array(items) => items.iter().for_each(|item| paths(item, path, found)),
            _ => drop(found.insert(path.to_owned())),
        }
    }

    #[test]
    fn the_fields_are_those_of_a_full_record() {
        let words = [Box::from("word")];
        let reported = [Refusal::new(Stage::Scope, Reason::InsufficientScope, "ask for it")];
        let violation =
            Violation { keyword: Some("type".into()), schema: Some("/type".into()), ..Violation::new("", "") };
        let within = Duration::from_secs(1);
        let drill = DrillFacts { auth: "0".into(), nodes: 2, within, refused_after: Some(within) };
        let change = Change {
            scopes: words.to_vec(),
            until: Some(Timestamp::UNIX_EPOCH),
            reason: Some("month end".into()),
            drill: Some(drill),
        };
        let record = Record {
            reason: Some("schema_violation"),
            request: Some("1"),
            scheme: Some("https"),
            cause: Some("it is broken"),
            client_port: Some(1),
            user_agent: Some(b"curl"),
            method: Some("GET"),
            status: Some(422),
            path: Some(b"/"),
            domain: Some(b"a"),
            consumer: Some("acme"),
            target: Some("acme-1"),
            change: Some(&change),
            roles: &words,
            tls_version: Some("1.3"),
            trace: Some((TraceId(0x4bf9), SpanId(0xf067))),
            api: Some("orders"),
            route: Some("GET /"),
            stage: Some("schema"),
            reports: true,
            would_refuse: &reported,
            organization: Some("acme-corp"),
            plan: Some("gold"),
            limit: Some(LimitFacts { name: "gold-day", used: Some((80, Timestamp::UNIX_EPOCH)) }),
            signal: SignalFacts { last_used: Some(Timestamp::UNIX_EPOCH), routes: Some(5) },
            credential: Some(CredentialFacts { kind: "jwt", id: Some("1"), issuer: Some("corp") }),
            scopes_required: &words,
            scopes_granted: &words,
            scopes_lent: &words,
            scopes_cut: &words,
            violations: &[violation],
            upstream: Some(UpstreamFields {
                server: "http://10.1.0.7:9000",
                duration: Some(Duration::ZERO),
                attempts: 2,
            }),
            ..sample()
        };
        let (mut written, described) = (BTreeSet::new(), FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect());
        let follows = Follows { stream: "a/1".into(), sequence: 3, torn: 5 };
        let checkpoint = CheckpointFacts {
            previous: Some("0"),
            key: "1",
            every: 60,
            next_key: Some("2"),
            reason: Some(KEY_CHANGED),
            signature: "3",
        };
        let mut lines = vec![line(&record)];
        for kind in [MarkKind::Started { follows: &follows }, MarkKind::Dropped(1), MarkKind::Checkpoint(checkpoint)] {
            let (mut unsealed, mut sealed) = (Vec::new(), Vec::new());
            let mark = Mark { at: Timestamp::UNIX_EPOCH, id: "1", kind };
            write_mark(&mut unsealed, &mark, "edge-1", &mut Clock::default());
            Chain::new("a/2", None).seal(&unsealed, &mut sealed);
            lines.push(sealed);
        }
        for line in lines {
            paths(&serde_json::from_slice(&line).unwrap(), "", &mut written);
        }
        assert_eq!(written, described);
    }
}
