use std::cell::RefCell;

use super::super::batches::{Batches, Trouble, Verdict};
use super::super::rejected::Rejected;
use super::*;

/// A sink that says `bad` of every part with one of these records, and takes the others.
struct Peer {
    bad: Vec<usize>,
    verdict: fn() -> Verdict,
    seen: RefCell<Vec<u64>>,
}

impl Peer {
    fn new(bad: impl IntoIterator<Item = usize>, verdict: fn() -> Verdict) -> Self {
        Self { bad: bad.into_iter().collect(), verdict, seen: RefCell::default() }
    }

    async fn deliver(&self, batches: &mut Batches, numbers: impl IntoIterator<Item = usize>) -> String {
        let send = async |part: Bytes| {
            self.seen.borrow_mut().push(lines::count(&part));
            let is_bad = |line: &[u8]| self.bad.iter().any(|bad| line == super::line(*bad).as_bytes());
            if lines::lines(&part).any(is_bad) { (self.verdict)() } else { Verdict::Taken }
        };
        told(&batches.deliver(batch(numbers), send).await)
    }

    /// How many requests there were, since this was asked last.
    fn requests(&self) -> usize {
        self.seen.take().len()
    }
}

fn batches(folder: &Path) -> Batches {
    Batches::new(Rejected::at(folder.join("rejected.jsonl")), 32 << 20)
}

fn refused() -> Verdict {
    Verdict::Refused("bad".to_owned())
}

fn again(patience: Option<u32>) -> Verdict {
    Verdict::Again(Trouble { failure: Failure::new("403"), patience })
}

#[tokio::test]
async fn records_that_are_refused_are_found_by_halving() {
    for (bad, records, expected, most) in [
        (vec![], 1024, "done 0", 1),
        (vec![7], 1024, "done 1", 22),
        (vec![0, 1023], 1024, "done 2", 42),
        ((0..512).collect(), 1024, "done 512", 1100),
        // Whatever it is, it is not these records.
        ((0..3).collect(), 3, "failed no record is taken: bad", 5),
        (vec![0], 1, "failed no record is taken: bad", 1),
        ((0..1024).collect(), 1024, "failed no record is taken: bad", 32),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (mut batches, peer) = (batches(folder.path()), Peer::new(bad.clone(), refused));
        let mut delivery = peer.deliver(&mut batches, 0..records).await;
        if bad.len() == 512 {
            // The good ones are looked for from the other end.
            assert_eq!((delivery.as_str(), peer.requests()), ("failed no record is taken: bad", 32));
            delivery = peer.deliver(&mut batches, 0..records).await;
        }
        assert_eq!(delivery, expected);
        let requests = peer.requests();
        assert!(requests <= most, "{requests} for {} of {records}", bad.len());
        let expected: Vec<(u64, String)> = match delivery.starts_with("done") {
            true => bad.iter().map(|number| (*number as u64, "bad".to_owned())).collect(),
            false => Vec::new(),
        };
        assert_eq!(rejected(folder.path()), expected);
    }
}

#[tokio::test]
async fn a_record_that_a_firewall_refuses_holds_up_the_others_only_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let (mut batches, peer) = (batches(folder.path()), Peer::new([1], || again(Some(5))));
    for _ in 0..5 {
        // Alone, it may be the sink that takes nothing.
        assert_eq!((peer.deliver(&mut batches, [1]).await.as_str(), peer.requests()), ("failed 403", 1));
    }
    assert_eq!(peer.deliver(&mut batches, [1]).await, "failed 403");
    for _ in 0..4 {
        assert_eq!(peer.deliver(&mut batches, [1]).await, "failed 403");
    }
    // With what came meanwhile.
    assert_eq!(peer.deliver(&mut batches, 1..4).await, "done 1");
    assert_eq!(rejected(folder.path()), [(1, "403".to_owned())]);
    // The next one has its own time.
    let peer = Peer::new([5], || again(Some(5)));
    assert_eq!(peer.deliver(&mut batches, 5..8).await, "failed 403");
}

#[tokio::test]
async fn a_sink_that_takes_nothing_loses_nothing() {
    for patience in [None, Some(5)] {
        let folder = tempfile::tempdir().unwrap();
        let verdict = if patience.is_some() { || again(Some(5)) } else { || again(None) };
        let (mut batches, peer) = (batches(folder.path()), Peer::new(0..200, verdict));
        for _ in 0..23 {
            assert_eq!(peer.deliver(&mut batches, 0..200).await, "failed 403");
        }
        // Most deliveries are one request.
        let requests = peer.requests();
        assert_eq!(requests, if patience.is_some() { 19 + 4 * 32 } else { 23 });
        assert_eq!(rejected(folder.path()), []);
    }
}

#[tokio::test]
async fn a_full_file_of_rejected_records_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("rejected.jsonl")).unwrap();
    file.set_len(1 << 30).unwrap();
    let (mut batches, peer) = (batches(folder.path()), Peer::new([1], refused));
    assert_eq!(peer.deliver(&mut batches, 0..3).await, "done 1, not kept 1");
    assert_eq!(file.metadata().unwrap().len(), 1 << 30);
    // Somebody has looked at it.
    file.set_len(0).unwrap();
    assert_eq!(peer.deliver(&mut batches, 0..3).await, "done 1");
    assert_eq!(rejected(folder.path()), [(1, "bad".to_owned())]);
}
