use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;

use super::super::chain::tests::unsealed;
use super::super::chain::{Chain, Link};
use super::super::checkpoint_key::CheckpointKey;
use super::super::record::Follows;
use super::super::sealing::tests::Sealed;
use super::*;

/// A key of its own for each number.
pub(in crate::audit) fn key(number: u8) -> Arc<CheckpointKey> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap();
    let der = pair.to_pkcs8().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
    Arc::new(CheckpointKey::from_pem(&pem).unwrap())
}

fn public(number: u8) -> PublicKey {
    PublicKey::from_base64(key(number).public()).unwrap()
}

fn verify(text: &[u8], keys: &[PublicKey], expected: Option<&str>) -> Result<Verified, Break> {
    // With a checkpoint that must be there, the beginning must be, too.
    let (expect, complete) = (expected.map(str::to_owned), expected.is_some());
    let mut verifier = Verifier::new(Terms { keys: keys.to_vec(), expect, complete, partial: false });
    let mut lines = Lines::new(text);
    while let Some(line) = lines.next().unwrap() {
        if let LineRead::Whole(line) = line {
            verifier.line(line)?;
        }
    }
    verifier.finish()
}

/// Forty records with a checkpoint after each ten, and the hash of the last.
fn signed() -> (Vec<u8>, String) {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    for _ in 0..4 {
        sealed.records(10);
        sealed.checkpoint();
    }
    let hash = SealedLine::parse(sealed.lines().last().unwrap()).unwrap().hash;
    (sealed.text(), String::from_utf8(hash.to_vec()).unwrap())
}

#[test]
fn what_was_written_holds() {
    let (text, last) = signed();
    let stream = |uncovered| VerifiedStream { stream: "a/1".into(), first: 1, last: 44, uncovered };
    let verified =
        |uncovered| Verified { lines: 44, checkpoints: 4, torn: 0, ends_torn: false, streams: vec![stream(uncovered)] };
    assert_eq!(verify(&text, &[public(1)], Some(&last)), Ok(verified(0)));
    assert_eq!(verify(&text, &[], None), Ok(verified(44)), "without a key, only the chain is verified");
    // A part of a record, as after a rotation.
    let middle = text.split_inclusive(|byte| *byte == b'\n').skip(15).collect::<Vec<_>>().concat();
    let verified = verify(&middle, &[public(1)], None).unwrap();
    assert_eq!((verified.lines, verified.streams[0].first, verified.streams[0].uncovered), (29, 16, 0));
}

#[test]
fn breaks_are_described() {
    let (text, last) = signed();
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |range: std::ops::Range<usize>| [&lines[..range.start], &lines[range.end..]].concat().concat();
    let changed = String::from_utf8(text.clone()).unwrap().replacen("203.0.113.255", "203.0.113.254", 1).into_bytes();
    let swapped = [&lines[..3], &[lines[4], lines[3]], &lines[5..]].concat().concat();
    let doubled = [&lines[..5], &[lines[4]], &lines[5..]].concat().concat();
    let foreign = [&lines[..5], &[b"{}\n".as_slice()], &lines[5..]].concat().concat();
    for (text, keys, expected, message) in [
        (changed, vec![], None, "this line was changed: its hash is another"),
        (without(7..8), vec![], None, "a line is missing before this one"),
        (without(7..10), vec![], None, "3 lines are missing before this one"),
        (swapped, vec![], None, "a line is missing before this one"),
        (doubled, vec![], None, "this line is out of place: it came before, or was moved"),
        (foreign, vec![], None, NO_PLACE),
        (without(40..44), vec![], Some(&*last), &format!("the checkpoint with the hash {last} is missing")),
        (
            text.clone(),
            vec![public(2)],
            None,
            &format!(
                "this checkpoint is signed with the key {}, which is neither given nor named by a checkpoint",
                key(1).id()
            ),
        ),
        (lines[..9].concat(), vec![public(1)], None, "no checkpoint signs any of these lines"),
    ] {
        assert_eq!(verify(&text, &keys, expected).unwrap_err().message, message);
    }
}

/// Seals lines again after a change, as somebody without the key can.
fn resealed(text: &[u8]) -> Vec<u8> {
    let (mut chain, mut out) = (Chain::new("a/1", None), Vec::new());
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = String::from_utf8(line.to_vec()).unwrap();
        let (facts, event) = text.split_once(",\"stream\":").unwrap();
        let event = &event[event.find("},\"event\":").unwrap()..event.rfind(",\"sequence\":").unwrap()];
        chain.seal(format!("{facts}\u{1}{event}\u{1}\n").as_bytes(), &mut out);
    }
    out
}

#[test]
fn resealing_is_exact() {
    let (text, _) = signed();
    assert_eq!(resealed(&text), text);
}

#[test]
fn ten_thousand_tamperings_are_found() {
    let (text, last) = signed();
    let (keys, lines): (_, Vec<&[u8]>) = ([public(1)], text.split_inclusive(|byte| *byte == b'\n').collect());
    // Numbers that look random, and are the same in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    for round in 0..10_000 {
        let mut edited: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
        let kind = round % 6;
        match kind {
            // A byte becomes another.
            0 => {
                let line = below(lines.len());
                let at = below(edited[line].len());
                edited[line][at] ^= 1 << below(8);
            }
            // Lines are removed.
            1 => {
                let start = below(lines.len());
                edited.drain(start..(start + 1 + below(5)).min(lines.len()));
            }
            // Two lines are exchanged.
            2 => {
                let (a, b) = (below(lines.len()), below(lines.len() - 1));
                edited.swap(a, if b < a { b } else { b + 1 });
            }
            // The end is cut.
            3 => {
                let text = edited.concat();
                edited = vec![text[..below(text.len() - 1)].to_vec()];
            }
            // A line is added.
            4 => {
                let line = edited[below(lines.len())].clone();
                edited.insert(below(lines.len()), line);
            }
            // A line is changed, and the chain is made again.
            _ => {
                let line = below(lines.len() - 1);
                edited[line] =
                    String::from_utf8(edited[line].clone()).unwrap().replacen("\"node\"", "\"made\"", 1).into();
                edited = vec![resealed(&edited.concat())];
            }
        }
        let edited = edited.concat();
        assert!(edited == text || verify(&edited, &keys, Some(&last)).is_err(), "round {round}, kind {kind}");
    }
}

#[test]
fn the_next_key_is_trusted_if_the_last_one_names_it() {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    sealed.records(3);
    sealed.key(key(2));
    sealed.records(3);
    sealed.checkpoint();
    let text = sealed.text();
    assert_eq!(verify(&text, &[public(1)], None).unwrap().streams[0].uncovered, 0);
    assert!(verify(&text, &[public(2)], None).unwrap_err().message.contains(key(1).id()));
    assert_eq!(verify(&text, &[public(2), public(1)], None).unwrap().checkpoints, 2);
    // Somebody who has only the next key cannot sign in its name before.
    let mut forged = Sealed::new("a/1", Some(key(3)), None);
    forged.records(3);
    forged.key(key(2));
    assert!(verify(&forged.text(), &[public(1)], None).is_err());
}

#[test]
fn streams_follow_each_other_and_may_be_mixed() {
    let mut one = Sealed::new("a/1", None, None);
    one.records(3);
    let last = SealedLine::parse(one.lines().last().unwrap()).unwrap().hash;
    let follow = |after, torn| Some((Follows { stream: "a/1".into(), sequence: after, torn }, last));
    let mut two = Sealed::new("a/2", None, follow(3, 0));
    two.records(2);
    let both = [one.text(), two.text()].concat();
    assert_eq!(verify(&both, &[], None).unwrap().streams.len(), 2);
    // The end of the first is gone, then all of it.
    let lines: Vec<&[u8]> = both.split_inclusive(|byte| *byte == b'\n').collect();
    let cut = [&lines[..2], &lines[3..]].concat().concat();
    let message = "the end of the stream a/1 is missing: its last line here is 2, and the next stream says 3";
    assert_eq!(verify(&cut, &[], None).unwrap_err().message, message);
    assert_eq!(verify(&lines[3..].concat(), &[], None).unwrap().lines, 3);
    assert_eq!(verify(&lines[2..3].concat(), &[], None).unwrap().lines, 1);
    let headless = [&lines[..3], &lines[4..]].concat().concat();
    assert_eq!(verify(&headless, &[], None).unwrap_err().message, "the stream a/2 lacks its first 1 lines");
    // A line that the end of a process cut is no break, if the next stream says so.
    let mut three = Sealed::new("a/3", None, follow(3, 7));
    three.records(1);
    let torn = [one.text(), b"{\"@times\n".to_vec(), three.text()].concat();
    assert_eq!(verify(&torn, &[], None).map_err(|broken| broken.message), Err(NO_PLACE.to_owned()));
    let torn = [one.text(), b"{\"@time\n".to_vec(), three.text()].concat();
    assert_eq!(verify(&torn, &[], None).unwrap().torn, 1);
}

/// Three runs, each with a signature.
fn three_runs() -> Vec<Sealed> {
    let mut runs: Vec<Sealed> = Vec::new();
    for name in ["a/1", "a/2", "a/3"] {
        let follows = runs.last().map(|run| {
            let last = SealedLine::parse(run.lines().last().unwrap()).unwrap();
            (Follows { stream: last.stream.into(), sequence: last.sequence, torn: 0 }, last.hash)
        });
        let mut run = Sealed::new(name, Some(key(1)), follows);
        run.records(3);
        run.checkpoint();
        run.records(2);
        runs.push(run);
    }
    runs
}

#[test]
fn a_signature_covers_the_streams_before_it_and_none_of_them_can_go() {
    let runs = three_runs();
    let text = |runs: &[&Sealed]| runs.iter().flat_map(|run| run.text()).collect::<Vec<u8>>();
    let [one, two, three] = [&runs[0], &runs[1], &runs[2]];
    let verified = verify(&text(&[one, two, three]), &[public(1)], None).unwrap();
    let uncovered: Vec<u64> = verified.streams.iter().map(|stream| stream.uncovered).collect();
    assert_eq!(uncovered, [0, 0, 2], "the end of the last run alone is not signed");
    // What somebody adds to a stream that another one follows is in nobody's hash.
    let mut longer = one.text();
    let mut added = Sealed::new("a/1", None, None);
    let last = SealedLine::parse(one.lines().last().unwrap()).unwrap();
    added.goes_on(Link { sequence: last.sequence, hash: Some(last.hash) });
    added.records(2);
    longer.extend(added.text());
    longer.extend(text(&[two, three]));
    let verified = verify(&longer, &[public(1)], None).unwrap();
    let uncovered: Vec<u64> = verified.streams.iter().map(|stream| stream.uncovered).collect();
    assert_eq!(uncovered, [2, 0, 2]);
    let mut forged = Sealed::new("a/1", None, None);
    forged.records(7);
    let mut invented = Sealed::new("x/1", None, None);
    invented.records(1);
    let empty: &[&Sealed] = &[];
    for (lines, message) in [
        (text(&[one, three]), "the stream a/2 is missing, which this one follows"),
        (text(&[&forged, two]), "line 6 of the stream a/1 is not the one that this stream follows"),
        (text(empty), "no checkpoint signs any of these lines"),
        (text(&[&invented]), "no checkpoint signs any of these lines"),
    ] {
        assert_eq!(verify(&lines, &[public(1)], None).unwrap_err().message, message);
    }
}

#[test]
fn no_more_may_be_unsigned_than_until_the_next_checkpoint_is_due() {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    sealed.records(1);
    sealed.checkpoint();
    // Somebody made the rest again, without the checkpoints.
    for (seconds, message) in [
        (60, None),
        (61, Some("no checkpoint signs the last 2 lines of the stream a/1, over 61s; it should after 60s")),
    ] {
        let mut end = sealed.text();
        let mut chain = Chain::new("a/1", None);
        chain.last = Link { sequence: 2, hash: Some(SealedLine::parse(sealed.lines().last().unwrap()).unwrap().hash) };
        for at in [0, seconds] {
            let time = Timestamp::from_second(1_795_000_000 + at).unwrap();
            let line = format!("{{\"@timestamp\":\"{time:.3}\",{}", &unsealed("x")[1..]);
            chain.seal(line.as_bytes(), &mut end);
        }
        let broken = verify(&end, &[public(1)], None).err().map(|broken| broken.message);
        assert_eq!(broken.as_deref(), message);
    }
}

#[test]
fn an_old_key_does_not_sign_after_the_next() {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    sealed.records(1);
    sealed.key(key(2));
    let text = sealed.text();
    let mut chain = Chain::new("a/1", None);
    let last = SealedLine::parse(sealed.lines().last().unwrap()).unwrap();
    chain.last = Link { sequence: last.sequence, hash: Some(last.hash) };
    let mut again = Sealed::new("a/1", Some(key(1)), None);
    again.goes_on(chain.last);
    again.records(1);
    again.checkpoint();
    let forged = [text, again.text()].concat();
    let message = format!("this checkpoint is signed with the key {}, which another has replaced", key(1).id());
    assert_eq!(verify(&forged, &[public(1)], None).unwrap_err().message, message);
}
