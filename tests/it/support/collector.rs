//! A collector of spans: takes what OTLP exporters send over HTTP, and reads the Protobuf by the numbers of its fields alone, as
//! opentelemetry-proto 1.x has them. What does not belong there fails the test.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use super::eventually;
use super::upstream::{Seen, Upstream};

/// A value of a field.
#[derive(Debug, Clone)]
enum Field {
    Varint(u64),
    Fixed64(u64),
    Bytes(Vec<u8>),
    Fixed32(u32),
}

/// The fields of a message.
struct Message(Vec<(u64, Field)>);

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a varint that ends");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint is too long");
}

fn taken<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(length).expect("a field that is whole");
    *bytes = rest;
    taken
}

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Varint(varint(&mut bytes)),
                1 => Field::Fixed64(u64::from_le_bytes(taken(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes);
                    Field::Bytes(taken(&mut bytes, length.try_into().unwrap()).to_vec())
                }
                5 => Field::Fixed32(u32::from_le_bytes(taken(&mut bytes, 4).try_into().unwrap())),
                other => panic!("there is no wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    /// Has only these fields.
    fn only(self, known: &[u64]) -> Self {
        self.0.iter().for_each(|(number, field)| assert!(known.contains(number), "field {number}: {field:?}"));
        self
    }

    fn all(&self, number: u64) -> impl Iterator<Item = &Field> {
        self.0.iter().filter(move |(found, _)| *found == number).map(|(_, field)| field)
    }

    fn one(&self, number: u64) -> Option<&Field> {
        let mut all = self.all(number);
        let first = all.next();
        assert!(all.next().is_none(), "field {number} is there twice");
        first
    }

    fn messages(&self, number: u64, known: &[u64]) -> Vec<Message> {
        let read = |field: &Field| match field {
            Field::Bytes(bytes) => Message::read(bytes).only(known),
            other => panic!("{other:?} is no message"),
        };
        self.all(number).map(read).collect()
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        match self.one(number) {
            None => Vec::new(),
            Some(Field::Bytes(bytes)) => bytes.clone(),
            Some(other) => panic!("{other:?}"),
        }
    }

    fn text(&self, number: u64) -> String {
        String::from_utf8(self.bytes(number)).expect("UTF-8")
    }

    fn hex(&self, number: u64) -> String {
        self.bytes(number).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn number(&self, number: u64) -> u64 {
        match self.one(number) {
            None => 0,
            Some(Field::Varint(value) | Field::Fixed64(value)) => *value,
            Some(Field::Fixed32(value)) => (*value).into(),
            Some(other) => panic!("{other:?}"),
        }
    }

    /// `repeated KeyValue`.
    fn attributes(&self, number: u64) -> BTreeMap<String, Value> {
        let value = |value: &Message| match value.0.as_slice() {
            [(1, Field::Bytes(text))] => json!(String::from_utf8(text.clone()).unwrap()),
            [(2, Field::Varint(flag))] => json!(*flag == 1),
            [(3, Field::Varint(number))] => json!(*number as i64),
            other => panic!("no value of an attribute: {other:?}"),
        };
        let pairs = self.messages(number, &[1, 2]);
        let count = pairs.len();
        let pairs = pairs.iter().map(|pair| (pair.text(1), value(&pair.messages(2, &[1, 2, 3])[0])));
        let attributes: BTreeMap<_, _> = pairs.collect();
        assert_eq!(attributes.len(), count, "an attribute is there twice");
        attributes
    }
}

/// A span as the collector received it.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty: none.
    pub parent: String,
    pub flags: u64,
    pub name: String,
    /// 2: server, 3: client.
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, Value>,
    /// 0: not said, 2: error.
    pub status: u64,
    /// Attributes of the process.
    pub resource: BTreeMap<String, Value>,
}

impl Span {
    #[track_caller]
    pub fn says(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }
}

/// The spans in a request.
#[track_caller]
pub fn spans_in(seen: &Seen) -> Vec<Span> {
    assert_eq!((seen.head.word(0), seen.header("content-type")), ("POST", Some("application/x-protobuf")));
    let body = match seen.header("content-encoding") {
        None => seen.body.clone(),
        Some("gzip") => {
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(&*seen.body).read_to_end(&mut body).expect("gzip");
            body
        }
        Some(other) => panic!("{other}"),
    };
    let mut spans = Vec::new();
    for by_resource in Message::read(&body).only(&[1]).messages(1, &[1, 2, 3]) {
        let resource = by_resource.messages(1, &[1])[0].attributes(1);
        for by_scope in by_resource.messages(2, &[1, 2]) {
            assert_eq!(by_scope.messages(1, &[1, 2])[0].text(1), "bartizan");
            for span in by_scope.messages(2, &[1, 2, 4, 5, 6, 7, 8, 9, 15, 16]) {
                spans.push(Span {
                    trace: span.hex(1),
                    id: span.hex(2),
                    parent: span.hex(4),
                    flags: span.number(16),
                    name: span.text(5),
                    kind: span.number(6),
                    start: span.number(7),
                    end: span.number(8),
                    attributes: span.attributes(9),
                    status: span.messages(15, &[3]).first().map_or(0, |status| status.number(3)),
                    resource: resource.clone(),
                });
            }
        }
    }
    for span in &spans {
        assert!(span.trace.len() == 32 && span.id.len() == 16 && [0, 16].contains(&span.parent.len()), "{span:?}");
        assert!(0 < span.start && span.start <= span.end, "{span:?}");
    }
    spans
}

/// All spans that a collector has received by now. A request that is still being read is left out.
pub fn spans(collector: &Upstream) -> Vec<Span> {
    let whole = |seen: &Seen| seen.header("content-length").is_some_and(|length| length == seen.body.len().to_string());
    collector.seen().iter().filter(|seen| whole(seen)).flat_map(spans_in).collect()
}

/// Waits until a collector has so many spans.
#[track_caller]
pub fn collected(collector: &Upstream, count: usize) -> Vec<Span> {
    eventually(&format!("the collector has {count} spans"), || {
        let spans = spans(collector);
        (spans.len() >= count).then_some(spans)
    })
}
