//! Counts of quotas in a folder of this machine, for one node: kept through a crash, and never given twice.
//!
//! One thread writes: the questions that have come in meanwhile share a transaction, which is on disk before any of them is
//! answered.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use redb::{Database, ReadableTable, Table, TableDefinition};
use tokio::sync::oneshot;

use super::breaker::Breaker;
use super::no_answer::NoAnswer;
use super::question::{AskedLimit, Given, Question};
use crate::error_text;
use crate::state::database;
use crate::state::ledger::{LimitId, Terms, WRONG_CLOCK, alert};

/// The file in the folder.
const FILE: &str = "counts.redb";
/// How much of the file is kept in memory, in bytes.
const CACHE: usize = 16 * 1024 * 1024;
/// The most questions that share a transaction.
const BATCH: usize = 1024;
/// How often a store that has been given up is tried again, and some old counts are removed.
const ROUND: Duration = Duration::from_secs(1);
/// How many counts are looked at then.
const SWEPT: usize = 1000;
/// How long counts are kept after their window at least, in seconds, and otherwise as long as the window: a clock that is set
/// back by less refills nobody.
const KEPT: u32 = 3600;

/// What has been used of each quota: by account and quota.
const COUNTS: TableDefinition<'_, &[u8], Row> = TableDefinition::new("counts");

/// When counting began and the window ends (seconds since 1970), what has been used, and the share in percent that was told.
type Row = (u32, u32, u32, u8);

/// What the thread is asked to do.
enum Job {
    Answer(Question),
    Reset(Question),
    /// Only tries to write.
    Try,
}

type Reply = oneshot::Sender<Result<Vec<Given>, NoAnswer>>;

/// The counts in a folder. Dropping it closes the file.
pub(super) struct FolderCounts {
    jobs: Option<Sender<(Job, Reply)>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for FolderCounts {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A panic has been logged already.
            let _ = writer.join();
        }
    }
}

impl FolderCounts {
    /// Opens the file, or creates it. Blocks.
    pub(super) fn open(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        let database = open(&path)?;
        let (jobs, received) = channel();
        let writer = std::thread::Builder::new()
            .name("counts".to_owned())
            .spawn(move || Writer { path, database: Some(database), swept: Vec::new() }.run(&received))
            .map_err(|error| {
                format!("the thread that counts quotas cannot be started: {}", error_text::system(&error))
            })?;
        Ok(Self { jobs: Some(jobs), writer: Some(writer) })
    }

    async fn ask(&self, job: Job) -> Result<Vec<Given>, NoAnswer> {
        let ended = || NoAnswer { why: "the thread that counts quotas has ended".to_owned(), is_broken: false };
        let (reply, answer) = oneshot::channel();
        self.jobs.as_ref().and_then(|jobs| jobs.send((job, reply)).ok()).ok_or_else(ended)?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Asks.
    pub(super) async fn answer(&self, question: &Question) -> Result<Vec<Given>, NoAnswer> {
        self.ask(Job::Answer(question.clone())).await
    }

    /// Resets the usage of a caller.
    pub(super) async fn reset(&self, question: &Question) -> Result<(), NoAnswer> {
        self.ask(Job::Reset(question.clone())).await.map(drop)
    }

    /// Tries again to write while the store has been given up, for ever.
    pub(super) async fn keep_trying(&self, breaker: &Breaker) {
        loop {
            tokio::time::sleep(ROUND).await;
            if breaker.is_open() && self.ask(Job::Try).await.is_ok() {
                breaker.answered();
            }
        }
    }
}

fn open(path: &Path) -> Result<Database, String> {
    let opened = database::open(path, CACHE).map_err(redb::Error::from);
    opened
        .and_then(|database| {
            let transaction = database.begin_write()?;
            transaction.open_table(COUNTS)?;
            transaction.commit()?;
            Ok(database)
        })
        .map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &redb::Error) -> String {
    let path = path.display();
    match error {
        redb::Error::Io(error) => format!("{path} cannot be read or written: {}", error_text::system(error)),
        redb::Error::DatabaseAlreadyOpen => format!("{path} is in use by another process"),
        redb::Error::Corrupted(_) => {
            format!(
                "{path} is damaged, and with it what has been used of quotas; restore it from a backup, or delete it"
            )
        }
        error => format!("{path} cannot be read or written: {}", error_text::without_codes(&error.to_string())),
    }
}

/// The thread that reads and writes the file.
struct Writer {
    path: PathBuf,
    /// `None` after a failed write, since redb refuses all that come later.
    database: Option<Database>,
    /// The last key that the sweep has looked at.
    swept: Vec<u8>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<(Job, Reply)>) {
        let mut next_sweep = Instant::now();
        loop {
            let mut batch = Vec::new();
            match jobs.recv_timeout(ROUND) {
                Ok(job) => {
                    batch.push(job);
                    batch.extend(jobs.try_iter().take(BATCH - 1));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let sweep = Instant::now() >= next_sweep;
            if sweep {
                next_sweep = Instant::now() + ROUND;
            }
            if sweep || !batch.is_empty() {
                self.answer(batch, sweep);
            }
        }
    }

    /// Does some jobs in one transaction, and answers them once it is on disk.
    fn answer(&mut self, batch: Vec<(Job, Reply)>, sweep: bool) {
        let now = Timestamp::now();
        let jobs: Vec<&Job> = batch.iter().map(|(job, _)| job).collect();
        let done = self.write(&jobs, sweep, now);
        match done {
            Ok(answers) => batch.into_iter().zip(answers).for_each(|((_, reply), answer)| drop(reply.send(Ok(answer)))),
            Err(why) => {
                // It is opened again for the next batch.
                self.database = None;
                for (_, reply) in batch {
                    let _ = reply.send(Err(NoAnswer { why: why.clone(), is_broken: false }));
                }
            }
        }
    }

    fn write(&mut self, jobs: &[&Job], sweep: bool, now: Timestamp) -> Result<Vec<Vec<Given>>, String> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let database = self.database.insert(database);
        let swept = &mut self.swept;
        let mut written = || -> Result<_, redb::Error> {
            let transaction = database.begin_write()?;
            let mut table = transaction.open_table(COUNTS)?;
            let mut answers = Vec::with_capacity(jobs.len());
            for job in jobs {
                answers.push(match job {
                    Job::Answer(question) => decide(&mut table, question, now)?,
                    Job::Reset(question) => reset(&mut table, question, now)?,
                    Job::Try => Vec::new(),
                });
            }
            let removed = if sweep { remove_old(&mut table, swept, now)? } else { 0 };
            drop(table);
            let only_look =
                |job: &&Job| matches!(job, Job::Answer(question) if question.limits.iter().all(AskedLimit::only_looks));
            if jobs.iter().all(only_look) && removed == 0 {
                transaction.abort()?;
            } else {
                transaction.commit()?;
            }
            Ok(answers)
        };
        written().map_err(|error| failed(&self.path, &error))
    }
}

/// Where a limit is kept. Names have no zero byte.
fn key(account: &str, id: LimitId) -> Vec<u8> {
    [account.as_bytes(), &[0], &id.0].concat()
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_second()).unwrap_or(0)
}

/// Decides all limits of a question, then takes from all of them or from none.
fn decide(table: &mut Table<'_, &[u8], Row>, question: &Question, now: Timestamp) -> Result<Vec<Given>, redb::Error> {
    let mut counts = Vec::with_capacity(question.limits.len());
    let latest = seconds(now).saturating_add(WRONG_CLOCK);
    for asked in &question.limits {
        let stored = table.get(&*key(&question.account, asked.id))?.map(|row| row.value());
        let stored = stored.filter(|(began, ..)| *began <= latest);
        counts.push(Count::of(asked, stored));
    }
    let fits = question.limits.iter().zip(&counts).all(|(asked, count)| count.free() >= asked.need);
    let mut given = Vec::with_capacity(counts.len());
    for (asked, mut count) in question.limits.iter().zip(counts) {
        let answer = count.give(asked, fits, now);
        if !asked.only_looks() && (count.used > 0 || count.was_stored) {
            let row = (count.since, count.ends, count.used, count.told);
            table.insert(&*key(&question.account, asked.id), row)?;
        }
        given.push(answer);
    }
    Ok(given)
}

/// Begins to count anew from now on, so that what was taken in advance is not returned to the new count.
fn reset(table: &mut Table<'_, &[u8], Row>, question: &Question, now: Timestamp) -> Result<Vec<Given>, redb::Error> {
    for asked in &question.limits {
        let key = key(&question.account, asked.id);
        let stored = table.get(&*key)?.map(|row| row.value());
        if let Some((_, ends, ..)) = stored {
            table.insert(&*key, (seconds(now), ends, 0, 0))?;
        }
    }
    Ok(Vec::new())
}

/// Removes some counts of windows that have ended. Goes on after `swept`, and returns how many were removed.
fn remove_old(table: &mut Table<'_, &[u8], Row>, swept: &mut Vec<u8>, now: Timestamp) -> Result<usize, redb::Error> {
    let (mut old, mut looked_at, mut last) = (Vec::new(), 0, Vec::new());
    for row in table.range::<&[u8]>(&**swept..)?.take(SWEPT) {
        let (key, row) = row?;
        let (since, ends, ..) = row.value();
        if ends.saturating_add(KEPT.max(ends.saturating_sub(since))) < seconds(now) {
            old.push(key.value().to_vec());
        }
        looked_at += 1;
        last = key.value().to_vec();
    }
    for key in &old {
        table.remove(&**key)?;
    }
    *swept = if looked_at < SWEPT { Vec::new() } else { last };
    Ok(old.len())
}

/// What has been used of one quota.
struct Count {
    most: u32,
    since: u32,
    ends: u32,
    used: u32,
    told: u8,
    was_stored: bool,
}

impl Count {
    fn of(asked: &AskedLimit, stored: Option<Row>) -> Self {
        let (most, since, ends) = match asked.terms {
            Terms::Quota { count, since, ends } => (count, since, ends),
            // Rates are not counted here: nothing of one is given.
            Terms::Rate { .. } => (0, 0, 0),
        };
        let mut count = Self { most, since, ends, used: 0, told: 0, was_stored: stored.is_some() };
        if let Some((began, _, used, told)) = stored.filter(|(began, ..)| *began >= since) {
            (count.since, count.used, count.told) = (began, used, told);
        }
        if asked.since == count.since {
            let used = i64::from(count.used).saturating_add(asked.owed).clamp(0, i64::from(u32::MAX));
            count.used = u32::try_from(used).unwrap_or(u32::MAX);
        }
        count
    }

    fn free(&self) -> u32 {
        self.most.saturating_sub(self.used)
    }

    fn give(&mut self, asked: &AskedLimit, fits: bool, now: Timestamp) -> Given {
        let least = asked.need.max(asked.worth);
        let tokens = if fits { asked.want.min(self.free()).min(least.max(self.free() / 4)) } else { 0 };
        self.used += tokens;
        let (told, alert) = alert(self.used, self.most, self.told);
        // Who only looks reports nothing.
        let (told, alert) = if asked.only_looks() { (self.told, 0) } else { (told, alert) };
        self.told = told;
        let rest = i128::from(self.ends) * 1_000_000_000 - now.as_nanosecond();
        let rest = u64::try_from(rest.max(0)).unwrap_or(u64::MAX);
        let wait = if self.free() < least { rest } else { 0 };
        Given { tokens, wait, full_after: rest, left: self.free(), since: self.since, alert }
    }
}
