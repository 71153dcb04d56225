//! The record leaves the machine, its chain is signed, and it shows that revocation works.

use crate::audit::SinkConfig;
use crate::cli::output::counted;
use crate::cli::ready::drills::{Drill, RecordFacts};
use crate::cli::ready::facts::Facts;
use crate::cli::ready::item::{Check, Finding, Item};
use crate::policy::Access;
use crate::policy::source::quote;

const LEAVES: Check = Check("record_leaves", "The record leaves the machine");
const SIGNED: Check = Check("record_signed", "The chain of the record is signed");
const DRILLED: Check = Check("revocation_drilled", "Revocation was drilled since authentication last changed");

/// Standard output and files stay on the machine, as far as the policy says.
pub(super) fn leaves(facts: &Facts<'_>) -> Item {
    let sinks = &facts.policy.audit().sinks;
    let is_far = |sink: &&SinkConfig| !matches!(sink, SinkConfig::Stdout { .. } | SinkConfig::File { .. });
    let far = sinks.iter().filter(is_far).count();
    let finding = (far == 0).then(|| {
        let message = match sinks.is_empty() {
            true => "there is no record",
            false => "the record is only on this machine, where an intruder can remove it",
        };
        Finding::new(message, "add a sink over the network under `audit`: `elasticsearch`, `otlp`, `syslog` or `http`")
            .at(facts.at.key("audit").key_place())
    });
    let evidence = format!("{}, {far} of them over the network", counted(sinks.len(), "sink"));
    LEAVES.judged(evidence, finding.into_iter().collect())
}

/// Without a signature, somebody who can write the record can compute its whole chain again.
pub(super) fn signed(facts: &Facts<'_>) -> Item {
    match &facts.policy.audit().chain.key {
        Some(key) => SIGNED.judged(format!("checkpoints are signed with the key {}", key.id()), Vec::new()),
        None => {
            let help = "write `chain: { key: FILE }` or `chain: { transit: transit/KEY }` under `audit`";
            let finding = Finding::new("no key signs checkpoints", help);
            SIGNED.judged("no key", vec![finding.at(facts.at.key("audit").key_place())])
        }
    }
}

/// The last drill under what the policy now says about authentication counts.
pub(super) fn drilled(facts: &Facts<'_>) -> Item {
    if facts.routes().all(|route| matches!(route.access, Access::Public)) {
        return DRILLED.not_applicable("every route is public, so there is nothing to revoke");
    }
    let record = match &facts.record {
        Ok(record) => record,
        Err(why) => return DRILLED.not_looked_at(why.clone()),
    };
    let evidence = format!("{} in {}", counted(record.lines, "line"), counted(record.files, "record file"));
    let place = facts.at.key("auth").key_place();
    match shown(record, facts.policy.auth_digest()) {
        Ok(drill) => {
            let Drill { at, by, nodes, .. } = drill;
            let nodes = counted(usize::try_from(*nodes).unwrap_or_default(), "node");
            DRILLED.judged(format!("drilled at {at} by {} on {nodes}; the line is signed", quote(by)), Vec::new())
        }
        Err((message, help)) => DRILLED.judged(evidence, vec![Finding::new(message, help).at(place)]),
    }
}

/// The drill that shows that revocation works, or what is wrong and what to do.
fn shown<'r>(record: &'r RecordFacts, auth: &str) -> Result<&'r Drill, (String, &'static str)> {
    const DRILL: &str = "run `bartizan drill revocation` against the running nodes";
    if let Some(broken) = &record.broken {
        return Err((format!("the record cannot be relied on: {broken}"), "run `bartizan audit verify` to see where"));
    }
    if !record.has_key {
        let why = "there is no key to verify the record with, so its lines prove nothing".to_owned();
        return Err((why, "give the public key of its checkpoints with --public-key"));
    }
    let last = |drills: &mut dyn Iterator<Item = &'r Drill>| drills.max_by_key(|drill| drill.at);
    let current = last(&mut record.drills.iter().filter(|drill| *drill.auth == *auth));
    match (current, last(&mut record.drills.iter())) {
        (Some(drill), _) if !drill.passed => Err((format!("the drill at {} failed", drill.at), DRILL)),
        (Some(drill), _) if !drill.signed => {
            let why = format!("no checkpoint has signed the drill at {} yet", drill.at);
            Err((why, "wait for the next checkpoint (`audit.chain.checkpoint`)"))
        }
        (Some(drill), _) => Ok(drill),
        (None, Some(old)) => Err((
            format!("what `auth`, `store` and `token_service` say has changed since the drill at {}", old.at),
            DRILL,
        )),
        (None, None) => Err(("the record has no drill".to_owned(), DRILL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_drill_of_this_authentication_counts_if_it_is_signed() {
        let drill = |at: &str, auth: &str, passed, signed| Drill {
            at: at.parse().unwrap(),
            auth: auth.to_owned(),
            by: "ada".to_owned(),
            nodes: 2,
            passed,
            signed,
        };
        let (early, late) = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z");
        for (drills, expected) in [
            (vec![], Err("the record has no drill")),
            (vec![drill(early, "a", true, true)], Ok(early)),
            (vec![drill(late, "a", true, true), drill(early, "a", false, true)], Ok(late)),
            (vec![drill(early, "a", true, true), drill(late, "a", false, true)], Err("failed")),
            (vec![drill(early, "a", true, false)], Err("no checkpoint has signed")),
            (vec![drill(early, "b", true, true)], Err("has changed since the drill at 2026-11-01")),
            (vec![drill(early, "a", true, true), drill(late, "b", true, true)], Ok(early)),
        ] {
            let record = RecordFacts { files: 1, lines: 9, has_key: true, broken: None, drills };
            match (shown(&record, "a"), expected) {
                (Ok(drill), Ok(at)) => assert_eq!(drill.at.to_string(), at),
                (Err((message, _)), Err(part)) => assert!(message.contains(part), "{message}"),
                (shown, expected) => panic!("{shown:?} {expected:?}"),
            }
            let unverified = RecordFacts { has_key: false, ..record };
            assert!(shown(&unverified, "a").is_err());
            let broken = RecordFacts { has_key: true, broken: Some("a:1: moved".to_owned()), ..unverified };
            assert!(shown(&broken, "a").unwrap_err().0.contains("a:1: moved"));
        }
    }
}
