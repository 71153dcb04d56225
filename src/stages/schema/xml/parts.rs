//! Judges a large body while it comes, so that there is little left to do once it is there.
//!
//! Only bodies that turn out to be valid are judged so: whatever else comes of it, be it that a part takes long, the whole is
//! judged in the end, as if there had been no parts. So the verdict never depends on how a body came.

use std::sync::Arc;

use http::HeaderMap;
use mediatype::MediaType;

use super::{BOUNDS, Called, Charset, Message, STEPS_AT_ONCE, XmlSchema, encoding};
use crate::budget::{MemoryBudget, Reservation, Steps};
use crate::xsd::instance::Judge;
use crate::xsd::validate::Limits;

/// So many bytes are looked at in one go, in some [`STEPS_AT_ONCE`]: about a millisecond.
const PART: usize = 32 << 10;
/// Up to so many bytes, if something in them is so long.
const LONGEST: usize = 256 << 10;
/// Bytes of identifiers, keys, and values in several pieces.
const MEMORY: usize = 512 << 10;
/// Bytes that are taken for a body that is judged while it comes, beside what has to be kept of it: that is mostly nothing, and at
/// most a mebibyte.
const LEAST: usize = 16 << 10;

/// A body that is judged while it comes.
#[derive(Debug)]
pub(crate) struct Parts<'s> {
    schema: &'s XmlSchema,
    message: XmlSchema,
    charset: Option<Charset>,
    memory: &'s MemoryBudget,
    /// How many bytes are done with.
    used: usize,
    /// How many bytes are looked at next.
    next: usize,
    state: State<'s>,
}

#[derive(Debug)]
enum State<'s> {
    /// Too little has come to begin.
    Waiting,
    Judging {
        judge: Box<Judge<'s, Message<'s>>>,
        taken: Reservation,
    },
    /// The whole is judged when it is there.
    GivenUp,
}

impl<'s> Parts<'s> {
    /// Waits for a body with these headers; `None` if what they say is wrong.
    pub(crate) fn new(
        schema: &'s XmlSchema,
        media: &MediaType<'_>,
        headers: &HeaderMap,
        memory: &'s MemoryBudget,
        called: Option<&Arc<Called>>,
    ) -> Option<Box<Self>> {
        let message = schema.of(media, headers, called).ok()?.into_owned();
        let charset = Charset::of(media).ok()?;
        Some(Box::new(Self { schema, message, charset, memory, used: 0, next: PART, state: State::Waiting }))
    }

    /// Looks at a part of what has come so far. Returns whether there is another one to look at.
    pub(crate) fn go_on(&mut self, come: &[u8]) -> bool {
        if come.len() <= super::AT_ONCE || matches!(self.state, State::GivenUp) {
            return false;
        }
        let looked = self.begin(come).and_then(|()| self.look(come));
        if looked.is_none() {
            self.state = State::GivenUp;
        }
        looked == Some(true)
    }

    fn begin(&mut self, come: &[u8]) -> Option<()> {
        if matches!(self.state, State::Waiting) {
            self.used = encoding::start_of_utf8(come, self.charset)?;
            let mut taken = self.memory.reserve();
            taken.try_grow_to(LEAST).ok()?;
            let limits = Limits { steps: Steps::new(0), memory: MEMORY, violations: 1 };
            let message = Message::new(self.message.soap.as_ref(), self.schema.description());
            let judge = Judge::new(&self.schema.schema, message, (BOUNDS, limits), std::collections::HashSet::new());
            self.state = State::Judging { judge: Box::new(judge), taken };
        }
        Some(())
    }

    /// `None`: the body is not valid, or takes too long.
    fn look(&mut self, come: &[u8]) -> Option<bool> {
        let Some(part) = come.get(self.used..).and_then(|rest| rest.get(..self.next)) else { return Some(false) };
        let text = match std::str::from_utf8(part) {
            Ok(text) => text,
            // A character may be cut in two.
            Err(error) if error.error_len().is_none() => std::str::from_utf8(part.get(..error.valid_up_to())?).ok()?,
            Err(_) => return None,
        };
        let used = self.feed(text, false)?;
        self.used = self.used.saturating_add(used);
        // Read again only when there is twice as much of it, so that all of it together takes no longer.
        self.next = if used > 0 { PART } else { self.next.saturating_mul(2) };
        (self.next <= LONGEST).then_some(true)
    }

    fn feed(&mut self, text: &str, last: bool) -> Option<usize> {
        let State::Judging { judge, taken } = &mut self.state else { return None };
        judge.allow(Steps::new(STEPS_AT_ONCE));
        let used = judge.feed(text, last).ok().filter(|_| judge.is_sound())?;
        taken.try_grow_to(LEAST.saturating_add(judge.kept())).ok()?;
        Some(used)
    }

    /// What the body is for, of which the rest is here now: the operations of a WSDL, if it calls one. `None`: it is not valid, and must
    /// be judged whole.
    pub(crate) fn ends_valid(mut self, body: &[u8]) -> Option<Option<Arc<Called>>> {
        let rest = body.get(self.used..).filter(|rest| rest.len() <= LONGEST);
        let text = rest.and_then(|rest| std::str::from_utf8(rest).ok())?;
        self.feed(text, true)?;
        let State::Judging { judge, .. } = self.state else { return None };
        let operations = judge.around().finish().ok()?;
        judge.finish().ok()?;
        Some(self.message.called(operations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::schema::xml::Soap;
    use crate::xsd::components::documents::Found;

    const SCHEMA: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="r">
<xs:complexType><xs:choice maxOccurs="unbounded"><xs:element name="v" type="xs:int"/><xs:element name="s"/><xs:element name="i" type="xs:ID"/></xs:choice></xs:complexType>
</xs:element></xs:schema>"#;

    fn schema() -> XmlSchema {
        let main = Found { file: "main.xsd".into(), bytes: SCHEMA.as_bytes().into() };
        XmlSchema::new(main, &mut |_| Ok(None)).unwrap()
    }

    /// Whether a body is found valid that comes in pieces of this size, and how much memory was taken meanwhile.
    fn in_pieces(schema: &XmlSchema, media: &str, body: &[u8], size: usize) -> (bool, u64) {
        let memory = MemoryBudget::new(u64::MAX);
        let media = MediaType::parse(media).unwrap();
        let mut parts = Parts::new(schema, &media, &HeaderMap::new(), &memory, None).unwrap();
        let mut taken = 0;
        for come in (0..body.len()).step_by(size).chain([body.len()]) {
            while parts.go_on(&body[..come]) {}
            taken = taken.max(memory.in_use());
        }
        let valid = parts.ends_valid(body).is_some();
        assert_eq!(memory.in_use(), 0);
        (valid, taken)
    }

    fn body(start: &str, middle: &str) -> Vec<u8> {
        let fill = |count| "<v>1</v>é".replace('é', "<s>é</s>\n").repeat(count);
        [start, "<r>", &fill(9_000), middle, &fill(900), "</r>"].concat().into_bytes()
    }

    #[test]
    fn a_large_body_is_judged_while_it_comes() {
        let schema = schema();
        for (start, middle, valid) in [
            ("", "", true),
            ("\u{feff}<?xml version='1.0' encoding='utf-8'?>", "<!-- c -->", true),
            ("", &*format!("<s>{}</s>", "a ".repeat(60_000)), true),
            // What is wrong is reported once the body is judged whole.
            ("", "<v>x</v>", false),
            ("", "<v>", false),
            ("", "\u{1}", false),
            ("<!DOCTYPE r>", "", false),
            ("<?xml version='1.0' encoding='iso-8859-1'?>", "", false),
            ("", &*format!("<s>{}</s>", "a ".repeat(300_000)), false),
            ("", &*(0..20_000).map(|id| format!("<i>i{id}</i>")).collect::<String>(), false),
        ] {
            let body = body(start, middle);
            for size in [997, 64 << 10, usize::MAX] {
                let size = size.min(body.len());
                let (found, taken) = in_pieces(&schema, "application/xml", &body, size);
                assert_eq!(found, valid, "{start} {:.20} in pieces of {size}", middle);
                assert!(taken <= 1 << 20 && (taken > 0 || !valid), "{taken}");
            }
        }
        let few: String = (0..3_000).map(|id| format!("<i>i{id}</i>")).collect();
        let (valid, taken) = in_pieces(&schema, "application/xml", &body("", &few), 5000);
        assert!(valid && taken > 3_000 * 64, "identifiers are kept: {taken}");
        let body = body("", "");
        assert!(!in_pieces(&schema, "application/xml; charset=iso-8859-1", &body, 5000).0);
        assert!(!in_pieces(&schema, "application/xml", &body[..60_000], 5000).0, "small bodies are not");
        assert!(!in_pieces(&schema, "application/xml", &[&body[..80_000], b"\xff", &body[80_000..]].concat(), 5000).0);
    }

    #[test]
    fn the_envelope_is_judged_too() {
        let schema = schema().in_envelope(Soap::REQUEST);
        let envelope = |body: &[u8], after: &str| {
            let start = b"<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/'><e:Body>";
            [start, body, b"</e:Body>", after.as_bytes(), b"</e:Envelope>"].concat()
        };
        for (body, valid) in
            [(envelope(&body("", ""), ""), true), (envelope(&body("", ""), "<e:Body/>"), false), (body("", ""), false)]
        {
            assert_eq!(in_pieces(&schema, "text/xml", &body, 10_000).0, valid);
        }
    }

    #[test]
    fn without_memory_the_whole_is_judged() {
        let (schema, memory) = (schema(), MemoryBudget::new(LEAST as u64 - 1));
        let media = MediaType::parse("application/xml").unwrap();
        let mut parts = Parts::new(&schema, &media, &HeaderMap::new(), &memory, None).unwrap();
        let body = body("", "");
        assert!(!parts.go_on(&body) && parts.ends_valid(&body).is_none());
    }
}
