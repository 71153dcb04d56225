use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;

use super::super::chain::Chain;
use super::super::chain::tests::unsealed;
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
    verify_on(Terms { keys: keys.to_vec(), expect, complete, ..Terms::default() }, text)
}

fn verify_on(terms: Terms, text: &[u8]) -> Result<Verified, Break> {
    let mut verifier = Verifier::new(terms);
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

/// Processes that share a file may begin one after the other, and while one goes on that both follow.
#[test]
fn several_streams_may_follow_one_wherever_its_lines_are() {
    let mut one = Sealed::new("a/1", None, None);
    one.records(2);
    let followed = one.last();
    let follower = |name| {
        let mut stream = Sealed::new(name, None, Some((followed.0.clone(), followed.1)));
        stream.records(1);
        stream.text()
    };
    let (two, three) = (follower("a/2"), follower("a/3"));
    let begun = one.text();
    one.records(1);
    let more = one.text()[begun.len()..].to_vec();
    for order in [[&begun, &two, &three, &more], [&begun, &two, &more, &three], [&begun, &more, &two, &three]] {
        let text = order.map(Vec::as_slice).concat();
        assert_eq!(verify(&text, &[], None).map(|verified| verified.streams.len()), Ok(3));
    }
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
        let mut run = Sealed::new(name, Some(key(1)), runs.last().map(Sealed::last));
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
        let end = [sealed.text(), lines_after(&sealed, &[(0, 0), (seconds, 0)])].concat();
        let broken = verify(&end, &[public(1)], None).err().map(|broken| broken.message);
        assert_eq!(broken.as_deref(), message);
    }
}

#[test]
fn a_request_may_take_longer_than_the_time_between_checkpoints() {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    sealed.records(1);
    sealed.checkpoint();
    let day = 86_400;
    let of_a_day = [sealed.text(), lines_after(&sealed, &[(0, day), (day, 1)])].concat();
    assert_eq!(verify(&of_a_day, &[public(1)], None).map(|verified| verified.streams[0].uncovered), Ok(2));
}

/// Lines that go on after others, each of a request that started then and took so many seconds.
fn lines_after(sealed: &Sealed, requests: &[(i64, i64)]) -> Vec<u8> {
    let (mut chain, mut out) = (Chain::new(&sealed.last().0.stream, None), Vec::new());
    chain.last = sealed.end();
    for (started, took) in requests {
        let time = Timestamp::from_second(1_795_000_000 + started).unwrap();
        let line = format!("{{\"@timestamp\":\"{time:.3}\",{}", &unsealed("x")[1..]);
        let line = line.replace("\"id\":", &format!("\"duration\":{},\"id\":", took * 1_000_000_000));
        chain.seal(line.as_bytes(), &mut out);
    }
    out
}

/// A stream that goes on after this one, with so many records.
fn next(before: &Sealed, name: &str, key: Option<Arc<CheckpointKey>>, records: u64) -> Sealed {
    let mut next = Sealed::new(name, key, Some(before.last()));
    next.records(records);
    next
}

/// The same stream, as somebody else goes on with it.
fn continued(before: &Sealed, key: Option<Arc<CheckpointKey>>, records: u64) -> Sealed {
    let mut more = Sealed::new(&before.last().0.stream, key, None);
    more.goes_on(before.end());
    more.records(records);
    more
}

fn texts(runs: &[&Sealed]) -> Vec<u8> {
    runs.iter().flat_map(|run| run.text()).collect()
}

/// What is wrong with these runs.
fn broken(runs: &[&Sealed], keys: &[PublicKey]) -> Option<String> {
    verify(&texts(runs), keys, None).err().map(|broken| broken.message)
}

/// A run with a checkpoint after its three records.
fn run() -> Sealed {
    let mut run = Sealed::new("a/1", Some(key(1)), None);
    run.records(3);
    run.checkpoint();
    run
}

#[test]
fn an_old_key_does_not_sign_after_the_next() {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    sealed.records(1);
    sealed.key(key(2));
    let replaced = format!("this checkpoint is signed with the key {}, which another has replaced", key(1).id());
    let mut more = continued(&sealed, Some(key(1)), 1);
    more.checkpoint();
    assert_eq!(broken(&[&sealed, &more], &[public(1)]), Some(replaced.clone()));
    // Nor in a stream that follows, also by way of another.
    let mut forged = next(&sealed, "a/2", Some(key(1)), 1);
    forged.checkpoint();
    assert_eq!(broken(&[&sealed, &forged], &[public(1)]), Some(replaced.clone()));
    let between = next(&sealed, "a/2", None, 1);
    let mut forged = next(&between, "a/3", Some(key(1)), 1);
    forged.checkpoint();
    assert_eq!(broken(&[&sealed, &between, &forged], &[public(1)]), Some(replaced.clone()));
    // A key that changed while the process was stopped is named by nobody, and replaces the one before all the same.
    let mut third = next(&sealed, "a/2", Some(key(3)), 1);
    third.checkpoint();
    assert_eq!(broken(&[&sealed, &third], &[public(1), public(3)]), None);
    let mut forged = next(&third, "a/3", Some(key(1)), 1);
    forged.checkpoint();
    assert_eq!(broken(&[&sealed, &third, &forged], &[public(1), public(3)]), Some(replaced));
}

#[test]
fn the_key_in_force_may_name_one_again_that_it_replaced() {
    let mut sealed = Sealed::new("a/1", Some(key(1)), None);
    sealed.records(1);
    sealed.key(key(2));
    sealed.records(1);
    sealed.key(key(1));
    let mut second = next(&sealed, "a/2", Some(key(1)), 1);
    second.checkpoint();
    assert_eq!(broken(&[&sealed, &second], &[public(1)]), None);
}

#[test]
fn nothing_comes_after_the_checkpoint_of_a_process_that_stopped() {
    let mut stopped = Sealed::new("a/1", Some(key(1)), None);
    stopped.records(3);
    stopped.stop();
    let message = "this line comes after the end of its stream: the line before says that its process stopped";
    let more = continued(&stopped, None, 1);
    assert_eq!(broken(&[&stopped, &more], &[public(1)]).as_deref(), Some(message));
    assert_eq!(broken(&[&stopped, &more], &[]).as_deref(), Some(message));
    assert_eq!(broken(&[&stopped, &next(&stopped, "a/2", None, 1)], &[public(1)]), None);
}

#[test]
fn nothing_unsigned_comes_after_the_line_that_the_next_stream_follows() {
    let one = run();
    let (more, mut two) = (continued(&one, None, 2), next(&one, "a/2", Some(key(1)), 1));
    let message =
        "no checkpoint signs the last 2 lines of the stream a/1, which ends with line 4 as the next stream says";
    // Whether they come before the next stream or after it, and whether that is signed or not.
    assert_eq!(broken(&[&one, &more, &two], &[public(1)]).as_deref(), Some(message));
    two.checkpoint();
    assert_eq!(broken(&[&one, &more, &two], &[public(1)]).as_deref(), Some(message));
    assert_eq!(broken(&[&one, &two, &more], &[public(1)]).as_deref(), Some(message));
    let forged = next(&more, "x/1", None, 1);
    assert_eq!(broken(&[&one, &two, &more, &forged], &[public(1)]).as_deref(), Some(message));
    assert_eq!(broken(&[&one, &more, &two], &[]), None, "without a key, only the chain is verified");
    // Two processes share a file: the first still signs.
    let mut shares = continued(&one, Some(key(1)), 2);
    shares.checkpoint();
    shares.records(1);
    assert_eq!(broken(&[&one, &two, &shares], &[public(1)]), None);
}

#[test]
fn a_stream_that_nobody_signs_is_at_the_end_or_invented() {
    let one = run();
    let mut two = next(&one, "a/2", Some(key(1)), 1);
    two.checkpoint();
    let mut invented = Sealed::new("x/1", None, None);
    invented.records(1);
    let is = |why: &str| Some(format!("no checkpoint signs the stream x/1, and {why}"));
    let alone = is("it neither follows a signed stream nor ends the record");
    assert_eq!(broken(&[&one, &invented, &two], &[public(1)]), alone);
    assert_eq!(
        broken(&[&one, &next(&one, "x/1", None, 1), &two], &[public(1)]),
        is("another stream follows the same one")
    );
    assert_eq!(
        broken(&[&one, &two, &next(&one, "x/1", None, 1)], &[public(1)]),
        is("another stream follows the same one")
    );
    let mut goes_on = continued(&one, Some(key(1)), 1);
    goes_on.checkpoint();
    let forged = next(&one, "x/1", None, 1);
    assert_eq!(broken(&[&one, &forged, &goes_on], &[public(1)]), is("the stream that it follows goes on"));
}

#[test]
fn the_end_of_an_honest_record_need_not_be_signed_yet() {
    let (one, other) = (run(), {
        let mut other = Sealed::new("b/1", Some(key(1)), None);
        other.records(1);
        other.stop();
        other
    });
    let uncovered = |runs: &[&Sealed]| {
        let verified = verify(&texts(runs), &[public(1)], None).unwrap();
        verified.streams.iter().map(|stream| stream.uncovered).collect::<Vec<_>>()
    };
    // A process that runs; one that has just started for the first time; three that crashed soon after each other.
    assert_eq!(uncovered(&[&one, &continued(&one, None, 2)]), [2]);
    let mut new = Sealed::new("b/1", None, None);
    new.records(2);
    assert_eq!(uncovered(&[&one, &new]), [0, 2]);
    let two = next(&one, "a/2", None, 1);
    let three = next(&two, "a/3", None, 2);
    assert_eq!(uncovered(&[&one, &two, &three]), [0, 2, 3]);
    // Two nodes that were restarted one after the other.
    let again = next(&other, "b/2", None, 1);
    assert_eq!(uncovered(&[&one, &other, &again, &two]), [0, 2, 0, 2]);
    // A command shared the file with the process that crashed.
    let mut command = next(&one, "a/2", Some(key(1)), 1);
    command.stop();
    let mut shares = continued(&one, Some(key(1)), 1);
    shares.checkpoint();
    assert_eq!(uncovered(&[&one, &command, &shares, &next(&shares, "a/3", None, 1), &new]), [0, 0, 2, 2]);
    // The next checkpoint covers what is before it.
    let mut four = next(&three, "a/4", Some(key(1)), 1);
    four.checkpoint();
    assert_eq!(uncovered(&[&one, &two, &three, &four]), [0, 0, 0, 0]);
}

#[test]
fn a_part_of_a_record_may_lack_checkpoints() {
    let (one, mut middle) = (run(), Sealed::new("b/1", None, None));
    middle.records(2);
    let text = texts(&[&middle, &one]);
    let terms = |partial| Terms { keys: vec![public(1)], partial, ..Terms::default() };
    assert!(verify_on(terms(false), &text).is_err());
    assert_eq!(verify_on(terms(true), &text).unwrap().streams[1].uncovered, 2);
}

#[test]
fn all_must_be_signed_if_that_is_wanted() {
    let one = run();
    let strict = Terms { keys: vec![public(1)], strict: true, ..Terms::default() };
    assert!(verify_on(strict.clone(), &one.text()).is_ok());
    let message = "no checkpoint signs the last 2 lines of the stream a/1";
    let text = texts(&[&one, &continued(&one, None, 2)]);
    assert_eq!(verify_on(strict, &text).unwrap_err().message, message);
}
