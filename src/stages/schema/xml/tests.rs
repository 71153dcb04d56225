//! The module as a whole: the cases of `tests/cases/xsd`, hostile bodies, SOAP, words, and threads.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Soap, XmlSchema};
use crate::budget::{MemoryBudget, Steps};
use crate::refusal::{Reason, Refusal};
use crate::xsd::components::documents::{Found, Reference};
use crate::xsd::names::XML;
use crate::xsd::problem::Problem;

const XSI: &str = r#"xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance""#;

fn found(file: &str, text: &str) -> Found {
    Found { file: file.into(), bytes: text.as_bytes().into() }
}

fn compiled(files: &BTreeMap<String, String>) -> Result<XmlSchema, Vec<Problem>> {
    let mut resolve = |Reference { from, location, import }: Reference<'_>| {
        let Some(location) = location.filter(|_| import != Some(XML)) else { return Ok(None) };
        let mut path: Vec<&str> = from.split('/').collect();
        path.pop();
        for step in location.trim().split('/') {
            match step {
                ".." => path.truncate(path.len().saturating_sub(1)),
                step => path.push(step),
            }
        }
        let path = path.join("/");
        let file = files.get(&path).ok_or_else(|| format!("there is no `{path}`"))?;
        Ok(Some(found(&path, file)))
    };
    XmlSchema::new(found("main.xsd", &files["main.xsd"]), &mut resolve)
}

fn schema(text: &str) -> XmlSchema {
    compiled(&BTreeMap::from([("main.xsd".to_owned(), text.to_owned())])).unwrap()
}

fn steps(length: usize) -> u64 {
    500_000 + 4 * length as u64
}

fn check(schema: &XmlSchema, body: impl AsRef<[u8]>) -> Result<(), Refusal> {
    let body = body.as_ref();
    schema
        .judge(body, None, &MemoryBudget::new(64 << 20), Steps::new(steps(body.len())))
        .expect("within the budget")
        .map(drop)
}

fn in_schema(attributes: &str, content: &str) -> String {
    format!(r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"{attributes}>{content}</xs:schema>"#)
}

/// One part of a case file: its heading, its text, and the line it begins on.
struct Part {
    heading: String,
    text: String,
    place: String,
}

/// The parts of all case files, in order; the README beside them says what they are.
fn parts() -> Vec<Part> {
    const HEADINGS: [&str; 5] = ["schema", "no schema", "file", "valid", "invalid"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/xsd");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut parts: Vec<Part> = Vec::new();
    for path in paths {
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            // A heading ends with `:` at the end of the line, or before the document.
            let end = line.find(": ").or_else(|| line.ends_with(':').then(|| line.len() - 1));
            let word = HEADINGS
                .iter()
                .find(|heading| line.strip_prefix(**heading).is_some_and(|rest| rest.starts_with([' ', ':'])));
            match (word, end) {
                (Some(_), Some(end)) => parts.push(Part {
                    heading: line[..end].to_owned(),
                    text: line[end + 1..].trim().to_owned(),
                    place: format!("{}:{}", path.file_name().unwrap().to_str().unwrap(), number + 1),
                }),
                _ => {
                    let text = &mut parts.last_mut().unwrap().text;
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
    }
    parts
}

#[test]
fn verdicts_are_those_of_xsd_1_0() {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut documents = 0;
    let mut parts = parts().into_iter().peekable();
    let mut current: Option<XmlSchema> = None;
    let mut is_schema = true;
    while let Some(Part { heading, text, place }) = parts.next() {
        let (kind, rest) = match heading.strip_prefix("no schema") {
            Some(rest) => ("no schema", rest),
            None => heading.split_at(heading.find(' ').unwrap_or(heading.len())),
        };
        let rest = rest.trim();
        if matches!(kind, "schema" | "no schema" | "file") {
            let (name, attributes) = match kind {
                "file" => rest.split_once(' ').unwrap_or((rest, "")),
                _ => {
                    files.clear();
                    is_schema = kind == "schema";
                    ("main.xsd", rest)
                }
            };
            files.insert(name.to_owned(), in_schema(&format!(" {attributes}"), &text));
            if parts.peek().is_some_and(|next| next.heading.starts_with("file")) {
                continue;
            }
            let result = compiled(&files);
            if result.is_ok() != is_schema {
                wrong.push(format!("{place}: schema: {:?}", result.as_ref().err()));
            }
            current = result.ok();
            continue;
        }
        documents += 1;
        let Some(schema) = &current else { continue };
        let result = check(schema, text.replace("XSI", XSI));
        if result.is_ok() != (kind == "valid") {
            wrong.push(format!("{place}: should be {heading}: {text}\n    {result:?}"));
        }
        let Err(refusal) = &result else { continue };
        if refusal.reason() != Reason::SchemaViolation || refusal.violations().is_empty() {
            wrong.push(format!("{place}: {refusal:?}"));
        } else if !rest.is_empty() && refusal.violations()[0].pointer != rest {
            wrong.push(format!("{place}: not at {rest}: {:?}", refusal.violations()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(documents >= 500, "only {documents} documents");
}

const ORDER: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:o" elementFormDefault="qualified">
<xs:element name="order"><xs:complexType><xs:sequence>
  <xs:element name="line" maxOccurs="unbounded"><xs:complexType><xs:simpleContent><xs:extension base="xs:positiveInteger">
    <xs:attribute name="item" type="xs:token"/></xs:extension></xs:simpleContent></xs:complexType></xs:element>
  <xs:element name="note" type="xs:string" minOccurs="0"/>
</xs:sequence></xs:complexType></xs:element>
<xs:element name="any"/>
</xs:schema>"#;

/// Reason, and the words of the answer.
fn refused(schema: &XmlSchema, body: impl AsRef<[u8]>) -> (Reason, String) {
    let refusal = check(schema, body).unwrap_err();
    let (_, _, answer) = refusal.answer(&crate::exchange::RequestId::new(jiff::Timestamp::UNIX_EPOCH));
    (refusal.reason(), String::from_utf8(answer.to_vec()).unwrap())
}

#[test]
fn hostile_and_broken_bodies_are_no_xml_to_us() {
    let schema = schema(ORDER);
    let any = |content: &str| format!(r#"<any xmlns="urn:o">{content}</any>"#).into_bytes();
    let many = |count: usize, of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<String>();
    let laughs = many(10, &|n| format!("<!ENTITY l{} \"{}\">", n + 1, format!("&l{n};").repeat(10)));
    for (what, body) in [
        ("DOCTYPE", b"<!DOCTYPE any><any xmlns='urn:o'/>".to_vec()),
        (
            "DOCTYPE",
            b"<?xml version='1.0'?>\n<!-- x --><!DOCTYPE any SYSTEM 'http://192.0.2.1/x.dtd'><any xmlns='urn:o'/>"
                .to_vec(),
        ),
        ("DOCTYPE", b"<!DOCTYPE any [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><any xmlns='urn:o'>&x;</any>".to_vec()),
        ("DOCTYPE", b"<!DOCTYPE any [<!ENTITY % x SYSTEM 'file:///etc/passwd'>%x;]><any xmlns='urn:o'/>".to_vec()),
        ("DOCTYPE", format!("<!DOCTYPE any [<!ENTITY l0 'lol'>{laughs}]><any xmlns='urn:o'>&l9;</any>").into_bytes()),
        (
            "DOCTYPE",
            format!("<!DOCTYPE any [<!ENTITY a '{}'>]><any>{}</any>", "a".repeat(50_000), "&a;".repeat(50_000))
                .into_bytes(),
        ),
        ("DOCTYPE", b"<!DOCTYPE any".to_vec()),
        ("DOCTYPE", b"<!doctype any><any xmlns='urn:o'/>".to_vec()),
        ("a reference", any("&x;")),
        ("a reference", any("&nbsp;")),
        ("a reference", any("<b a='&x;'/>")),
        ("a reference", any("&#0;")),
        ("a reference", any("&#xD800;")),
        ("a reference", any("&#xFFFF;")),
        ("a reference", any("&#x110000;")),
        ("a reference", any("&#-1;")),
        ("a reference", any("&#+65;")),
        ("a reference", any("&#;")),
        ("`&`", any("a & b")),
        ("`&`", any("<b a='&'/>")),
        ("`&`", any("a &amp<b/>")),
        ("`&`", any("<b a='&amp'/>")),
        ("processing instruction", any("<?php echo 1 ?>")),
        ("processing instruction", b"<any xmlns='urn:o'/><?xml-stylesheet href='x'?>".to_vec()),
        ("XML declaration", b" <?xml version='1.0'?><any xmlns='urn:o'/>".to_vec()),
        ("XML declaration", any("<?xml version='1.0'?>")),
        ("XML 1.0", b"<?xml version='1.1'?><any xmlns='urn:o'/>".to_vec()),
        ("XML declaration", b"<?xml encoding='utf-8'?><any xmlns='urn:o'/>".to_vec()),
        ("encoding", b"<?xml version='1.0' encoding='UTF-7'?><any xmlns='urn:o'/>".to_vec()),
        (
            "UTF-8",
            "<any xmlns='urn:o'/>"
                .encode_utf16()
                .flat_map(|unit| [0xff, 0xfe].map(|_| unit as u8))
                .chain([0xff])
                .collect(),
        ),
        ("UTF-8", b"<any xmlns='urn:o'>\xe9</any>".to_vec()),
        ("UTF-8", b"<any xmlns='urn:o'>\xc0\xbc/any>".to_vec()),
        ("deeper", [b"<a>".repeat(100_000), b"</a>".repeat(100_000)].concat()),
        (
            "deeper",
            [b"<any xmlns='urn:o'>".to_vec(), b"<a>".repeat(256), b"</a>".repeat(256), b"</any>".to_vec()].concat(),
        ),
        ("attributes", format!("<any xmlns='urn:o' {}/>", many(80_000, &|n| format!("a{n}='' "))).into_bytes()),
        ("attributes", format!("<any {}/>", "a='' ".repeat(80_000)).into_bytes()),
        ("namespaces", any(&many(60, &|n| format!("<a xmlns:p{n}='u{n}' xmlns:q{n}='u{n}'>")))),
        ("name is longer", any(&format!("<{}/>", "a".repeat(1025)))),
        ("name is longer", any(&format!("<a {}=''/>", "a".repeat(1025)))),
        ("duplicate attribute", any("<b a='' a=''/>")),
        ("duplicate attribute", any("<b xmlns:p='u' xmlns:q='u' p:a='' q:a=''/>")),
        ("duplicate attribute", any("<b xmlns='u' xmlns='u'/>")),
        ("prefix of the element", any("<p:b/>")),
        ("prefix of the element", any("<b xmlns:p='u'/><p:c/>")),
        ("prefix of the element", any("<xmlns:b/>")),
        ("prefix of an attribute", any("<b p:a=''/>")),
        ("unbound", any("<b xmlns:p=''/>")),
        ("`xml`", any("<b xmlns:xml='urn:x'/>")),
        ("`xml`", any("<b xmlns:p='http://www.w3.org/XML/1998/namespace'/>")),
        ("`xmlns`", any("<b xmlns:xmlns='urn:x'/>")),
        ("`xmlns`", any("<b xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>")),
        ("`xmlns`", any("<b xmlns:p='http://www.w3.org/2000/xmlns/'/>")),
        ("`xmlns`", any("<b xmlns='http://www.w3.org/2000/xmlns/'/>")),
        ("`xml`", any("<b xmlns='http://www.w3.org/XML/1998/namespace'/>")),
        ("colon", any("<a:b:c xmlns:a='u'/>")),
        ("colon", any("<:b/>")),
        ("colon", any("<b :a=''/>")),
        ("colon", any("<b xmlns:='urn:x'/>")),
        ("colon", any("<b xmlns:=''/>")),
        ("colon", any("<b c='' xmlns:='urn:x'/>")),
        ("colon", any("<b xmlns='urn:x' xmlns:='urn:x'/>")),
        ("colon", any("<b xmlns:a:b='urn:x'/>")),
        ("colon", any("<b xmlns::b='urn:x'/>")),
        ("colon", any("<b xmlns:1='urn:x'/>")),
        ("colon", any("<b xmlns:-='&#32;'/>")),
        ("end tag", any("<b></c>")),
        ("end tag", b"</any>".to_vec()),
        ("ends before", b"<any xmlns='urn:o'>".to_vec()),
        ("second root", b"<any xmlns='urn:o'/><any xmlns='urn:o'/>".to_vec()),
        ("outside", b"x<any xmlns='urn:o'/>".to_vec()),
        ("outside", b"<any xmlns='urn:o'/>&lt;".to_vec()),
        ("outside", b"<any xmlns='urn:o'/><![CDATA[]]>".to_vec()),
        ("no element", b"".to_vec()),
        ("no element", b"\xef\xbb\xbf <!-- x -->".to_vec()),
        ("outside", b"{\"a\": 1}".to_vec()),
        ("ends within markup", any("<!-- ")),
        ("ends within markup", b"<any xmlns='urn:o".to_vec()),
        ("ends within markup", b"<".to_vec()),
        ("comment", any("<!-- a -- b -->")),
        ("name=", any("<b a/>")),
        ("name=", any("<b a=1/>")),
        ("not allowed in XML", any("\u{1}")),
        ("not allowed in XML", any("\u{ffff}")),
        ("`]]>`", any("]]>")),
        ("contains `<`", any("<b a='<'/>")),
        ("a space is missing", any("<b a=''b=''/>")),
        ("begins no tag", any("<1/>")),
        ("begins no tag", any("< b/>")),
        ("a tag is not closed", any("<b/ >")),
        ("XML declaration", b"<?xml version='1.0' standalone='maybe'?><any xmlns='urn:o'/>".to_vec()),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let (reason, words) = refused(&schema, body);
        assert_eq!(reason, Reason::MalformedBody, "{what}: {shown}: {words}");
        assert!(words.contains(what), "{what}: {shown}: {words}");
    }
}

#[test]
fn what_is_odd_but_xml_is_accepted() {
    let schema = schema(ORDER);
    for body in [
        "\u{feff}<any xmlns='urn:o'/>".to_owned(),
        "<?xml version='1.0' encoding='utf-8' standalone=\"yes\" ?>\r\n<any xmlns='urn:o'/>\n<!-- end -->\n".to_owned(),
        "<any xmlns='urn:o'>&#65;&#x41;&lt;&gt;&amp;&apos;&quot;&#x10FFFF;<![CDATA[<!DOCTYPE & <?x ?>]]></any>"
            .to_owned(),
        "<!-- <!DOCTYPE x> --><any xmlns='urn:o' a=\">'\" b='>\"'\n/>".to_owned(),
        "<any xmlns='urn:o'><b xmlns=''/><p:c xmlns:p='urn:&#x70;' xml:lang='en'/><p:d xmlns:p='not a uri'/></any >"
            .to_owned(),
        "<?xml version='1.0'?><?xml-stylesheet href='x'?><any xmlns='urn:o'/>".to_owned(),
        format!("<any xmlns='urn:o'>{}{}</any>", "<a>".repeat(255), "</a>".repeat(255)),
        format!("<any xmlns='urn:o'>{}</any>", "<a/>".repeat(300_000)),
        format!("<any xmlns='urn:o'>{}</any>", "x".repeat(10_000_000)),
        format!("<any xmlns='urn:o'>{}</any>", "&lt;".repeat(200_000)),
        format!("<any xmlns='urn:o' a='{}'/>", "x".repeat(10_000_000)),
        format!("<any xmlns='urn:o' {}/>", (0..127).map(|n| format!("a{n}='' ")).collect::<String>()),
    ] {
        let shown: String = body.chars().take(120).collect();
        assert_eq!(check(&schema, body), Ok(()), "{shown}");
    }
}

#[test]
fn violations_name_the_place_and_never_the_value() {
    let schema = schema(ORDER);
    for (body, expected) in [
        (
            "<o:order xmlns:o='urn:o'>\n  <o:line>1</o:line>\n  <o:line item='x'>hunter2</o:line></o:order>",
            vec![("/order/line[2]", "line 3, column 3: the value is not of the atomic type `xs:positiveInteger`")],
        ),
        (
            "<order xmlns='urn:o'><line hunter2='x'>1</line><line>0</line></order>",
            vec![
                ("/order/line[1]/@hunter2", "line 1, column 22: this attribute is not allowed here"),
                ("/order/line[2]", "line 1, column 48: the value is less than the minimum, `1`"),
            ],
        ),
        (
            "<order xmlns='urn:o'><line xmlns=''>1</line></order>",
            vec![("/order/line", "line 1, column 22: this element is expected in the namespace `urn:o`")],
        ),
        (
            "<order xmlns='urn:o'><hunter2/></order>",
            vec![("/order/hunter2", "line 1, column 22: this element is not expected here; expected: `line`")],
        ),
        (
            "<order xmlns='urn:o'><!-- ü -->ü</order>",
            vec![("/order", "line 1, column 1: text is not allowed between the elements here")],
        ),
        (
            "\u{feff}<order xmlns='urn:o'/>",
            vec![("/order", "line 1, column 1: elements are missing in this one; the next can be `line`")],
        ),
        ("<order/>", vec![("/order", "line 1, column 1: this element is expected in the namespace `urn:o`")]),
        ("<other/>", vec![("/other", "line 1, column 1: the schema has no root element with this name and namespace")]),
    ] {
        let refusal = check(&schema, body).unwrap_err();
        let got: Vec<_> = refusal.violations().iter().map(|v| (v.pointer.as_str(), v.detail.as_str())).collect();
        let start: Vec<_> = got.iter().take(expected.len()).copied().collect();
        assert_eq!((refusal.reason(), start), (Reason::SchemaViolation, expected), "{body}");
        assert!(got.iter().all(|(_, detail)| !detail.contains("hunter2")), "{got:?}");
    }
    let facets = schema_of_facets();
    let refusal = check(&facets, "<r a='zz'>a</r>").unwrap_err();
    let got: Vec<_> = refusal.violations().iter().map(|v| format!("{} {}", v.pointer, v.detail)).collect();
    assert_eq!(
        got,
        [
            "/r/@a line 1, column 1: the value has a length of `2`; this exceeds the allowed maximum length of `1`",
            "/r/@a line 1, column 1: the value is none of {`a`}",
            "/r/@a line 1, column 1: the value does not match the pattern `a*`",
        ]
    );
    let required = in_schema(
        "",
        "<xs:element name='r'><xs:complexType><xs:attribute name='id' use='required'/></xs:complexType></xs:element>",
    );
    let refusal = check(&self::schema(&required), "<r/>").unwrap_err();
    assert_eq!(refusal.violations()[0].detail, "line 1, column 1: the attribute `id` is required but missing");
    // Every value is a violation, long, and made to look like words of ours.
    let value = "hunter2' is not an element of the set {'x'}. ".repeat(200);
    let lines = format!("<line>{value}</line>").repeat(300);
    let refusal = check(&schema, format!("<order xmlns='urn:o'>{lines}</order>")).unwrap_err();
    assert_eq!(refusal.violations().len(), 20);
    assert!(refusal.violations().iter().all(|v| !v.detail.contains("hunter2") && v.detail.len() < 320), "{refusal:?}");
    let long = format!("<order xmlns='urn:o'><{0} xmlns='urn:{0}'/></order>", "x".repeat(1000));
    let refusal = check(&schema, long).unwrap_err();
    assert!(refusal.violations()[0].pointer.len() < 320, "{refusal:?}");
}

fn schema_of_facets() -> XmlSchema {
    schema(&in_schema(
        "",
        r#"<xs:element name="r"><xs:complexType><xs:simpleContent><xs:extension base="s"><xs:attribute name="a" type="s"/></xs:extension></xs:simpleContent></xs:complexType></xs:element>
<xs:simpleType name="s"><xs:restriction base="xs:string"><xs:maxLength value="1"/><xs:pattern value="a*"/><xs:enumeration value="a"/></xs:restriction></xs:simpleType>"#,
    ))
}

#[test]
fn a_body_with_enough_wrong_is_not_looked_at_further() {
    let simple = r#"<xs:simpleType><xs:restriction base="xs:string"><xs:pattern value="[a-z]+[0-9]{1,4}"/></xs:restriction></xs:simpleType>"#;
    let element = format!(
        r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element name="a" maxOccurs="unbounded">{simple}</xs:element></xs:sequence></xs:complexType>
        <xs:unique name="u"><xs:selector xpath="a"/><xs:field xpath="."/></xs:unique></xs:element>"#
    );
    let schema = schema(&in_schema("", &element));
    let refusal = check(&schema, format!("<r>{}</r>", "<a>a1</a><a/><!-- y -->".repeat(3000))).unwrap_err();
    assert_eq!(refusal.violations().len(), 20);
    assert_eq!(check(&schema, "<r><a>a1</a></r>"), Ok(()));
}

#[test]
fn lines_are_right_however_many_there_are() {
    let schema = schema(ORDER);
    let body = format!("<order xmlns='urn:o'>{}<line>0</line></order>", "<line>1</line>\n".repeat(70_000));
    let refusal = check(&schema, body).unwrap_err();
    assert_eq!(refusal.violations()[0].pointer, "/order/line[70001]");
    assert!(refusal.violations()[0].detail.starts_with("line 70001, column 1: "), "{refusal:?}");
}

#[test]
fn soap_messages_are_judged_by_what_is_in_their_body() {
    let typed = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:o" targetNamespace="urn:o" elementFormDefault="qualified">
        <xs:element name="order" type="base"/><xs:complexType name="base"><xs:sequence/></xs:complexType>
        <xs:complexType name="more"><xs:complexContent><xs:extension base="base"><xs:sequence><xs:element name="name" type="xs:QName"/>
        </xs:sequence></xs:extension></xs:complexContent></xs:complexType></xs:schema>"#;
    let [request, answer] = [Soap::REQUEST, Soap::RESPONSE].map(|soap| schema(typed).in_envelope(soap));
    let good = "<o:order xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:type='o:more'><o:name>o:x</o:name></o:order>";
    let fault = "<e:Fault><faultcode>e:Client</faultcode><faultstring/></e:Fault>";
    for (header, body, expected) in [
        ("", good, Ok(())),
        ("<e:Header><any/><thing/></e:Header>\n", good, Ok(())),
        ("<e:Header/>", "<o:order/>", Ok(())),
        ("", "<o:order/><!-- after -->\n", Ok(())),
        ("", "\n<o:order><x/></o:order>", Err("/Envelope/Body/order line 2, column 1: ")),
        // The prefix of a QName in content is found outside of the body, or nowhere.
        ("", &good.replace("o:x", "q:x"), Err("/Envelope/Body/order/name line 1, column ")),
        ("<e:Header/>", "<order/>", Err("/Envelope/Body/order line 1, column ")),
        ("", "<o:order/><o:order/>", Err("/Envelope/Body line 1, column ")),
        ("", "", Err("/Envelope/Body line 1, column ")),
        ("", fault, Err("/Envelope/Body/Fault line 1, column ")),
    ] {
        let body = format!(
            "<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/' xmlns:o='urn:o'>{header}<e:Body>{body}</e:Body></e:Envelope>"
        );
        let got = check(&request, body.clone());
        match (expected, got) {
            (Ok(()), got) => assert_eq!(got, Ok(()), "{body}"),
            (Err(expected), got) => {
                let refusal = got.unwrap_err();
                let violation = &refusal.violations()[0];
                let got = format!("{} {}", violation.pointer, violation.detail);
                assert!(got.starts_with(expected) && refusal.reason() == Reason::SchemaViolation, "{body}: {got}");
            }
        }
    }
    let message = |content: &str| {
        format!(
            "<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/'><e:Body>{content}</e:Body></e:Envelope>"
        )
    };
    assert_eq!(check(&answer, message(fault)), Ok(()));
    assert_eq!(check(&answer, message("<order xmlns='urn:o'/>")), Ok(()));
    assert_eq!(refused(&answer, message("<other/>")).0, Reason::SchemaViolation);
    assert_eq!(
        refused(&answer, message(&fault.replace("<faultstring/>", "<faultstring>\u{1}</faultstring>"))).0,
        Reason::MalformedBody
    );
    assert_eq!(refused(&request, "<a>").0, Reason::MalformedBody);
    for name in ["xmlns:", "xmlns:a:b", "xmlns:1"] {
        let declared = format!("<e:Body {name}='urn:o'>");
        let (reason, words) = refused(&request, message("<order xmlns='urn:o'/>").replace("<e:Body>", &declared));
        assert_eq!(reason, Reason::MalformedBody, "{name}");
        assert!(words.contains("colon"), "{name}: {words}");
    }
}

#[test]
fn problems_of_a_schema_say_where_and_what() {
    let xs = |content: &str| in_schema("", content);
    for (main, other, expected) in [
        (xs("\n<xs:element name='a' type='nothing'/>"), String::new(), ("main.xsd", 2, "src-resolve", "nothing")),
        (
            xs("\n<xs:include schemaLocation='sub/b.xsd'/>"),
            xs("\n\n<xs:element name='a' type='nothing'/>"),
            ("sub/b.xsd", 3, "src-resolve", "nothing"),
        ),
        (
            xs("\n <xs:include schemaLocation='c.xsd'/>"),
            String::new(),
            ("main.xsd", 2, "schema_reference", "there is no `c.xsd`"),
        ),
        (
            xs("<xs:include schemaLocation='sub/b.xsd'/>"),
            "<a/>".to_owned(),
            ("sub/b.xsd", 1, "s4s-elt-schema-ns", "is not `schema`"),
        ),
        (
            xs("<xs:include schemaLocation='sub/b.xsd'/>"),
            "\n<!DOCTYPE a [<!ENTITY x '&x;'>]>".to_owned() + &xs("&x;"),
            ("sub/b.xsd", 2, "schema_reference", "refers to itself"),
        ),
        (xs("<xs:element"), String::new(), ("main.xsd", 1, "schema_reference", "acceptable XML")),
        (
            xs("\n<xs:element name='a'><xs:complexType><xs:sequence>\u{1}</xs:sequence></xs:complexType></xs:element>"),
            String::new(),
            ("main.xsd", 2, "schema_reference", "not allowed in XML"),
        ),
        ("<a/>".to_owned(), String::new(), ("main.xsd", 1, "s4s-elt-schema-ns", "is not `schema`")),
    ] {
        let files = BTreeMap::from([("main.xsd".to_owned(), main.clone()), ("sub/b.xsd".to_owned(), other)]);
        let problems = compiled(&files).unwrap_err();
        let problem = &problems[0];
        let got = (&*problem.file, problem.line, problem.constraint);
        assert_eq!(got, (expected.0, expected.1, expected.2), "{main}: {problems:?}");
        assert!(problem.message.contains(expected.3), "{main}: {problems:?}");
    }
}

#[test]
fn patterns_that_backtracking_would_never_match_are_judged() {
    let pattern = |pattern: &str| {
        let restriction =
            format!(r#"<xs:restriction base="xs:string"><xs:pattern value="{pattern}"/></xs:restriction>"#);
        schema(&in_schema(
            "",
            &format!(r#"<xs:element name="r"><xs:simpleType>{restriction}</xs:simpleType></xs:element>"#),
        ))
    };
    for (expression, good, bad) in [
        (".+@.+", "a@b", "a".repeat(50_000)),
        ("[a-z]+[a-z0-9]+[a-z]+!", "abc!", "a".repeat(50_000)),
        ("(a|aa)*b", "aab", "a".repeat(50_000)),
        ("([à]|[é])*", "àé", "à".repeat(20_000) + "e"),
        ("(application|audio)/.+(;\\s*.+=.+)*", "audio/a;b=c", ";a=b".repeat(10_000)),
    ] {
        let schema = pattern(expression);
        assert_eq!(check(&schema, format!("<r>{good}</r>")), Ok(()), "{expression}");
        assert_eq!(refused(&schema, format!("<r>{bad}</r>")).0, Reason::SchemaViolation, "{expression}");
    }
}

#[test]
fn what_takes_too_much_is_refused_in_words() {
    let nested = r#"<xs:element name="r" type="t"><xs:key name="k"><xs:selector xpath=".//a"/><xs:field xpath="@i"/></xs:key></xs:element>
        <xs:complexType name="t"><xs:sequence><xs:element name="a" type="t" minOccurs="0" maxOccurs="unbounded"/></xs:sequence><xs:attribute name="i"/></xs:complexType>"#;
    let schema = schema(&in_schema("", nested));
    let body = format!("<r>{}</r>", (0..100).map(|n| format!("<a i='{n}'/>")).collect::<String>());
    assert_eq!(check(&schema, &body), Ok(()));
    let memory = MemoryBudget::new(0);
    // Judged on the worker, then on another thread, then not at all.
    assert!(schema.judge(body.as_bytes(), None, &memory, Steps::new(100)).is_none());
    assert!(schema.check_at_once(body.as_bytes(), None, &memory).is_some_and(|judged| judged.is_ok()));
    assert!(schema.check_at_once(&[b' '; 100_000], None, &memory).is_none());
    let refusal = super::too_complex();
    assert_eq!((refusal.reason(), &*refusal.violations()[0].pointer), (Reason::SchemaViolation, "/"));
}

fn element(ty: &str) -> XmlSchema {
    schema(&in_schema("", &format!(r#"<xs:element name="r"><xs:simpleType>{ty}</xs:simpleType></xs:element>"#)))
}

/// States of a pattern may stand for as many places in it as there are: each is work, whatever the length of the body.
#[test]
fn a_pattern_costs_what_it_takes() {
    let mut random = 1_u32;
    let mut hostile = |length: usize| {
        let next = |_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { '0' } else { 'a' }
        };
        format!("<r>{}</r>", (0..length).map(next).collect::<String>())
    };
    let wide = r#"<xs:pattern value=".*[0-9].{0,1000}"/>"#;
    let restricted = |facets: &str| element(&format!(r#"<xs:restriction base="xs:string">{facets}</xs:restriction>"#));
    let (schema, memory) = (restricted(wide), MemoryBudget::new(0));
    let (short, long) = (hostile(200), hostile(60_000));
    assert_eq!(schema.check_at_once(short.as_bytes(), None, &memory).map(|judged| judged.is_ok()), Some(true));
    assert!(schema.check_at_once(long.as_bytes(), None, &memory).is_none(), "not on the worker");
    assert!(schema.judge(long.as_bytes(), None, &memory, Steps::new(steps(long.len()))).is_none(), "too complex");
    // Of a text that is too long, nothing more is looked for.
    let schema = restricted(&format!(r#"{wide}<xs:maxLength value="1000"/>"#));
    let judged = schema.check_at_once(long.as_bytes(), None, &memory).unwrap();
    assert_eq!(judged.unwrap_err().violations().len(), 1);
    // What people write is soon judged, the first time too.
    for pattern in [r".{1,2000}", r"[\p{L}\p{N} .,\-]{1,250}", r"\S+(\s\S+)*", r"([A-Z]{2}\d{2}[A-Z0-9]{1,30};?){1,20}"]
    {
        let schema = restricted(&format!(r#"<xs:pattern value="{pattern}"/>"#));
        let texts = ["Lantern", "K\u{f6}ln", &"a".repeat(250), "DE02120300000000202051;FR1420041010050500013M02606"];
        for text in texts {
            let body = format!("<r>{text}</r>");
            assert!(schema.check_at_once(body.as_bytes(), None, &memory).is_some(), "{pattern} {text}");
        }
    }
}

#[test]
fn of_a_list_no_more_is_kept_than_may_be_one_of_those_listed() {
    let list = r#"<xs:restriction><xs:simpleType><xs:list itemType="xs:int"/></xs:simpleType><xs:enumeration value="1 2 3"/></xs:restriction>"#;
    let schema = element(list);
    assert_eq!(check(&schema, "<r> 1  2 3</r>"), Ok(()));
    let long = format!("<r>{}</r>", "1 ".repeat(400_000));
    assert_eq!(refused(&schema, long).0, Reason::SchemaViolation);
    let thousand: String = (1000..2000).map(|value| format!(r#"<xs:enumeration value="{value}"/>"#)).collect();
    let years = format!(
        r#"<xs:list><xs:simpleType><xs:restriction base="xs:int">{thousand}</xs:restriction></xs:simpleType></xs:list>"#
    );
    assert_eq!(check(&element(&years), format!("<r>{}</r>", "1999 +01000 ".repeat(5_000))), Ok(()));
    assert_eq!(refused(&element(&years), "<r>1999 2000</r>").0, Reason::SchemaViolation);
}

/// All bodies together stay within `limits.memory`.
#[test]
fn what_judging_keeps_is_taken_from_the_memory_of_all() {
    let ids = r#"<xs:element name="r"><xs:complexType><xs:sequence><xs:element name="i" type="xs:ID" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element>"#;
    let schema = schema(&in_schema("", ids));
    let body = format!("<r>{}</r>", (0..10_000).map(|id| format!("<i>i{id}</i>")).collect::<String>());
    let judged = |memory: &MemoryBudget| schema.judge(body.as_bytes(), None, memory, Steps::new(steps(body.len())));
    let memory = MemoryBudget::new(2 << 20);
    let mut others = memory.reserve();
    others.grow_to((2 << 20) - 100_000).unwrap();
    assert_eq!(judged(&memory).unwrap().unwrap_err().reason(), Reason::Overloaded);
    drop(others);
    assert!(judged(&memory).unwrap().is_ok());
    assert_eq!((memory.in_use(), memory.refusals()), (0, 1));
    assert!(judged(&MemoryBudget::new(200_000)).is_none(), "it never has enough");
    // What a single value takes counts, too.
    let references = r#"<xs:element name="r"><xs:complexType><xs:attribute name="i" type="xs:ID"/><xs:attribute name="l" type="xs:IDREFS"/></xs:complexType></xs:element>"#;
    let list = format!("<r i='a' l='{}'/>", "a b ".repeat(20_000));
    let schema = self::schema(&in_schema("", references));
    let judged = schema.judge(list.as_bytes(), None, &MemoryBudget::new(400_000), Steps::new(steps(list.len())));
    assert!(judged.is_none(), "{judged:?}");
}

#[test]
fn eight_threads_share_a_schema_and_compile_their_own() {
    let shared = schema(ORDER);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let shared = shared.clone();
            scope.spawn(move || {
                for round in 0..40 {
                    let good = format!("<order xmlns='urn:o'><line item='{thread}'>{}</line></order>", round + 1);
                    assert_eq!(check(&shared, good.clone()), Ok(()));
                    assert_eq!(
                        check(&shared, good.replace("<line", "<lime").replace("</line", "</lime"))
                            .unwrap_err()
                            .violations()
                            .len(),
                        1
                    );
                    assert_eq!(refused(&shared, good.replace("</order>", "\u{1}</order>")).0, Reason::MalformedBody);
                    if round % 10 == 0 {
                        let large = format!("<order xmlns='urn:o'>{}</order>", "<line>1</line>".repeat(6000));
                        assert_eq!(check(&shared, large), Ok(()));
                        let own = in_schema(
                            "",
                            &format!("<xs:include schemaLocation='b.xsd'/><xs:element name='a' type='t{thread}'/>"),
                        );
                        let b = in_schema(
                            "",
                            &format!("<xs:simpleType name='t{thread}'><xs:restriction base='xs:int'/></xs:simpleType>"),
                        );
                        let files = BTreeMap::from([("main.xsd".to_owned(), own), ("b.xsd".to_owned(), b)]);
                        let own = compiled(&files).unwrap();
                        assert_eq!(check(&own, "<a>1</a>"), Ok(()));
                        assert_eq!(refused(&own, "<a>x</a>").0, Reason::SchemaViolation);
                    }
                }
            });
        }
    });
}
