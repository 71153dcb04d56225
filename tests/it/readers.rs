//! Our readers of multipart, forms and queries beside four others', body by body: what we accept, all of them read as the
//! same names and values, and so do we; where two of them differ, we refuse.
//!
//! `FORM_READERS` names the folder that has them: `python` with werkzeug, Django and python-multipart, `node_modules` with
//! busboy. `.ci/run` puts them there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=b";
const DISPOSITION: &str = "Content-Disposition: form-data; ";

/// A Content-Type (or `query`), and a body.
type Case = (String, Vec<u8>);

/// What of a head, a value, a boundary and a form servers read in different ways, and what they do not.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = format!("{DISPOSITION}name=\"a\"");
    let heads = [
        "name=a",
        "name=\"a\"",
        "name=\"a b\"",
        "name=\"a;b\"",
        "name=\"a,b\"",
        "name=\"a=b\"",
        "name=\"<a>\"",
        "name=\"a'b\"",
        "name=a'b",
        "name=a*b",
        "name=\"=?utf-8?q?b?=\"",
        "name=\"\u{e4}\"",
        "name=\"a[]\"",
        "name=\"a.b\"",
        "name=\" a\"",
        "name=\"a \"",
        "name=\"a\t\"",
        "name=\"\"",
        "name=",
        "name",
        "name=a; name=b",
        "name=\"a\"; name=\"b\"",
        "name=a; NAME=b",
        "Name=a",
        "name=a;",
        "name=a;;",
        "name = a",
        "name =\"a\"",
        "name=a b",
        "name=\"a\"b",
        "name=\"a",
        "name='a'",
        "name=\"a\\\"b\"",
        "name=\"a\\b\"",
        "name=\"a\\\\\"",
        "name=a\\",
        "name=\"%61\"",
        "name=\"%22\"",
        "name*=utf-8''a",
        "name=b; name*=utf-8''a",
        "name*=utf-8''a; name=b",
        "name*0=a; name*1=b",
        "name*0*=utf-8''a",
        "filename=a",
        "name=a; filename=\"\"",
        "name=a; filename=x.png",
        "name=a; filename=\"x;name=b\"",
        "name=a; filename=\"x\\\"; name=\"b\"",
        "name=a; filename=\"..\"",
        "name=a; filename=\"/\"",
        "name=a; filename=\"&#47;\"",
        "name=a; filename*=utf-8''x",
        "name=a; filename=x; filename=\"\"",
        "name=a; size=5",
        "name=a; x=\"name=b\"",
        "name=a\u{0}",
        "name=\"a\u{7f}\"",
        "name=a\r\nContent-Type: text/html",
        "name=a\r\nContent-Type: application/octet-stream",
        "name=a\r\nContent-Type: x",
        "name=a\r\nContent-Type: text/plain; charset=utf-8",
        "name=a\r\nContent-Type: text/plain; charset=iso-8859-1",
        "name=a\r\nContent-Type: text/plain; charset=utf-7",
        "name=a\r\nContent-Type: text/plain; charset=utf-16",
        "name=a\r\nContent-Type: text/plain\r\nContent-Type: text/html; charset=utf-7",
        "name=a\r\nContent-Transfer-Encoding: base64",
        "name=a\r\nContent-Transfer-Encoding: quoted-printable",
        "name=a\r\nContent-Transfer-Encoding: binary",
        "name=a\r\nContent-Transfer-Encoding: 8bit",
        "name=a\r\nContent-Length: 1",
        "name=a\r\nContent-Disposition: form-data; name=b",
        "name=a\r\n name=b",
        "name=a;\r\n filename=x",
        "name=a\nX: y",
        "name=a\rX: y",
        "name=a\r\nX : y",
        "name=a\r\n: y",
        "name=a\r\nx",
        "name=a\r\nX: y",
    ];
    for head in heads {
        for value in ["v", "w=64", "\u{e4}", "dmFsdWU="] {
            cases.push(parts(&format!("{DISPOSITION}{head}"), value.as_bytes()));
        }
    }
    for head in [
        "content-disposition: form-data; name=a",
        "Content-Disposition: Form-Data; name=a",
        "Content-Disposition:form-data;name=a",
        "Content-Disposition : form-data; name=a",
        " Content-Disposition: form-data; name=a",
        "Content-Disposition: attachment; name=a",
        "Content-Disposition: name=a",
        "Content-Disposition: form-data",
        "Content-Type: text/plain",
        "",
        "\r\n",
    ] {
        cases.push(parts(head, b"v"));
    }
    cases.push(parts(&format!("X: {}\r\n{plain}", "x".repeat(1000)), b"v"));
    for value in [
        &b""[..],
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"x\n\ny",
        b"\xff\xfe",
        b"\x00",
        b"--",
        b"-b",
        b"--c",
        b"--b",
        b"\n--b",
        b"\r\n--bc",
        b"\n--b--",
        b"\r\n--b-",
        b"\r\n--b \r\n",
        b"\n--b\nContent-Disposition: form-data; name=c\n\nd",
    ] {
        cases.push(parts(&plain, value));
    }
    let part = format!("{plain}\r\n\r\nv");
    for body in [
        String::new(),
        "--b--".to_owned(),
        "--b--\r\n".to_owned(),
        format!("--b\r\n{part}\r\n--b--"),
        format!("--b\r\n{part}\r\n--b--\r\nx"),
        format!("--b\r\n{part}\r\n--b--\r\n--b\r\n{part}\r\n--b--"),
        format!("x\r\n--b\r\n{part}\r\n--b--"),
        format!("\r\n--b\r\n{part}\r\n--b--"),
        format!("--b\n{part}\n--b--"),
        format!("--b \r\n{part}\r\n--b--"),
        format!("--b\r\n{part}\r\n--b -- "),
        format!("--b\r\n{part}\r\n--b"),
        format!("--b\r\n{part}\r\n"),
        format!("--b\r\n{part}--b--"),
        format!("--b\r\n{part}\r\n--b\r\n--b--"),
        format!("--b\r\n\r\n{part}\r\n--b--"),
        format!("--b\r\n{part}\r\n--b\r\n{part}\r\n--b--"),
        format!("--b\r\n{plain}\r\n--b--"),
        format!("--b\r\n{}\n\nv\r\n--b--", plain),
    ] {
        cases.push((MULTIPART.to_owned(), body.into_bytes()));
    }
    for (kind, boundary) in [
        ("boundary=b", "b"),
        ("Boundary=b", "b"),
        ("boundary=\"b\"", "b"),
        ("boundary=\"\\b\"", "b"),
        ("boundary=\"\\b\"", "\\b"),
        ("boundary=\"b c\"", "b c"),
        ("boundary=\"b \"", "b"),
        ("boundary=b; boundary=c", "b"),
        ("boundary=b; boundary=c", "c"),
        ("boundary=b; boundary*=utf-8''c", "c"),
        ("boundary=b; boundary*=utf-8''c", "b"),
        ("boundary*0=b; boundary*1=c", "bc"),
        ("boundary='b'", "'b'"),
        ("boundary=\"'()+_,-./:=?\"", "'()+_,-./:=?"),
        ("boundary=a/b", "a/b"),
        ("boundary==", "="),
        ("boundary=-", "-"),
        ("charset=utf-7; boundary=b", "b"),
        ("boundary = b", "b"),
        ("boundary=", ""),
        ("boundary=b;", "b"),
        ("boundary=b, text/plain", "b"),
    ] {
        cases.push((
            format!("multipart/form-data; {kind}"),
            format!("--{boundary}\r\n{part}\r\n--{boundary}--\r\n").into_bytes(),
        ));
    }
    for text in [
        "a=1",
        "a=1&b=2",
        "a=1&a=2",
        "a",
        "a&b=1",
        "a=",
        "=a",
        "=",
        "&",
        "a=1&&b=2",
        "&a=1&",
        "a=b=c",
        "a==",
        "a=%00",
        "a=%C3%A9",
        "%C3%A9=1",
        "a=%c3%a9",
        "a=%ff",
        "%ff=1",
        "a=%ed%a0%80",
        "a=%c0%80",
        "a=%zz",
        "a=%",
        "a=%4",
        "a=%%41",
        "a=%u0041",
        "%=1",
        "a=+",
        "a=%2B",
        "+a=1",
        "a+=1",
        "a+b=1",
        "%20a=1",
        "a%20=1",
        "a%09=1",
        "a%00=1",
        "%0aa=1",
        "a;b=1",
        "a=1;b=2",
        "a=1%3Bb=2",
        "a%3Bb=1",
        "a%26b=1",
        "a=%26b%3D1",
        "a%3D1",
        "a%3Db=1",
        "a[]=1&a[]=2",
        "a%5B%5D=1",
        "a.b=1",
        "a=<b>",
        "a='1'",
        "_charset_=utf-7&a=%2BAGE-",
        "_charset_=utf-8&a=1",
        "a=?",
        "?a=1",
        "a=1#b",
        "%EF%BB%BFa=1",
        "a=%0d%0a",
    ] {
        cases.push((FORM.to_owned(), text.as_bytes().to_vec()));
        if !text.contains(['<', '>', '#', '\'']) {
            cases.push(("query".to_owned(), text.as_bytes().to_vec()));
        }
    }
    for body in [
        &b"a=1\n"[..],
        b"a=1\r\nb=2",
        b"a=\xc3\xa9",
        b"\xc3\xa9=1",
        b"\xef\xbb\xbfa=1",
        b"a=\xff",
        b"a\x00=1",
        b"a=\x00",
        b" a=1",
        b"a =1",
    ] {
        cases.push((FORM.to_owned(), body.to_vec()));
    }
    cases
}

/// A form of one part.
fn parts(head: &str, value: &[u8]) -> Case {
    (MULTIPART.to_owned(), [b"--b\r\n", head.as_bytes(), b"\r\n\r\n", value, b"\r\n--b--\r\n"].concat())
}

/// What the readers in a script make of these, by the reader.
fn read(tool: &str, script: &str, variable: &str, folder: &Path, cases: &[Case]) -> Vec<BTreeMap<String, Value>> {
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

/// The object of a list of names and values in hexadecimal; a name that is repeated has a list.
fn object(pairs: &Value) -> Value {
    let text = |hex: &Value| {
        let bytes = hex.as_str().unwrap().as_bytes().chunks(2);
        let bytes: Vec<u8> =
            bytes.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut names: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for pair in pairs.as_array().unwrap() {
        names.entry(text(&pair[0])).or_default().push(text(&pair[1]).into());
    }
    let one = |(name, mut values): (String, Vec<Value>)| match values.len() {
        1 => (name, values.remove(0)),
        _ => (name, Value::from(values)),
    };
    Value::Object(names.into_iter().map(one).collect())
}

fn status(client: &mut client::Client, path: &str, (kind, body): &Case) -> u16 {
    match kind.as_str() {
        "query" => client.get(&format!("{path}?{}", std::str::from_utf8(body).unwrap())).send().status,
        kind => client.request("POST", path).header("content-type", kind).body(body).send().status,
    }
}

const ASKS: &str = "public: true, request: { form: FILE, multipart: FILE }";

/// F25
#[test]
fn what_is_accepted_is_read_alike_by_all() {
    let Some(readers) = std::env::var_os("FORM_READERS") else {
        // Not a failure anywhere: they are had from registries, and tests don't hang on those.
        return eprintln!("SKIPPED: FORM_READERS names no folder");
    };
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).file("any.json", "{}");
    let policy = policy.route("POST /form", &ASKS.replace("FILE", "any.json"));
    let proxy = policy.route("GET /query", "public: true, request: { query: any.json }").start();
    let mut client = client(&proxy);
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for case in cases() {
        let path = if case.0 == "query" { "/query" } else { "/form" };
        match status(&mut client, path, &case) {
            200 => accepted.push(case),
            400 | 415 | 422 => refused.push(case),
            other => panic!("{other} {case:?}"),
        }
    }
    proxy.done();

    let folder = Path::new(&readers);
    let python = read("python3", "readers.py", "PYTHONPATH", &folder.join("python"), &accepted);
    let node = read("node", "readers.js", "NODE_PATH", &folder.join("node_modules"), &accepted);
    let mut agreed = Vec::new();
    for (case, (mut readings, others)) in accepted.into_iter().zip(python.into_iter().zip(node)) {
        readings.extend(others);
        assert_eq!(readings.len(), 4);
        // A server that refuses it, or finds nothing in it, sees nothing that was not judged.
        let found: Vec<&Value> =
            readings.values().filter(|reading| reading.as_array().is_some_and(|list| !list.is_empty())).collect();
        let shown = String::from_utf8_lossy(&case.1).into_owned();
        assert!(found.windows(2).all(|two| two[0] == two[1]), "{} {shown:?}\n{readings:#?}", case.0);
        agreed.push((case, found.first().map_or_else(|| json!({}), |found| object(found)), found.len()));
    }
    // The test would hold if everything were refused, or if nobody read anything.
    let by_all = agreed.iter().filter(|(_, _, readers)| *readers >= 3).count();
    assert!(by_all > 80 && refused.len() > 150, "{by_all} of {} accepted, {} refused", agreed.len(), refused.len());

    // What they read is what we judge: only that satisfies a schema of nothing else.
    let mut policy = self::proxy().before(&upstream);
    for (number, (case, value, _)) in agreed.iter().enumerate() {
        let mut other = value.clone();
        other.as_object_mut().unwrap().insert("of nobody".to_owned(), "1".into());
        for (name, value) in [("same", value), ("other", &other)] {
            let file = format!("{name}{number}.json");
            let (route, asks) = match case.0.as_str() {
                "query" => (format!("GET /{name}{number}"), "public: true, request: { query: FILE }"),
                _ => (format!("POST /{name}{number}"), ASKS),
            };
            policy =
                policy.file(&file, json!({ "const": value }).to_string()).route(&route, &asks.replace("FILE", &file));
        }
    }
    let proxy = policy.start();
    let mut client = self::client(&proxy);
    for (number, (case, value, _)) in agreed.iter().enumerate() {
        assert_eq!(
            status(&mut client, &format!("/same{number}"), case),
            200,
            "{value} {} {:?}",
            case.0,
            String::from_utf8_lossy(&case.1)
        );
        assert_eq!(status(&mut client, &format!("/other{number}"), case), 422, "{value}");
    }
    proxy.done();
}

/// The readers are where `.ci/run` puts them, at least when it names them.
#[test]
fn the_readers_are_there_if_they_are_named() {
    let Some(readers) = std::env::var_os("FORM_READERS") else { return };
    for part in ["python/werkzeug", "python/django", "python/python_multipart", "node_modules/busboy"] {
        assert!(Path::new(&readers).join(part).exists(), "{} has no {part}", OsStr::new(&readers).display());
    }
}
