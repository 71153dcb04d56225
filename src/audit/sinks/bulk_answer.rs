//! The response of `_bulk`. A server chooses how long it is, so nothing of it is kept but short texts, and no more items than
//! records were sent.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::egress::shown;

/// What became of each record.
#[derive(Debug)]
pub(super) struct BulkAnswer {
    /// Its items, but no more than records were sent.
    pub(super) items: Vec<Item>,
    /// How many it has.
    pub(super) count: usize,
}

/// What became of one record; the only member is the action.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    pub(super) create: Created,
}

#[derive(Debug, Deserialize)]
pub(super) struct Created {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) error: Said,
    /// `used` if it is not in the stream, but in what Elasticsearch keeps of records that do not fit.
    #[serde(default, deserialize_with = "is_used")]
    pub(super) failure_store: bool,
}

/// What the server says of an error: a text, or an object with a type and a reason. Of anything else, nothing is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: Option<Box<str>>,
    pub(super) kind: Option<Box<str>>,
    pub(super) reason: Option<Box<str>>,
}

impl BulkAnswer {
    /// Reads the response to so many records.
    ///
    /// # Errors
    /// It is none of `_bulk`.
    pub(super) fn read(body: &[u8], records: usize) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let answer = Whole { records }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(answer)
    }
}

/// The response to so many records.
struct Whole {
    records: usize,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum WholeKey {
    Items,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = BulkAnswer;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<BulkAnswer, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = BulkAnswer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `items`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BulkAnswer, A::Error> {
        let mut answer = None;
        while let Some(key) = map.next_key()? {
            match key {
                WholeKey::Items => answer = Some(map.next_value_seed(Items { records: self.records })?),
                WholeKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        answer.ok_or_else(|| A::Error::missing_field("items"))
    }
}

/// The items of a response to so many records.
struct Items {
    records: usize,
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = BulkAnswer;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<BulkAnswer, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = BulkAnswer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BulkAnswer, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.records
            && let Some(item) = seq.next_element()?
        {
            items.push(item);
        }
        let mut count = items.len();
        while count >= self.records && seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(BulkAnswer { items, count })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum SaidKey {
    Type,
    Reason,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SaidVisitor)
    }
}

struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Said, E> {
        Ok(Said { text: Some(shown(text).into()), ..Said::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key()? {
            match key {
                SaidKey::Type => said.kind = map.next_value::<Said>()?.text,
                SaidKey::Reason => said.reason = map.next_value::<Said>()?.text,
                SaidKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(said)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Said, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Said::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Said, E> {
        Ok(Said::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Said, E> {
        Ok(Said::default())
    }
}

fn is_used<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Said::deserialize(deserializer)?.text.as_deref() == Some("used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<Said> {
        let answer = BulkAnswer::read(text.as_bytes(), 9).unwrap();
        answer.items.into_iter().map(|item| item.create.error).collect()
    }

    #[test]
    fn an_error_is_a_text_or_an_object_and_nothing_else_of_it_is_kept() {
        let text = |text: &str| Some(text.into());
        let of = |error: &str| errors(&format!("{{\"items\":[{{\"create\":{{\"status\":400,\"error\":{error}}}}}]}}"));
        for (error, expected) in [
            ("\"no\"", Said { text: text("no"), ..Said::default() }),
            (
                "{\"type\":\"t\",\"caused_by\":{\"type\":\"u\"},\"reason\":\"r\\n\"}",
                Said { kind: text("t"), reason: text("r"), text: None },
            ),
            ("{\"type\":{\"type\":\"t\"},\"reason\":[1,[2]]}", Said::default()),
            ("null", Said::default()),
            ("[true,-1,0.5,{}]", Said::default()),
            ("-7", Said::default()),
        ] {
            assert_eq!(of(error), [expected], "{error}");
        }
        let long = of(&format!("{{\"type\":\"t\",\"reason\":\"{}\"}}", "x".repeat(1 << 20)));
        assert_eq!(long[0].reason.as_deref().map(str::len), Some(300));
    }

    #[test]
    fn no_more_items_are_kept_than_records_were_sent() {
        let text = format!("{{\"took\":[1,2],\"items\":[{}{{}}]}}", "{\"create\":{\"status\":201}},".repeat(7));
        let answer = BulkAnswer::read(text.as_bytes(), 7).unwrap();
        assert_eq!((answer.items.len(), answer.count), (7, 8));
        assert!(BulkAnswer::read(text.as_bytes(), 8).is_err(), "the last one is no item");
        assert!(BulkAnswer::read(b"{\"items\":[]} x", 1).is_err());
    }
}
