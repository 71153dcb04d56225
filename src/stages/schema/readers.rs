//! Random forms and queries, read by four others as well: what is accepted here, all of them that find anything in it read as
//! the same names and values.
//!
//! They are in the folder that the environment variable `FORM_READERS` names, and are run by the scripts in
//! `tests/it/readers`, where the well-known differences are listed one by one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mediatype::MediaType;
use serde_json::{Map, Value, json};

use super::fields::Style;
use super::form::{Form, Multipart, boundary};
use super::json::JsonSchema;
use super::json::tests::random::{self, Random, setting};
use super::media_type::is_utf8;
use super::object::{Fields, MAX_MEMORY};
use super::parameters::query_object;
use super::text_encoding::has_broken_escapes;
use crate::budget::Steps;
use crate::stages::strict_json::Intake;

/// Bodies that the readers get together.
const TOGETHER: usize = 5_000;

/// What forms and queries are made of.
const PIECES: [&str; 56] = [
    "a",
    "b",
    "name",
    "a",
    "b",
    "=",
    "=",
    "=",
    "=",
    "&",
    "&",
    "&",
    "+",
    "%20",
    "%41",
    "%2B",
    "%26",
    "%3D",
    "%3B",
    ";",
    "%00",
    "%C3%A9",
    "%c3%a9",
    "%ff",
    "%ED%A0%80",
    "%",
    "%4",
    "%zz",
    "%u0041",
    "[",
    "]",
    "[]",
    "%5B",
    "%5D",
    "[a]",
    ".",
    "%2E",
    "?",
    "#",
    "%23",
    "'",
    "\"",
    "<",
    "%0d%0a",
    "%09",
    "%25",
    "%2541",
    "%EF%BB%BF",
    "_charset_=utf-8&",
    "_charset_=utf-7&",
    "1",
    "2",
    "/",
    ":",
    "@",
    "~",
];
/// Ends of lines, mostly right.
const ENDS: [&str; 8] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"];
const DISPOSITIONS: [&str; 8] = [
    "Content-Disposition: form-data",
    "Content-Disposition: form-data",
    "Content-Disposition: form-data",
    "content-disposition: form-data",
    "Content-Disposition:form-data",
    "Content-Disposition: Form-Data",
    "Content-Disposition: attachment",
    "Content-Disposition : form-data",
];
const SEPARATORS: [&str; 8] = ["; ", "; ", "; ", ";", " ; ", ";\t", ";;", " "];
const KEYS: [&str; 16] = [
    "name=",
    "name=",
    "name=",
    "name=",
    "name=",
    "name=",
    "filename=",
    "filename=",
    "Name=",
    "name*=",
    "filename*=",
    "name =",
    "size=",
    "name*0=",
    "x-y=",
    "name",
];
const VALUES: [&str; 40] = [
    "a",
    "b",
    "\"a\"",
    "\"b\"",
    "\"a b\"",
    "\"a;b\"",
    "\"a=b\"",
    "\"a,b\"",
    "\"a\u{e9}\"",
    "\"a[]\"",
    "\"a.b\"",
    "\"a'b\"",
    "\"\"",
    "a b",
    "'a'",
    "\"a",
    "\"a\\\"b\"",
    "\"a\\\\\"",
    "\"a\\b\"",
    "\"%61\"",
    "\"a%22b\"",
    "utf-8''a",
    "\"x.png\"",
    "x.png",
    "\"..\"",
    "\"a/b\"",
    "\"a\\c.png\"",
    "\"C:\\\\x\"",
    "\"&#47;\"",
    "\"a\tb\"",
    "\" a\"",
    "\"a \"",
    "\"a\u{0}\"",
    "\"=?utf-8?q?b?=\"",
    "\"; name=b\"",
    "\"\u{202e}a\"",
    "\"\u{a0}a\"",
    "\"\u{2028}\"",
    "\"a\u{85}\"",
    "\"\u{feff}a\"",
];
const FIELDS: [&str; 18] = [
    "Content-Type: text/plain",
    "Content-Type: text/html",
    "Content-Type: application/octet-stream",
    "Content-Type: application/json",
    "Content-Type: text/plain; charset=utf-8",
    "Content-Type: text/plain; charset=UTF8",
    "Content-Type: text/plain; charset=iso-8859-1",
    "Content-Type: text/plain; charset=\"utf-16\"",
    "Content-Type: multipart/mixed; boundary=c",
    "Content-Type: x",
    "Content-Transfer-Encoding: base64",
    "Content-Transfer-Encoding: 8bit",
    "Content-Length: 1",
    "X-A: b",
    " folded: b",
    ": b",
    "x",
    "X-A:",
];
const CONTENTS: [&str; 18] = [
    "v", "v", "w=64", "a&b=c", "", "\r\n", "\n", "\r", "\u{e9}", "dmFsdWU=", "--", "--b", "\r\n--bc", "\n--b", "-",
    "\u{0}", "=41", "+AGE-",
];
const BOUNDARIES: [(&str, &str); 14] = [
    ("boundary=b", "b"),
    ("boundary=b", "b"),
    ("boundary=b", "b"),
    ("boundary=b", "b"),
    ("boundary=\"b\"", "b"),
    ("charset=utf-8; boundary=b", "b"),
    ("boundary=b; charset=utf-7", "b"),
    ("boundary=b;", "b"),
    ("BOUNDARY=b", "b"),
    ("boundary=\"b c\"", "b c"),
    ("boundary=b; boundary=c", "c"),
    ("boundary=\"b;c\"", "b;c"),
    ("boundary='b'", "'b'"),
    ("boundary=-b-", "-b-"),
];

/// A Content-Type (or `query`), and a body.
type Case = (String, Vec<u8>);

fn case(random: &mut Random) -> Case {
    match random.below(4) {
        0 => ("query".to_owned(), pieces(random).into_bytes()),
        1 => {
            let charset = random.pick(&["", "", "", "; charset=utf-8", "; charset=utf-7"]);
            (format!("application/x-www-form-urlencoded{charset}"), pieces(random).into_bytes())
        }
        _ => multipart(random),
    }
}

fn pieces(random: &mut Random) -> String {
    /// Read alike by all.
    const PLAIN: [&str; 12] = ["a", "b", "name", "1", "2", "%41", "%C3%A9", "a+b", "a%20b", "%26", "%3D", "."];
    // Most are pairs of these, so that many are accepted.
    if random.below(8) == 0 {
        return (0..1 + random.below(10)).map(|_| random.pick(&PIECES)).collect();
    }
    let piece = |random: &mut Random| if random.below(12) == 0 { random.pick(&PIECES) } else { random.pick(&PLAIN) };
    let side = |random: &mut Random| (0..1 + random.below(2)).map(|_| piece(random)).collect::<String>();
    let pairs = (0..1 + random.below(4)).map(|_| format!("{}={}", side(random), side(random)));
    pairs.collect::<Vec<_>>().join("&")
}

fn multipart(random: &mut Random) -> Case {
    let (parameter, boundary) = BOUNDARIES[random.below(BOUNDARIES.len() as u64) as usize];
    let mut body = random.pick(&["", "", "", "", "", "", "", "", "\r\n", "preamble\r\n"]).to_owned();
    // A body with several oddities is refused for the first: most have one or two.
    let odd = |random: &mut Random, rate: u64| random.below(rate) == 0;
    let end = |random: &mut Random| if odd(random, 60) { random.pick(&ENDS) } else { "\r\n" };
    for _ in 0..1 + random.below(3) {
        body += &format!("--{boundary}");
        body += random.pick(&["", "", "", "", "", "", "", "", "", "", "", " ", "\t", "x"]);
        body += end(random);
        let mut lines = vec![disposition(random)];
        while odd(random, 4) {
            let at = random.below(lines.len() as u64 + 1) as usize;
            lines.insert(at, if odd(random, 8) { disposition(random) } else { random.pick(&FIELDS).to_owned() });
        }
        for line in lines {
            body += &line;
            body += end(random);
        }
        body += end(random);
        body += random.pick(&CONTENTS);
        if odd(random, 4) {
            body += random.pick(&CONTENTS);
        }
        body += end(random);
    }
    body += &format!("--{boundary}--");
    body += random.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "", "", "\n", "\r\nepilogue", " \r\n", "-\r\n"]);
    let mut body = body.into_bytes();
    if odd(random, 12) {
        mutate(random, &mut body);
    }
    (format!("multipart/form-data; {parameter}"), body)
}

fn disposition(random: &mut Random) -> String {
    let odd = |random: &mut Random, rate: u64| random.below(rate) == 0;
    let mut line = if odd(random, 10) { random.pick(&DISPOSITIONS) } else { DISPOSITIONS[0] }.to_owned();
    for position in 0..1 + random.below(2) {
        line += if odd(random, 12) { random.pick(&SEPARATORS) } else { "; " };
        line += if position == 0 && !odd(random, 12) { "name=" } else { random.pick(&KEYS) };
        line += if odd(random, 5) { random.pick(&VALUES) } else { random.pick(&VALUES[..4]) };
    }
    if odd(random, 24) {
        line += random.pick(&[";", " ", "x", "\r\n folded=x"]);
    }
    line
}

fn mutate(random: &mut Random, body: &mut Vec<u8>) {
    let at = random.below(body.len() as u64) as usize;
    match random.below(3) {
        0 => drop(body.remove(at)),
        1 => body[at] = random.below(256) as u8,
        _ => body.insert(at, b"\r\n-\"; \0="[random.below(8) as usize]),
    }
}

/// What we make of it, if we accept it.
struct Readers {
    form: Form,
    multipart: Multipart,
    query: Fields,
}

impl Readers {
    fn read(&self, (kind, body): &Case) -> Option<Value> {
        let intake = Intake::new(MAX_MEMORY, Steps::new(1000));
        let draft = match kind.split(';').next()? {
            "query" => {
                let text = std::str::from_utf8(body).ok().filter(|text| !has_broken_escapes(text))?;
                // Nothing else is a query for the proxy (RFC 3986 §3.4).
                let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>[]'".contains(&byte);
                query_object(&self.query, Some(text).filter(|text| text.bytes().all(allowed))?, &intake)
            }
            "multipart/form-data" => {
                let media = utf8(kind)?;
                self.multipart.object(&boundary(&media).ok()?, body, &intake).ok()?
            }
            _ => {
                utf8(kind)?;
                self.form.object(body, &intake).ok()?
            }
        };
        draft.ok().map(|draft| draft.value())
    }
}

/// A media type whose text is UTF-8: no other is judged.
fn utf8(kind: &str) -> Option<MediaType<'_>> {
    MediaType::parse(kind).ok().filter(is_utf8)
}

/// What the readers in a script make of these, by the reader.
fn others(tool: &str, script: &str, variable: &str, folder: &Path, cases: &[Case]) -> Vec<Map<String, Value>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/readers").join(script);
    let mut command = Command::new(tool);
    let command = command.arg(script).env(variable, folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let input: Vec<Value> = cases.iter().map(|(kind, body)| json!([kind, hex(body)])).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(Value::from(input).to_string().as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{tool} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The object of a list of names and values in hexadecimal, if there are any; a name that is repeated has a list.
fn object(pairs: &Value) -> Option<Value> {
    let text = |hex: &Value| {
        let digits = hex.as_str().unwrap();
        let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    };
    let mut names: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pair in pairs.as_array().filter(|pairs| !pairs.is_empty())? {
        names.entry(text(&pair[0])).or_default().push(text(&pair[1]).into());
    }
    let one = |(name, mut values): (String, Vec<Value>)| match values.len() {
        1 => (name, values.remove(0)),
        _ => (name, Value::from(values)),
    };
    Some(Value::Object(names.into_iter().map(one).collect()))
}

/// An object whose lists are in the order of their texts.
fn in_order(mut object: Value) -> Value {
    for list in object.as_object_mut().unwrap().values_mut().filter_map(Value::as_array_mut) {
        list.sort_by_key(Value::to_string);
    }
    object
}

/// F25. `FORM_BODIES` is the number of bodies and queries, `FORM_SEED` the seed.
#[test]
fn what_is_accepted_of_random_forms_is_read_alike_by_all() {
    let Some(folder) = std::env::var_os("FORM_READERS") else {
        // Not a failure anywhere: they come from registries, and tests do not depend on those.
        return eprintln!("SKIPPED: FORM_READERS names no folder");
    };
    let folder = Path::new(&folder);
    let seed = setting("FORM_SEED", 88_172_645_463_325_252);
    let bodies = setting("FORM_BODIES", TOGETHER as u64) as usize;
    // Not free to be anything: what a file has is read as the text that it is.
    let schema = json!({"additionalProperties": {"pattern": ""}});
    let any = || Arc::new(JsonSchema::new(&schema).unwrap());
    let readers = Readers {
        form: Form::new(Fields::of(&schema, Style::Form, true).json_objects(), any()),
        multipart: Multipart::new(Fields::of(&schema, Style::Form, true).json_objects(), any()),
        query: Fields::of(&schema, Style::Form, true),
    };
    let (mut accepted, mut alike) = (0, 0);
    for seed in (seed..).take(bodies.div_ceil(TOGETHER)) {
        // Not 0, and another one for each seed.
        let mut random = Random(seed << 1 | 1);
        let cases = (0..TOGETHER).map(|_| case(&mut random));
        let (cases, ours): (Vec<Case>, Vec<Value>) =
            cases.filter_map(|case| readers.read(&case).map(|value| (case, value))).unzip();
        let python = others("python3", "readers.py", "PYTHONPATH", &folder.join("python"), &cases);
        let node = others("node", "readers.js", "NODE_PATH", &folder.join("node_modules"), &cases);
        for ((case, ours), readings) in cases.iter().zip(&ours).zip(python.into_iter().zip(node)) {
            for (reader, reading) in readings.0.iter().chain(&readings.1) {
                // A server that refuses it, or finds nothing in it, sees nothing that was not judged.
                let Some(theirs) = object(reading) else { continue };
                let shown = String::from_utf8_lossy(&case.1);
                // Most keep files apart from fields, so that those of one name have no order. Bytes are a file for busboy.
                let files = shown.contains("filename") || shown.contains("octet-stream");
                let (theirs, ours) = match files {
                    true => (in_order(theirs), in_order(ours.clone())),
                    false => (theirs, ours.clone()),
                };
                assert_eq!(theirs, ours, "seed {seed}, {reader}: {} {shown:?}", case.0);
                alike += 1;
            }
        }
        accepted += cases.len();
    }
    // The test would hold if everything were refused, or if nobody read anything.
    assert!(accepted * 8 > bodies && alike > accepted * 2, "{accepted} of {bodies}, {alike}");
    random::print(&format!("forms from seed {seed}: {bodies} bodies, {accepted} accepted, {alike} readings alike"));
}
