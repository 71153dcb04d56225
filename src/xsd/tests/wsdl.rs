//! WSDLs: what is wrong in them, and what reading them costs.

use crate::budget::Steps;
use crate::xsd::compile::compile_within;
use crate::xsd::components::documents::Found;
use crate::xsd::room::Room;

const BODY: &str = r#"<soap:body use="literal"/>"#;

/// A WSDL of operations that share a message with these parts; `input` is what the binding says of the message of each.
fn wsdl(style: &str, parts: &str, operations: u32, input: &str) -> String {
    let declared = |n: u32| format!(r#"<operation name="o{n}"><input message="t:m"/></operation>"#);
    let bound = |n: u32| format!(r#"<operation name="o{n}"><input>{input}</input></operation>"#);
    format!(
        r#"<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" targetNamespace="urn:t" xmlns:t="urn:t" xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"><types><xs:schema targetNamespace="urn:t"><xs:element name="e"/><xs:element name="h"/></xs:schema></types><message name="m">{parts}</message><portType name="p">{}</portType><binding name="b" type="t:p"><soap:binding style="{style}" transport="http://schemas.xmlsoap.org/soap/http"/>{}</binding></definitions>"#,
        (0..operations).map(declared).collect::<String>(),
        (0..operations).map(bound).collect::<String>()
    )
}

fn problems_in(room: usize, wsdl: &str) -> String {
    let main = Found { file: "main.wsdl".into(), bytes: wsdl.as_bytes().into() };
    let compiled = compile_within((Steps::new(200_000_000), Room::new(room)), vec![main], &mut |_| Ok(None));
    compiled.err().unwrap_or_default().into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

fn problems(wsdl: &str) -> String {
    problems_in(256 << 20, wsdl)
}

#[test]
fn the_parts_of_a_body_are_those_of_its_message() {
    let parts = r#"<part name="body" element="t:e"/><part name="head" element="t:h"/>"#;
    let two = "the Body of a `document` message has only one part; name it with `parts` in `soap:body`";
    for (written, expected) in [
        ("body", ""),
        (" head ", ""),
        ("", ""),
        ("bdoy", "the message has no part `bdoy`"),
        ("body bdoy", "the message has no part `bdoy`"),
        ("body head", two),
    ] {
        let body = format!(r#"<soap:body use="literal" parts="{written}"/>"#);
        assert_eq!(problems(&wsdl("document", parts, 1, &body)), expected, "{written}");
    }
}

#[test]
fn parts_that_are_headers_are_not_in_the_body() {
    let parts = r#"<part name="body" element="t:e"/><part name="head" element="t:h"/>"#;
    for (part, expected) in [("head", ""), ("haed", "the message has no part `haed`")] {
        let header = format!(r#"<soap:header message="t:m" part="{part}" use="literal"/>"#);
        let said = problems(&wsdl("document", parts, 1, &(header + BODY)));
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{said}");
    }
}

#[test]
fn attributes_that_operations_share_are_paid_for() {
    let attributes: String = (0..1_000).map(|n| format!(r#"a{n}="" "#)).collect();
    let parts: String = (0..50).map(|n| format!(r#"<part {attributes} name="p{n}" type="xs:int"/>"#)).collect();
    assert_eq!(problems(&wsdl("rpc", &parts, 20, BODY)), "");
    assert!(problems(&wsdl("rpc", &parts, 2_000, BODY)).contains("the WSDL is too large"));
}

#[test]
fn long_names_that_bindings_share_are_paid_for() {
    let long = format!(r#"<portType name="p"><operation name="{}"/>"#, "o".repeat(1 << 20));
    let text = wsdl("document", "", 1, BODY).replace(r#"<portType name="p">"#, &long);
    let with = |bindings: usize| {
        let others = r#"<binding name="c" type="t:p"><soap:binding/></binding>"#.repeat(bindings);
        problems(&text.replace("</definitions>", &(others + "</definitions>")))
    };
    assert_eq!(with(2), "");
    assert!(with(400).contains("the WSDL is too large"));
}

#[test]
fn messages_end_where_there_is_no_room() {
    let parts = r#"<part name="p" type="xs:int"/>"#.repeat(2_000) + r#"<part name="last"/>"#;
    let wsdl = wsdl("rpc", &parts, 1, BODY);
    assert_eq!(problems_in(64 << 20, &wsdl), "a part of an `rpc` message needs `type`");
    let short = problems_in(1_000_000, &wsdl);
    assert!(short.contains("more than 256 MiB") && !short.contains("needs `type`"), "{short}");
}
