//! Verifies records offline: that no line was changed, removed, added or moved, and that checkpoints are signed by the right
//! keys.
//!
//! Lines of several streams may be mixed, as in a file that is shared or collected from several nodes. A checkpoint covers the
//! lines before it in its stream and, through the hash of its end, the stream that it follows. What no checkpoint covers is only
//! protected by the hash chain: someone who can write the file can compute all hashes again. So with a key, only an end may be
//! uncovered ([`signed`]), and no more time than until the next checkpoint is due.

mod keys;
mod lines;
mod signed;
mod stream;
mod terms;

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::keys::Keys;
pub(crate) use self::lines::{LineRead, Lines};
use self::stream::Stream;
pub(crate) use self::terms::{Break, Terms};
use super::chain::Link;
use super::checkpoint;
use super::checkpoint_key::PublicKey;
use super::record::{CHAIN_STARTED, CHECKPOINT, STOPPED};
use super::sealed_line::SealedLine;
use super::sink_state::timestamp;

const NO_PLACE: &str = "this line has no place in a hash chain";

/// What is allowed beside the time until the next checkpoint is due.
const LATE: Duration = Duration::from_secs(60);

/// Verifies lines, one after another.
pub(crate) struct Verifier {
    terms: Terms,
    streams: HashMap<Box<str>, Stream>,
    /// The stream of the last line.
    latest: Box<str>,
    lines: u64,
    checkpoints: u64,
    /// Longest time until a checkpoint is due, as checkpoints say.
    every: Duration,
    /// Bytes of lines that were not written whole, if the next one says so.
    torn: Option<u64>,
    torn_lines: u64,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Number of lines.
    pub(crate) lines: u64,
    /// Number of checkpoints.
    pub(crate) checkpoints: u64,
    /// Lines that were not written whole, when a process or its machine ended; the line after each says so.
    pub(crate) torn: u64,
    /// The last line was not written whole.
    pub(crate) ends_torn: bool,
    /// The streams, in the order of their names.
    pub(crate) streams: Vec<VerifiedStream>,
}

/// A part of a stream that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedStream {
    /// Its name, as the record writes it.
    pub(crate) stream: String,
    /// `event.sequence` of its first line.
    pub(crate) first: u64,
    /// `event.sequence` of its last line.
    pub(crate) last: u64,
    /// Lines at its end that no signature covers.
    pub(crate) uncovered: u64,
}

impl Verifier {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            streams: HashMap::new(),
            latest: Box::default(),
            lines: 0,
            checkpoints: 0,
            every: Duration::ZERO,
            torn: None,
            torn_lines: 0,
        }
    }

    /// Verifies the next line, without its line break.
    ///
    /// # Errors
    /// It is not what was written here.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), Break> {
        let Some(sealed) = SealedLine::parse(line) else {
            self.torn = Some(self.torn.unwrap_or_default() + line.len() as u64);
            return Ok(());
        };
        if !sealed.holds() {
            return Err(self.after_torn("this line was changed: its hash is another"));
        }
        let is_mark = has_action(&sealed, CHAIN_STARTED) || has_action(&sealed, CHECKPOINT);
        let mark = if is_mark { serde_json::from_slice(line).unwrap_or(Value::Null) } else { Value::Null };
        if let Some(bytes) = self.torn
            && mark.pointer("/bartizan/chain/torn").and_then(Value::as_u64) != Some(bytes)
        {
            return Err(self.after_torn(NO_PLACE));
        }
        self.torn_lines += u64::from(self.torn.take().is_some());
        let time = if self.terms.keys.is_empty() { None } else { made_at(&sealed, line) };
        self.place(&sealed, &mark, time)?;
        self.lines += 1;
        if *self.latest != *sealed.stream {
            self.latest = sealed.stream.into();
        }
        if mark.pointer("/event/action").is_some_and(|action| action == CHECKPOINT) {
            self.checkpoint(&sealed, &mark)?;
        }
        Ok(())
    }

    /// What is wrong; first with the line before, if that has no place.
    fn after_torn(&self, message: &str) -> Break {
        match self.torn {
            Some(_) => Break { back: 1, ..Break::new(NO_PLACE) },
            None => Break::new(message),
        }
    }

    /// Verifies that the line follows the last one of its stream.
    fn place(&mut self, sealed: &SealedLine<'_>, mark: &Value, time: Option<Timestamp>) -> Result<(), Break> {
        let Some(stream) = self.streams.get_mut(sealed.stream) else { return self.first(sealed, mark, time) };
        let Link { sequence, hash } = stream.last;
        let message = match sealed.sequence {
            next if next == sequence + 1 && sealed.previous == hash => {
                if stream.stopped {
                    return Err(Break::new(
                        "this line comes after the end of its stream: the line before says that its process stopped",
                    ));
                }
                stream.add(sealed, time);
                return Ok(());
            }
            next if next == sequence + 1 => {
                "the line before this one was changed or exchanged: its hash is another".to_owned()
            }
            next if next > sequence => match next - sequence - 1 {
                1 => "a line is missing before this one".to_owned(),
                missing => format!("{missing} lines are missing before this one"),
            },
            _ => "this line is out of place: it came before, or was moved".to_owned(),
        };
        Err(Break::new(message))
    }

    /// Verifies the first line of a stream.
    fn first(&mut self, sealed: &SealedLine<'_>, mark: &Value, time: Option<Timestamp>) -> Result<(), Break> {
        let Terms { complete, partial, .. } = self.terms;
        // What the first line of all follows may be in a file that is not kept any more.
        let may_begin_here = !complete && (partial || self.lines == 0);
        if sealed.sequence > 1 && !may_begin_here {
            let missing = sealed.sequence - 1;
            return Err(Break::new(format!("the stream {} lacks its first {missing} lines", sealed.stream)));
        }
        let follows = mark.pointer("/bartizan/chain/follows").and_then(Value::as_str).map(escaped);
        let after = mark.pointer("/bartizan/chain/after").and_then(Value::as_u64).unwrap_or_default();
        let mut keys = Keys::default();
        if let Some(name) = &follows {
            match self.streams.get_mut(name.as_str()) {
                Some(earlier) => {
                    earlier.add_follower(name, after, sealed.previous)?;
                    keys = earlier.keys.inherited();
                }
                None if may_begin_here => {}
                None => return Err(Break::new(format!("the stream {name} is missing, which this one follows"))),
            }
        }
        let mut stream = Stream::new(sealed.sequence, follows.map(|name| (name.into(), after)), keys);
        stream.add(sealed, time);
        self.streams.insert(sealed.stream.into(), stream);
        Ok(())
    }

    /// Verifies a checkpoint, which is the last line of its stream so far.
    fn checkpoint(&mut self, sealed: &SealedLine<'_>, mark: &Value) -> Result<(), Break> {
        let Some(stream) = self.streams.get_mut(sealed.stream) else { return Ok(()) };
        let text = |pointer: &str| mark.pointer(pointer).and_then(Value::as_str);
        let before = stream.checkpoint.map(|hash| String::from_utf8_lossy(&hash).into_owned());
        // The one before the first line here is not known.
        if (before.is_some() || stream.first == 1) && before.as_deref() != text("/bartizan/checkpoint/previous") {
            return Err(Break::new("this checkpoint does not follow the one before it"));
        }
        stream.checkpoint = Some(sealed.hash);
        stream.stopped = mark.pointer("/event/reason").is_some_and(|reason| reason == STOPPED);
        self.checkpoints += 1;
        let Terms { keys, expect, .. } = &mut self.terms;
        expect.take_if(|expect| expect.as_bytes() == sealed.hash);
        if keys.is_empty() {
            return Ok(());
        }
        let key = text("/bartizan/checkpoint/key").unwrap_or_default();
        let Some(public) = keys.iter().find(|public| public.id() == key) else {
            let message = format!(
                "this checkpoint is signed with the key {key}, which is neither given nor named by a checkpoint"
            );
            return Err(Break::new(message));
        };
        if !stream.keys.may_sign(key) {
            return Err(Break::new(format!(
                "this checkpoint is signed with the key {key}, which another has replaced"
            )));
        }
        let signature = text("/bartizan/checkpoint/signature").and_then(|text| STANDARD.decode(text).ok());
        let signed = sealed.hash_unsigned().map(|hash| checkpoint::text(&hash));
        if !signed.zip(signature).is_some_and(|(signed, signature)| public.verify(&signed, &signature)) {
            return Err(Break::new("the signature of this checkpoint is wrong"));
        }
        let next = text("/bartizan/checkpoint/next_key").and_then(|next| PublicKey::from_base64(next).ok());
        stream.keys.signed(key, next.as_ref().map(PublicKey::id));
        keys.extend(next.filter(|next| !keys.contains(next)));
        stream.has_signed();
        let every = mark.pointer("/bartizan/checkpoint/every").and_then(Value::as_u64).unwrap_or_default();
        self.every = self.every.max(Duration::from_secs(every));
        self.cover(sealed.stream);
        Ok(())
    }

    /// A signature covers everything in this stream, and the one that it follows up to the line that it names: what comes after that
    /// line is in nobody's hash.
    fn cover(&mut self, name: &str) {
        let mut next = self.streams.get(name).map(|stream| (Box::from(name), stream.last.sequence));
        while let Some((name, to)) = next.take()
            && let Some(stream) = self.streams.get_mut(&name)
            && stream.cover(to)
        {
            next.clone_from(&stream.follows);
        }
    }

    /// Ends the record.
    ///
    /// # Errors
    /// Something is missing at its end, or too much of it is not signed.
    pub(crate) fn finish(self) -> Result<Verified, Break> {
        if let Some(expected) = &self.terms.expect {
            return Err(Break::new(format!("the checkpoint with the hash {expected} is missing")));
        }
        if !self.terms.keys.is_empty() {
            signed::check(&self.streams, &self.latest, &self.terms, 2 * self.every + LATE)?;
        }
        let stream = |(name, stream): (Box<str>, Stream)| VerifiedStream {
            stream: name.into(),
            first: stream.first,
            last: stream.last.sequence,
            uncovered: stream.uncovered(),
        };
        let mut streams: Vec<_> = self.streams.into_iter().map(stream).collect();
        streams.sort_by(|a, b| a.stream.cmp(&b.stream));
        Ok(Verified {
            lines: self.lines,
            checkpoints: self.checkpoints,
            torn: self.torn_lines,
            ends_torn: self.torn.is_some(),
            streams,
        })
    }
}

/// Whether a line has this `event.action`, as far as its bytes say.
fn has_action(sealed: &SealedLine<'_>, action: &str) -> bool {
    const ACTION: &[u8] = b"\"action\":\"";
    let start = memchr::memmem::find(sealed.event, ACTION).map(|start| start + ACTION.len());
    start.and_then(|start| sealed.event.get(start..)).is_some_and(|rest| rest.starts_with(action.as_bytes()))
}

/// A text as JSON writes it, without quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// When a line was made: its time is that when the request started, which may have been long before it ended.
fn made_at(sealed: &SealedLine<'_>, line: &[u8]) -> Option<Timestamp> {
    const DURATION: &[u8] = b"\"duration\":";
    let started = timestamp(line)?;
    let start = memchr::memmem::find(sealed.event, DURATION).map(|start| start + DURATION.len());
    let digits = start.and_then(|start| sealed.event.get(start..)).unwrap_or_default();
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = digits.get(..length).and_then(|digits| std::str::from_utf8(digits).ok());
    let nanoseconds = digits.and_then(|digits| digits.parse().ok()).unwrap_or_default();
    Some(started.checked_add(SignedDuration::from_nanos(nanoseconds)).unwrap_or(started))
}

#[cfg(test)]
pub(super) mod tests;
