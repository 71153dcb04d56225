use super::super::chain::Chain;
use super::super::chain::tests::{names, unsealed};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;

/// Large enough for all tests but those that fill it.
const SIZE: u64 = 1 << 30;

/// A spool with a chain, as the sealer has them.
struct Sealed {
    appender: Appender,
    chain: Chain,
}

impl Sealed {
    fn open(folder: &Path, run: &str) -> (Self, Found) {
        let Opened { appender, last, torn } = open(folder).unwrap();
        let last = last.map(|(stream, sequence, _)| (stream, sequence));
        (Self { appender, chain: Chain::new(run, None) }, Found { last, torn })
    }

    fn spool(&self) -> &Arc<Spool> {
        self.appender.spool()
    }

    /// Appends a line for each name.
    fn append(&mut self, names: &[&str]) -> Result<(), AppendError> {
        let mut out = Vec::new();
        let last = self.chain.last;
        self.chain.seal(names.iter().map(|name| unsealed(name)).collect::<String>().as_bytes(), &mut out);
        let appended = self.appender.append(&out.into(), names.len() as u64, SIZE);
        if appended.is_err() {
            self.chain.last = last;
        }
        appended
    }
}

struct Found {
    last: Option<(Box<str>, u64)>,
    torn: u64,
}

/// A reader for a sink that is in force beside those that are.
fn reader(spool: &Arc<Spool>, sink: &str) -> Reader {
    let mut sinks: Vec<_> = spool.lock().cursors.values().map(|entry| sink_of(&entry.cursor.sink)).collect();
    sinks.push(sink_of(sink));
    spool.settle(&sinks, later()).unwrap();
    Reader::new(spool, sink, Duration::ZERO, || true).unwrap()
}

/// Longer than any test waits for anything.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A sink whose kind is its name up to the dash.
fn sink_of(name: &str) -> SpooledSink {
    SpooledSink { name: name.to_owned(), kind: name.split('-').next().unwrap().to_owned() }
}

/// The spool after a restart, and the reader of a sink.
fn restarted(folder: &Path, sink: &str) -> (Sealed, Reader) {
    let (sealed, _) = Sealed::open(folder, "a/again");
    sealed.spool().settle(&[sink_of(sink)], later()).unwrap();
    let reader = Reader::new(sealed.spool(), sink, Duration::ZERO, || true).unwrap();
    (sealed, reader)
}

/// A spool, and the reader of a sink that has all lines, of which its cursor does not know yet.
fn delivered(folder: &Path) -> (Sealed, Reader) {
    let (mut sealed, _) = Sealed::open(folder, "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    sealed.append(&["1", "2"]).unwrap();
    assert_eq!(taken(&mut sink, 1), ["1", "2"]);
    sink.delivered();
    (sealed, sink)
}

/// Keeps the cursor of a sink from being written, until this folder is removed.
fn block(folder: &Path, sink: &str) -> std::path::PathBuf {
    let blocked = folder.join(format!("{}.cursor.next", cursor::name(sink)));
    fs::create_dir(&blocked).unwrap();
    blocked
}

/// Takes everything that is there.
fn taken(reader: &mut Reader, most: usize) -> Vec<String> {
    let mut all = Vec::new();
    while let Taken::Lines(lines, count) = reader.take(most, true).unwrap() {
        let lines = names(&lines);
        assert_eq!(lines.len() as u64, count);
        all.extend(lines);
    }
    all
}

#[test]
fn each_sink_gets_every_line_once_at_its_own_pace() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let (mut fast, mut slow) = (reader(sealed.spool(), "fast"), reader(sealed.spool(), "slow"));
    sealed.append(&["1", "2"]).unwrap();
    assert_eq!(taken(&mut fast, 1), ["1", "2"], "at least one line is taken, however little is asked for");
    fast.delivered();
    sealed.append(&["3"]).unwrap();
    assert_eq!(
        (taken(&mut slow, 1 << 20), taken(&mut fast, 1 << 20)),
        (vec!["1".into(), "2".into(), "3".into()], vec!["3".to_owned()])
    );
    assert_eq!((fast.left(), slow.left(), sealed.spool().left("fast")), (1, 3, 1), "until it is delivered");
    fast.delivered();
    assert_eq!(fast.left(), 0);
}

#[test]
fn a_place_outlives_the_process_and_what_was_not_delivered_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
        let mut sink = reader(sealed.spool(), "sink");
        sealed.append(&["1", "2"]).unwrap();
        taken(&mut sink, 1 << 20);
        sink.delivered();
        sealed.append(&["3"]).unwrap();
        taken(&mut sink, 1 << 20);
        assert!(open(folder.path()).is_err(), "another process is kept out");
    }
    let (mut sealed, opened) = Sealed::open(folder.path(), "a/2");
    assert_eq!((opened.last, opened.torn), (Some(("a/1".into(), 3)), 0));
    sealed.append(&["4"]).unwrap();
    let mut sink = reader(sealed.spool(), "sink");
    assert_eq!(taken(&mut sink, 1 << 20), ["3", "4"]);
    // A sink that comes later starts with the lines that come after it.
    let mut later = reader(sealed.spool(), "later");
    sealed.append(&["5"]).unwrap();
    assert_eq!(taken(&mut later, 1 << 20), ["5"]);
}

#[test]
fn the_place_of_a_sink_stays_before_what_may_not_have_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    // The lines of each delivery, how many may not have arrived after it, and how many are therefore left.
    for (names, unconfirmed) in [(&["one", "two"][..], 2), (&["three"], 3), (&["four"], 2)] {
        sealed.append(names).unwrap();
        assert_eq!(taken(&mut sink, 1 << 20), names);
        sink.sent(unconfirmed);
        assert_eq!((sink.left(), sealed.spool().left("sink")), (unconfirmed, 0), "all is on its way");
    }
    drop(sink);
    let mut sink = reader(sealed.spool(), "sink");
    assert_eq!(
        (sealed.spool().left("sink"), taken(&mut sink, 1 << 20)),
        (2, vec!["three".to_owned(), "four".to_owned()])
    );
    sink.sent(2);
    sink.confirmed();
    assert_eq!(sink.left(), 0);
}

#[test]
fn a_torn_end_is_cut() {
    // What a machine that stops leaves: a piece of a line, blocks of zeros, a line that was written in part, and all of it.
    let whole = {
        let (mut chain, mut out) = (Chain::new("a/1", None), Vec::new());
        chain.seal((unsealed("1") + &unsealed("2")).as_bytes(), &mut out);
        out
    };
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let zeros = [whole.as_slice(), &[0; 100]].concat();
    let hole = [&whole[..first], &[0; 50], &whole[first + 50..]].concat();
    // Blocks come to the disk in any order.
    let island = [&vec![0; first - 1], &b"\n"[..], &whole[first..]].concat();
    for (text, lines) in [
        (whole.clone(), 2),
        (whole[..whole.len() - 1].to_vec(), 1),
        (whole[..first + 10].to_vec(), 1),
        (whole[..10].to_vec(), 0),
        (zeros, 2),
        (hole, 1),
        (island, 0),
        (b"\n\n\n".to_vec(), 0),
        (Vec::new(), 0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{:020}.jsonl", 7)), &text).unwrap();
        let (mut sealed, opened) = Sealed::open(folder.path(), "a/2");
        assert_eq!(opened.last.map_or(0, |(_, sequence)| sequence), lines);
        let kept = if lines == 2 { whole.len() } else { first * usize::try_from(lines).unwrap() };
        assert_eq!(opened.torn, (text.len() - kept) as u64);
        assert_eq!(sealed.spool().end(), 7 + lines);
        // A cursor of lines that are not there any more, and one that cannot be read.
        let mut sink = reader(sealed.spool(), "sink");
        sealed.append(&["3"]).unwrap();
        assert_eq!(taken(&mut sink, 1 << 20), ["3"]);
    }
}

/// A process may end between the cut and the first line that says so.
#[test]
fn what_was_cut_is_told_until_a_line_follows() {
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join(format!("{:020}.jsonl", 0));
    let tear = |bytes: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(&segment).unwrap();
        std::io::Write::write_all(&mut file, bytes.as_bytes()).unwrap();
    };
    let torn = |run: &str| Sealed::open(folder.path(), run).1.torn;
    drop(Sealed::open(folder.path(), "a/1").0.append(&["1"]));
    for (bytes, expected) in [("{\"half", 6), ("", 6), ("more", 10), ("", 10)] {
        tear(bytes);
        assert_eq!(torn("a/2"), expected, "{bytes}");
    }
    // The line that follows has the mark.
    drop(Sealed::open(folder.path(), "a/3").0.append(&["2"]));
    assert_eq!((torn("a/4"), torn("a/4")), (0, 0));
    tear("{");
    assert_eq!((torn("a/5"), torn("a/6")), (1, 1));
}

#[test]
fn what_was_cut_at_an_earlier_start_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = |end: &str| folder.path().join(format!("{:020}.{end}", 0));
    drop(Sealed::open(folder.path(), "a/1").0.append(&["1"]));
    for torn in ["first", "2nd"] {
        let mut segment = fs::OpenOptions::new().append(true).open(file("jsonl")).unwrap();
        std::io::Write::write_all(&mut segment, torn.as_bytes()).unwrap();
        drop(Sealed::open(folder.path(), "a/2"));
    }
    let kept = ["cut", "2.cut"].map(|end| fs::read_to_string(file(end)).unwrap());
    assert_eq!(kept, ["first", "2nd"]);
}

/// What takes every write, and cannot be synced.
fn no_disk() -> fs::File {
    fs::File::options().read(true).write(true).open("/dev/null").unwrap()
}

#[test]
fn what_a_failed_sync_may_have_lost_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    sealed.append(&["1"]).unwrap();
    sealed.appender.sync().unwrap();
    let disk = sealed.appender.put_file(no_disk());
    sealed.append(&["2"]).unwrap();
    sealed.append(&["3"]).unwrap();
    assert!(sealed.appender.sync().is_err() && sealed.appender.sync().is_err());
    sealed.appender.put_file(disk);
    sealed.appender.sync().unwrap();
    let segment = fs::read(folder.path().join(format!("{:020}.jsonl", 0))).unwrap();
    assert_eq!(names(&segment), ["1", "2", "3"]);
}

#[test]
fn what_is_neither_in_memory_nor_on_disk_stays_an_error() {
    for (stale, why) in [("", "failed to fill whole buffer"), ("\0", "are lost")] {
        let folder = tempfile::tempdir().unwrap();
        let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
        let disk = sealed.appender.put_file(no_disk());
        sealed.append(&["1"]).unwrap();
        assert!(sealed.appender.sync().is_err());
        // The memory has gone on to other lines.
        sealed.spool().lock().recent.clear();
        sealed.appender.put_file(disk);
        fs::write(folder.path().join(format!("{:020}.jsonl", 0)), stale.repeat(1000)).unwrap();
        for _ in 0..2 {
            let error = sealed.appender.sync().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

#[test]
fn a_sink_that_was_moved_begins_where_the_former_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut former = reader(sealed.spool(), "file-a");
    sealed.append(&["1", "2"]).unwrap();
    assert_eq!(taken(&mut former, 1 << 20), ["1", "2"]);
    // While it writes them, a reload gives it another name.
    sealed.spool().settle(&[sink_of("file-b")], later()).unwrap();
    let spool = Arc::clone(sealed.spool());
    let heir = std::thread::spawn(move || Reader::new(&spool, "file-b", Duration::ZERO, || true).unwrap());
    former.delivered();
    drop(former);
    sealed.append(&["3"]).unwrap();
    assert_eq!(taken(&mut heir.join().unwrap(), 1 << 20), ["3"]);
}

#[test]
fn a_sink_that_was_moved_twice_waits_for_the_first_place() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut first = reader(sealed.spool(), "file-a");
    sealed.append(&["1", "2"]).unwrap();
    assert_eq!(taken(&mut first, 1 << 20), ["1", "2"]);
    for sink in ["file-b", "file-c"] {
        sealed.spool().settle(&[sink_of(sink)], later()).unwrap();
    }
    let spool = Arc::clone(sealed.spool());
    let heir = std::thread::spawn(move || Reader::new(&spool, "file-c", Duration::ZERO, || true).unwrap());
    while sealed.spool().lock().wanted.is_empty() {
        std::thread::yield_now();
    }
    first.delivered();
    drop(first);
    sealed.append(&["3"]).unwrap();
    assert_eq!(taken(&mut heir.join().unwrap(), 1 << 20), ["3"]);
}

#[test]
fn a_sink_that_was_moved_does_not_wait_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut former = reader(sealed.spool(), "file-a");
    sealed.append(&["1", "2"]).unwrap();
    taken(&mut former, 1);
    sealed.spool().settle(&[sink_of("file-b")], Instant::now()).unwrap();
    let mut heir = Reader::new(sealed.spool(), "file-b", Duration::ZERO, || true).unwrap();
    assert_eq!(taken(&mut heir, 1 << 20), ["1", "2"], "doubled is better than lost");
    heir.delivered();
    // What the former one has got at last changes nothing.
    drop(former);
    assert_eq!(heir.left(), 0);
}

#[test]
fn a_sink_that_a_reload_takes_away_before_its_thread_runs_has_its_lines_or_an_heir() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let spool = Arc::clone(sealed.spool());
    let open = ["file-a", "syslog-b"].map(|sink| Wanted::new(&spool, sink));
    spool.settle(&[sink_of("file-a"), sink_of("syslog-b")], later()).unwrap();
    sealed.append(&["1"]).unwrap();
    spool.settle(&[sink_of("file-c")], later()).unwrap();
    assert_eq!(["file-a", "syslog-b", "file-c"].map(|sink| spool.has_heir(sink)), [true, false, false]);
    // A sink that has an heir gets nothing, and waits until it is told to end.
    let looked = AtomicU64::new(0);
    let had = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let once = || looked.fetch_add(1, Relaxed) == 0;
            Reader::new(&spool, "file-a", Duration::ZERO, once).is_some()
        });
        while looked.load(Relaxed) < 2 {
            spool.wake();
            std::thread::yield_now();
        }
        reader.join().unwrap()
    });
    assert!(!had);
    for sink in ["syslog-b", "file-c"] {
        assert_eq!(taken(&mut Reader::new(&spool, sink, Duration::ZERO, || true).unwrap(), 1 << 20), ["1"], "{sink}");
    }
    drop(open);
    assert_eq!(spool.lock().cursors.len(), 1);
}

#[test]
fn damaged_cursors_double_and_do_not_lose() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
        let (mut one, mut two) = (reader(sealed.spool(), "one"), reader(sealed.spool(), "two"));
        sealed.append(&["1", "2"]).unwrap();
        for sink in [&mut one, &mut two] {
            taken(sink, 1 << 20);
            sink.delivered();
        }
    }
    let path = |sink| folder.path().join(format!("{}.cursor", cursor::name(sink)));
    fs::write(path("one"), "{\"sink\":\"one\"").unwrap();
    fs::write(path("two"), r#"{"sink":"two","kind":"two","line":900,"segment":800,"offset":5}"#).unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/2");
    let spool = Arc::clone(sealed.spool());
    spool.settle(&[sink_of("one"), sink_of("two")], later()).unwrap();
    sealed.append(&["3"]).unwrap();
    let all = |sink: &str| taken(&mut Reader::new(&spool, sink, Duration::ZERO, || true).unwrap(), 1 << 20);
    assert_eq!((all("one"), all("two")), (vec!["1".to_owned(), "2".into(), "3".into()], vec!["3".to_owned()]));
}

#[test]
fn segments_are_removed_once_every_sink_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let (mut one, mut two) = (reader(sealed.spool(), "one"), reader(sealed.spool(), "two"));
    let long = "x".repeat(100_000);
    let count = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".jsonl")).count()
    };
    let mut out = Vec::new();
    sealed.chain.seal(unsealed(&long).as_bytes(), &mut out);
    let out = Bytes::from(out);
    let size = 8 * appender::SEGMENT.0;
    let mut appended = 0;
    while sealed.appender.append(&out, 1, size).is_ok() {
        appended += 1;
    }
    // It is full, and no larger than it may be.
    let bytes: u64 = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(appended > 70 && bytes <= size + 1000, "{appended} {bytes}");
    assert!(matches!(sealed.appender.append(&out, 1, size), Err(AppendError::Full)));
    assert_eq!(count(folder.path()), 8);
    let mut got = 0;
    for sink in [&mut one, &mut two] {
        while let Taken::Lines(lines, count) = sink.take(300_000, true).unwrap() {
            assert_eq!(lines.len() as u64, count * out.len() as u64);
            got += count;
            sink.delivered();
            sink.keep();
        }
    }
    // The last segment but one stays until what follows it is on disk.
    assert_eq!((got, count(folder.path())), (2 * appended, 2));
    sealed.appender.sync().unwrap();
    assert_eq!(count(folder.path()), 1);
    assert!(sealed.appender.append(&out, 1, size).is_ok());
    // A sink that is gone holds nothing up.
    drop(two);
    sealed.spool().settle(&[sink_of("one")], later()).unwrap();
    while sealed.appender.append(&out, 1, size).is_ok() {}
    while let Taken::Lines(..) = one.take(1 << 20, true).unwrap() {
        one.delivered();
        one.keep();
    }
    sealed.appender.sync().unwrap();
    assert_eq!(count(folder.path()), 1);
}

#[test]
fn what_comes_next_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    assert_eq!(sink.first().unwrap(), None);
    sealed.append(&["1", "2", "3"]).unwrap();
    assert_eq!(taken(&mut sink, 1 << 20), ["1", "2", "3"]);
    sink.delivered();
    sink.keep();
    sealed.append(&["4"]).unwrap();
    sealed.append(&["5"]).unwrap();
    assert_eq!(sink.first().unwrap(), Some(("a/1".into(), 4)));
    let last = sealed.chain.last.hash.unwrap();
    assert_eq!(sink.among(&[last, [b'0'; 64]].into()).unwrap(), [last].into());
    assert_eq!(taken(&mut sink, 1 << 20), ["4", "5"], "they come all the same");
    // What it has may not be on its disk.
    sink.delivered();
    assert!(sink.is_ahead() && !sink.is_doubtful());
    sink.go_back().unwrap();
    assert!(!sink.is_ahead() && sink.is_doubtful());
    assert_eq!(sink.first().unwrap(), Some(("a/1".into(), 4)));
    drop(sink);
    let mut next = Reader::new(sealed.spool(), "sink", Duration::ZERO, || true).unwrap();
    assert!(next.is_doubtful());
    assert_eq!(taken(&mut next, 1 << 20), ["4", "5"]);
    next.delivered();
    next.keep();
    assert!(!next.is_doubtful());
}

#[test]
fn a_reader_that_waits_for_its_predecessor_gets_its_place_although_the_sink_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let former = reader(sealed.spool(), "sink");
    sealed.append(&["1"]).unwrap();
    let spool = Arc::clone(sealed.spool());
    let next = std::thread::spawn(move || {
        let mut next = Reader::new(&spool, "sink", Duration::ZERO, || true).unwrap();
        taken(&mut next, 1 << 20)
    });
    while sealed.spool().lock().wanted.is_empty() {
        std::thread::yield_now();
    }
    sealed.spool().settle(&[], later()).unwrap();
    drop(former);
    assert_eq!(next.join().unwrap(), ["1"]);
    assert!(sealed.spool().lock().cursors.is_empty(), "it is forgotten after that");
}

#[test]
fn a_reader_waits_for_lines_for_a_call_and_for_its_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    let spool = Arc::clone(sealed.spool());
    let waiting = std::thread::spawn(move || (sink.take(1 << 20, false).unwrap(), sink));
    spool.wake();
    let (woken, mut sink) = waiting.join().unwrap();
    assert_eq!(woken, Taken::Nothing);
    let waiting = std::thread::spawn(move || (sink.take(1 << 20, false).unwrap(), sink));
    sealed.append(&["1"]).unwrap();
    let (got, sink) = waiting.join().unwrap();
    assert!(matches!(got, Taken::Lines(_, 1)));
    // The next reader of the same sink gets its place, and the lines that were not delivered.
    let next = std::thread::spawn(move || taken(&mut reader(&spool, "sink"), 1 << 20));
    drop(sink);
    assert_eq!(next.join().unwrap(), ["1"]);
}

#[test]
fn a_sink_with_other_settings_goes_on_where_the_one_of_its_kind_was() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let spool = Arc::clone(sealed.spool());
    spool.settle(&[sink_of("http-a"), sink_of("http-b"), sink_of("file-c")], later()).unwrap();
    sealed.append(&["1", "2"]).unwrap();
    // One of two gets another address; a syslog sink is new, and the file is gone.
    spool.settle(&[sink_of("http-x"), sink_of("http-b"), sink_of("syslog-d")], later()).unwrap();
    sealed.append(&["3"]).unwrap();
    let all = |sink: &str| taken(&mut Reader::new(&spool, sink, Duration::ZERO, || true).unwrap(), 1 << 20);
    assert_eq!(
        (all("http-x"), all("http-b"), all("syslog-d")),
        (
            vec!["1".to_owned(), "2".into(), "3".into()],
            vec!["1".to_owned(), "2".into(), "3".into()],
            vec!["3".to_owned()],
        )
    );
    let cursors = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(cursors.filter(|name| name.ends_with(".cursor")).count(), 3);
    // Nobody waits for a sink that never comes into force.
    assert!(Reader::new(&spool, "file-c", Duration::ZERO, || false).is_none());
}

#[test]
fn a_full_disk_has_room_again_once_every_sink_has_all_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    sealed.append(&["1", "2"]).unwrap();
    let next = |line| files::Position { line, segment: line, offset: 0 };
    assert!(!sealed.spool().start_over(next(2)), "the sink lacks lines");
    assert_eq!(taken(&mut sink, 1 << 20), ["1", "2"]);
    sink.delivered();
    // The appender does this when the system refuses a write.
    assert!(!sealed.appender.start_over(), "what the sink has may not be on its disk");
    assert!(!sealed.spool().segment(2).exists());
    sink.keep();
    assert!(sealed.appender.start_over());
    assert_eq!((sealed.spool().bytes(), sealed.spool().end()), (0, 2));
    assert_eq!(sink.take(1 << 20, true).unwrap(), Taken::Ended, "an empty segment is no error");
    sealed.append(&["3"]).unwrap();
    assert_eq!(taken(&mut sink, 1 << 20), ["3"]);
    sink.delivered();
    drop(sink);
    drop(sealed);
    let (sealed, opened) = Sealed::open(folder.path(), "a/2");
    assert_eq!((opened.last, sealed.spool().end()), (Some(("a/1".into(), 3)), 3));
}

/// On a full disk there may be no room for a cursor either, until what every sink has is removed.
#[test]
fn what_every_sink_has_makes_room_although_their_cursors_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, mut sink) = delivered(folder.path());
    let written = folder.path().join(format!("{}.cursor", cursor::name("sink")));
    let before = fs::read(&written).unwrap();
    let blocked = block(folder.path(), "sink");
    sink.keep();
    assert!(sealed.appender.start_over());
    assert_eq!((sealed.spool().bytes(), fs::read(&written).unwrap() == before), (0, true));

    // A crash now doubles what is there, and loses nothing.
    sealed.append(&["3"]).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in ["00000000000000000002.jsonl", written.file_name().unwrap().to_str().unwrap()] {
        fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let (_sealed, mut next) = restarted(copy.path(), "sink");
    assert_eq!(taken(&mut next, 1 << 20), ["3"]);

    // As soon as it can be written, it is.
    assert_eq!(taken(&mut sink, 1 << 20), ["3"]);
    sink.delivered();
    sink.keep();
    assert!(sink.is_ahead(), "it is not on disk");
    fs::remove_dir(&blocked).unwrap();
    sink.keep();
    assert!(!sink.is_ahead());
    drop(sink);
    drop(sealed);
    let (_sealed, mut sink) = restarted(folder.path(), "sink");
    assert_eq!(taken(&mut sink, 1 << 20), [""; 0]);
}

#[test]
fn a_cursor_that_cannot_be_written_keeps_no_other_from_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let blocked = block(folder.path(), "a-1");
    assert!(sealed.spool().settle(&[sink_of("a-1"), sink_of("b-2")], later()).is_err());
    let is_written = |sink: &str| folder.path().join(format!("{}.cursor", cursor::name(sink))).exists();
    assert_eq!(["a-1", "b-2"].map(is_written), [false, true]);

    // It is in force all the same, and written as soon as that is possible.
    sealed.append(&["1"]).unwrap();
    let mut sink = Reader::new(sealed.spool(), "a-1", Duration::ZERO, || true).unwrap();
    assert_eq!(taken(&mut sink, 1 << 20), ["1"]);
    fs::remove_dir(blocked).unwrap();
    assert!(sink.is_ahead());
    sink.keep();
    drop((sink, sealed));
    let (_sealed, mut sink) = restarted(folder.path(), "a-1");
    assert_eq!(taken(&mut sink, 1 << 20), ["1"], "it was not delivered");
}

/// A file that is removed while somebody has it open takes up room all the same.
#[test]
fn a_reader_lets_go_of_the_segment_that_is_removed_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, mut sink) = delivered(folder.path());
    sink.keep();
    assert!(sink.file.is_some());
    let (spool, (says, hears)) = (Arc::clone(sealed.spool()), std::sync::mpsc::channel());
    let waiting = std::thread::spawn(move || says.send((sink.take(1, false).unwrap(), sink.file.is_none())).unwrap());
    while spool.lock().waiting == 0 {
        std::thread::yield_now();
    }
    assert!(sealed.appender.start_over());
    assert_eq!(hears.recv_timeout(Duration::from_secs(60)), Ok((Taken::Nothing, true)));
    waiting.join().unwrap();
}

#[test]
fn a_cursor_that_could_not_be_read_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
        drop(reader(sealed.spool(), "sink"));
        sealed.append(&["1"]).unwrap();
    }
    fs::write(folder.path().join(format!("{}.cursor", cursor::name("sink"))), "{").unwrap();
    for left in [vec!["1"], vec![]] {
        let (_sealed, mut sink) = restarted(folder.path(), "sink");
        assert_eq!(taken(&mut sink, 1 << 20), left);
        sink.delivered();
    }
}

/// What refuses every write for lack of room.
fn full_disk() -> fs::File {
    fs::File::options().read(true).write(true).open("/dev/full").unwrap()
}

/// Numbers of the segments in a folder.
fn segments(folder: &Path) -> Vec<u64> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<_> = names.filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// A full disk still takes an empty segment, and then no line that would belong into it.
#[test]
fn an_empty_segment_on_a_full_disk_does_not_keep_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sealed, mut sink) = delivered(folder.path());
    sealed.appender.roll().unwrap();
    let disk = sealed.appender.put_file(full_disk());
    let wakes = sealed.spool().lock().wakes;
    assert!(sealed.append(&["3"]).is_err());
    assert_eq!((segments(folder.path()), sealed.spool().lock().wakes), (vec![0, 2], wakes + 1), "it is asked to keep");
    sink.keep();
    assert!(sealed.append(&["3"]).is_err(), "others have taken the room");
    assert_eq!((segments(folder.path()), sealed.spool().bytes()), (vec![2], 0));
    let wakes = sealed.spool().lock().wakes;
    assert!(sealed.append(&["3"]).is_err());
    assert_eq!(sealed.spool().lock().wakes, wakes + 1, "a reader may have what was removed open");

    sealed.appender.put_file(disk);
    sealed.append(&["3"]).unwrap();
    assert_eq!(taken(&mut sink, 1 << 20), ["3"]);
    sink.delivered();
    drop((sink, sealed));
    let (sealed, opened) = Sealed::open(folder.path(), "a/2");
    assert_eq!((opened.last, sealed.spool().end()), (Some(("a/1".into(), 3)), 3));
    assert_eq!(taken(&mut reader(sealed.spool(), "sink"), 1 << 20), [""; 0]);
}

/// Appends lines until the segment is as large as it gets in a spool of `size` bytes.
fn fill_segment(sealed: &mut Sealed, size: u64) {
    let long = "x".repeat(100_000);
    let segment = sealed.spool().lock().end.segment;
    while sealed.spool().lock().end.offset < appender::SEGMENT.0 {
        append_within(sealed, &long, size).unwrap();
    }
    assert_eq!(sealed.spool().lock().end.segment, segment);
}

fn append_within(sealed: &mut Sealed, name: &str, size: u64) -> Result<(), AppendError> {
    let mut out = Vec::new();
    sealed.chain.seal(unsealed(name).as_bytes(), &mut out);
    sealed.appender.append(&out.into(), 1, size)
}

fn deliver_all(sink: &mut Reader) {
    while let Taken::Lines(..) = sink.take(1 << 20, true).unwrap() {
        sink.delivered();
    }
    sink.keep();
}

#[test]
fn a_segment_that_cannot_be_finished_is_started_over_once_every_sink_has_it() {
    let (folder, size) = (tempfile::tempdir().unwrap(), 8 * appender::SEGMENT.0);
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    fill_segment(&mut sealed, size);
    // It takes every write, and has no room for what is to be synced.
    sealed.appender.put_file(no_disk());
    assert!(append_within(&mut sealed, "late", size).is_err(), "the sink lacks lines");
    deliver_all(&mut sink);
    append_within(&mut sealed, "late", size).unwrap();
    assert_eq!(taken(&mut sink, 1 << 20), ["late"]);
}

#[test]
fn without_room_for_another_file_a_segment_grows() {
    let (folder, size) = (tempfile::tempdir().unwrap(), 2 * appender::SEGMENT.0);
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    fill_segment(&mut sealed, size);
    deliver_all(&mut sink);
    fs::create_dir(sealed.spool().segment(sealed.spool().end())).unwrap();
    append_within(&mut sealed, "late", size).unwrap();
    assert_eq!((taken(&mut sink, 1 << 20), sealed.spool().lock().segments.len()), (vec!["late".to_owned()], 1));
    // Another file is tried for the next lines.
    append_within(&mut sealed, "later", size).unwrap();
    assert_eq!((taken(&mut sink, 1 << 20), sealed.spool().lock().segments.len()), (vec!["later".to_owned()], 2));
}

/// Only what is before the last segment is removed otherwise.
#[test]
fn a_spool_that_was_made_smaller_than_its_last_segment_does_not_stay_full() {
    let (folder, size) = (tempfile::tempdir().unwrap(), appender::SEGMENT.0 / 2);
    let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
    let mut sink = reader(sealed.spool(), "sink");
    fill_segment(&mut sealed, 8 * appender::SEGMENT.0);
    for _ in 0..2 {
        assert!(matches!(append_within(&mut sealed, "late", size), Err(AppendError::Full)));
    }
    deliver_all(&mut sink);
    append_within(&mut sealed, "late", size).unwrap();
    assert!(sealed.spool().bytes() < size);
    assert!(matches!(append_within(&mut sealed, "later", 0), Err(AppendError::Full)), "there is to be none");
}

/// A machine that stops may have the place of a sink on its disk, and not the lines before it.
#[test]
fn a_place_beyond_the_end_passes_over_nothing_that_comes_later() {
    for (has_room, expected) in [(true, &["5", "6", "7", "8"][..]), (false, &["1", "2", "5", "6", "7", "8"])] {
        let folder = tempfile::tempdir().unwrap();
        {
            let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
            let mut sink = reader(sealed.spool(), "sink");
            sealed.append(&["1", "2"]).unwrap();
            let length = sealed.spool().bytes();
            sealed.append(&["3", "4"]).unwrap();
            deliver_all(&mut sink);
            let segment = fs::File::options().write(true).open(sealed.spool().segment(0)).unwrap();
            segment.set_len(length).unwrap();
        }
        if !has_room {
            block(folder.path(), "sink");
        }
        // Lines come, but none to the sink before the next restart.
        let (mut sealed, _) = Sealed::open(folder.path(), "a/2");
        assert_eq!(sealed.spool().settle(&[sink_of("sink")], later()).is_ok(), has_room);
        assert_eq!(sealed.spool().left("sink"), 0);
        sealed.append(&["5", "6", "7", "8"]).unwrap();
        drop(sealed);
        let (_sealed, mut sink) = restarted(folder.path(), "sink");
        assert_eq!(taken(&mut sink, 1 << 20), expected, "{has_room}");
    }
}

/// What a sink has may not be on its disk, and neither is that.
#[test]
fn a_doubt_that_could_not_be_written_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
        let mut sink = reader(sealed.spool(), "sink");
        sealed.append(&["1"]).unwrap();
        taken(&mut sink, 1 << 20);
        sink.delivered();
        let blocked = block(folder.path(), "sink");
        assert!(sink.go_back().is_err());
        fs::remove_dir(&blocked).unwrap();
        sink.keep();
        assert!(sink.is_doubtful());
    }
    let (_sealed, mut sink) = restarted(folder.path(), "sink");
    assert!(sink.is_doubtful());
    // It has it for good.
    deliver_all(&mut sink);
    assert!(!sink.is_doubtful());
}

#[test]
fn a_sink_whose_place_cannot_be_written_goes_on_where_the_former_one_was_also_after_a_crash() {
    for (is_held, comes_back) in [(false, false), (true, false), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let (mut sealed, _) = Sealed::open(folder.path(), "a/1");
        let mut former = reader(sealed.spool(), "http-a");
        sealed.append(&["1", "2"]).unwrap();
        if !is_held {
            drop(former);
            former = reader(sealed.spool(), "other");
        }
        block(folder.path(), "http-b");
        assert!(sealed.spool().settle(&[sink_of("http-b"), sink_of("other")], later()).is_err());
        let sink = if comes_back { "http-a" } else { "http-b" };
        if comes_back {
            sealed.spool().settle(&[sink_of("http-a"), sink_of("other")], later()).unwrap();
        }
        // The process is killed before anything is delivered.
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        drop((former, sealed));
        let (_sealed, mut next) = restarted(copy.path(), sink);
        assert_eq!(taken(&mut next, 1 << 20), ["1", "2"], "{is_held} {comes_back}");
    }
}
