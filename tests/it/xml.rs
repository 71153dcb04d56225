//! XML and SOAP, in and out.

use crate::support::*;

const INVOICE: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:invoice"
  targetNamespace="urn:invoice" elementFormDefault="qualified">
  <xs:include schemaLocation="line.xsd"/>
  <xs:element name="invoice"><xs:complexType><xs:sequence>
    <xs:element name="number" type="xs:positiveInteger"/>
    <xs:element name="line" type="Line" maxOccurs="unbounded"/>
  </xs:sequence></xs:complexType></xs:element>
</xs:schema>"#;

const LINE: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:invoice" elementFormDefault="qualified">
  <xs:complexType name="Line"><xs:sequence>
    <xs:element name="sku" type="xs:NCName"/>
    <xs:element name="amount" type="xs:decimal"/>
  </xs:sequence></xs:complexType>
</xs:schema>"#;

fn invoice(number: &str, amount: &str) -> String {
    format!(
        "<invoice xmlns=\"urn:invoice\">\n  <number>{number}</number>\n  <line><sku>A</sku><amount>{amount}</amount></line>\n</invoice>"
    )
}

fn soap(body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Header/><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn taking(upstream: &Upstream, asks: &str) -> Proxy {
    proxy()
        .before(upstream)
        .file("schemas/invoice.xsd", INVOICE)
        .file("schemas/line.xsd", LINE)
        .route("POST /invoices", &format!("public: true, {asks}"))
        .start()
}

#[test]
fn xml_that_keeps_to_its_schema_goes_on_as_it_came() {
    let upstream = upstream().start();
    let proxy = taking(&upstream, "request: { xml: schemas/invoice.xsd }");
    let mut client = client(&proxy);
    let good = invoice("7", "12.50");
    for kind in ["application/xml", "text/xml; charset=utf-8", "application/invoice+xml"] {
        let answer = client.post("/invoices", &good).header("content-type", kind).send().is(200);
        assert_eq!(answer.json()["body"], good);
    }
    let answer = client.post("/invoices", invoice("-1", "secret-value")).header("content-type", "text/xml").send();
    let answer = answer.refused(422, "schema_violation");
    let errors = answer.json()["errors"].clone();
    assert_eq!(
        (&errors[0]["pointer"], &errors[1]["pointer"]),
        (&json!("/invoice/number"), &json!("/invoice/line/amount"))
    );
    assert!(errors[1]["detail"].as_str().unwrap().contains("line 3"), "{errors}");
    assert!(!answer.text().contains("secret-value"));
    client.post("/invoices", "{}").send().refused(415, "unsupported_media_type");
    let mut said_to_be = |kind: &str| client.post("/invoices", &good).header("content-type", kind).send();
    said_to_be("text/xml; charset=utf-16").refused(400, "malformed_body");
    said_to_be("text/xml; charset=utf-7").refused(415, "unsupported_media_type");
    proxy.done();
}

#[test]
fn what_is_dangerous_is_refused_before_it_is_parsed() {
    let upstream = upstream().start();
    let proxy = taking(&upstream, "request: { xml: schemas/invoice.xsd, max_size: 16MiB }");
    let mut client = client(&proxy);
    let laughs = "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><x>&b;</x>";
    let outside = "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><x>&a;</x>";
    let attributes: String = (0..80_000).map(|number| format!(" a{number}=\"\"")).collect();
    for body in [
        laughs.to_owned(),
        outside.to_owned(),
        format!("<x{attributes}/>"),
        "<x>".repeat(100_000),
        format!("<x a=\"{}\"", "a".repeat(10 << 20)),
        "<?xml version=\"1.0\" encoding=\"utf-16\"?><x/>".to_owned(),
        "<x>".to_owned(),
    ] {
        let answer = client.post("/invoices", &body).header("content-type", "text/xml").send();
        assert!(!answer.refused(400, "malformed_body").text().contains("root:"));
    }
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn soap_is_judged_within_its_envelope_both_ways() {
    let upstream = upstream()
        .does(|call| {
            let body = call.body()?;
            let fault = soap("<s:Fault><faultcode>s:Server</faultcode><faultstring>no</faultstring></s:Fault>");
            let answer = if body.windows(4).any(|part| part == b"<num") { soap(&invoice("1", "1")) } else { fault };
            call.answer(200, &[("content-type", "text/xml")], answer)
        })
        .start();
    let proxy = taking(&upstream, "request: { soap: schemas/invoice.xsd }, response: { soap: schemas/invoice.xsd }");
    let mut client = client(&proxy);
    let mut post = |body: &str| client.post("/invoices", body).header("content-type", "text/xml").send();
    post(&soap(&invoice("7", "1"))).is(200);
    assert_eq!(
        post(&soap(&invoice("7", "x"))).refused(422, "schema_violation").json()["errors"][0]["pointer"],
        "/Envelope/Body/invoice/line/amount"
    );
    post(&invoice("7", "1")).refused(422, "schema_violation");
    post(&soap("")).refused(422, "schema_violation");
    proxy.done();
}

#[test]
fn a_schema_that_cannot_be_kept_is_reported_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream().start();
    let policy = proxy()
        .before(&upstream)
        .file("schemas/invoice.xsd", INVOICE)
        .file("schemas/line.xsd", LINE.replace("xs:NCName", "xs:NoName"))
        .route("POST /invoices", "public: true, request: { xml: schemas/invoice.xsd }");
    let path = policy.write(folder.path());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("schemas/line.xsd:3"), "{said}");
}

/// Runs `check` on a policy whose route judges by `schemas/main.xsd`; returns its exit code and what it says.
fn checked(catalog: &str, files: &[(&str, &[u8])]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).with(catalog);
    let path = policy.route("POST /a", "public: true, request: { xml: schemas/main.xsd }").write(folder.path());
    for (name, bytes) in files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(&path).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_body_in_another_encoding_is_judged_as_text_and_goes_on_as_it_came() {
    const NAME: &str = r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="name"><xs:simpleType>
        <xs:restriction base="xs:string"><xs:maxLength value="3"/></xs:restriction></xs:simpleType></xs:element></xs:schema>"#;
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("name.xsd", NAME)
        .route("POST /names", "public: true, request: { xml: name.xsd }")
        .start();
    let mut client = client(&proxy);
    let mut sent = |media: &str, body: &[u8]| client.post("/names", body).header("content-type", media).send();
    let latin = |name: &[u8]| [b"<?xml version='1.0' encoding='ISO-8859-1'?><name>", name, b"</name>"].concat();
    let utf16 = |name: &str| -> Vec<u8> {
        let text = format!("\u{feff}<name>{name}</name>");
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    for (media, body) in [
        ("text/xml", latin(b"Zo\xeb")),
        ("text/xml; charset=ISO-8859-1", latin(b"Zo\xeb")),
        ("application/xml; charset=utf-16", utf16("Zoë")),
        ("application/xml", utf16("Zoë")),
    ] {
        sent(media, &body).is(200);
        assert_eq!(upstream.seen().last().unwrap().body, body, "{media}");
    }
    sent("text/xml", &latin(b"Zo\xeb!")).refused(422, "schema_violation");
    sent("text/xml", &utf16("Zoë!")).refused(422, "schema_violation");
    // The upstream might read something else than was judged.
    sent("text/xml; charset=utf-8", &latin(b"Zo\xeb")).refused(400, "malformed_body");
    sent("text/xml; charset=iso-8859-1", b"<name>Zo\xc3\xab</name>").refused(400, "malformed_body");
    sent("text/xml; charset=utf-7", b"<name>Zoe</name>").refused(415, "unsupported_media_type");
    assert_eq!(upstream.seen().len(), 4);
    proxy.done();
}

#[test]
fn schemas_are_found_by_their_urls_and_in_the_encodings_that_people_publish_them_in() {
    let main = br#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:l="urn:l">
        <xs:import namespace="urn:l" schemaLocation="https://example.com/xsd/l.xsd"/>
        <xs:import namespace="http://www.w3.org/XML/1998/namespace" schemaLocation="http://www.w3.org/2001/xml.xsd"/>
        <xs:include schemaLocation="more\part%201.xsd"/><xs:element name="a" type="l:t"/></xs:schema>"#;
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><!DOCTYPE s [<!ENTITY x 'xs:string'>]>\
        <s:schema xmlns:s='http://www.w3.org/2001/XMLSchema' xmlns:xs='http://www.w3.org/2001/XMLSchema' targetNamespace='urn:l'>\
        <s:simpleType name='t'><s:restriction base='&x;'><s:enumeration value='\xe9'/></s:restriction></s:simpleType></s:schema>";
    let part = br#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="b"/></xs:schema>"#;
    let files: &[(&str, &[u8])] =
        &[("schemas/main.xsd", main), ("vendor/l.xsd", latin), ("schemas/more/part 1.xsd", part)];
    let catalog = "catalog: { 'https://example.com/xsd/': vendor/ }\n";
    let (code, said) = checked(catalog, files);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = checked("", files);
    assert_eq!(code, Some(2));
    assert!(said.contains("schemas/main.xsd:2:9") && said.contains("nothing is fetched"), "{said}");
    assert!(said.contains("`catalog`"), "{said}");
    let (code, said) = checked(catalog, &files[..1]);
    assert_eq!(code, Some(2));
    assert!(said.contains("schemas/main.xsd:4:9") && said.contains("there is no file"), "{said}");
}

#[test]
fn every_problem_of_a_schema_is_told_and_nothing_outside_the_folder_is_read() {
    let main = br#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:include schemaLocation="../../outside.xsd"/><xs:include schemaLocation="/etc/passwd"/></xs:schema>"#;
    let (code, said) = checked("", &[("schemas/main.xsd", main)]);
    assert_eq!(code, Some(2));
    assert!(said.contains("main.xsd:2:3") && said.contains("main.xsd:2:51"), "{said}");
    assert!(said.contains("outside the folder") && !said.contains("root:"), "{said}");
    let main = "<xs:schema xmlns:xs=\"http://www.w3.org/2001/XMLSchema\">\n<xs:element name='ü'/><xs:element name='a' type='no'/>\n\
        <xs:element name='b'><xs:complexType><xs:sequence><xs:any minOccurs='0'/><xs:element ref='a'/></xs:sequence></xs:complexType></xs:element></xs:schema>";
    let (_, said) = checked("", &[("schemas/main.xsd", main.as_bytes())]);
    assert!(said.contains("main.xsd:2:23") && said.contains("(src-resolve)"), "{said}");
    let (_, said) = checked("", &[("schemas/main.xsd", main.replace(" type='no'", "").as_bytes())]);
    assert!(said.contains("main.xsd:3:") && said.contains("(cos-nonambig)"), "{said}");
}

fn large_invoice(last: &str) -> String {
    let lines = "\n<line><sku>A</sku><amount>12.50</amount></line>".repeat(20_000);
    format!(
        "<invoice xmlns=\"urn:invoice\"><number>7</number>{lines}\n<line><sku>B</sku><amount>{last}</amount></line></invoice>"
    )
}

#[test]
fn what_is_wrong_with_a_large_body_is_told_however_it_comes() {
    let upstream = upstream().start();
    let proxy = taking(&upstream, "request: { xml: schemas/invoice.xsd, max_size: 4MiB }");
    let mut client = client(&proxy);
    let mut send = |body: &str, chunked: bool| {
        let head = "POST /invoices HTTP/1.1\r\nhost: a\r\ncontent-type: application/xml\r\n";
        let chunk = |chunk: &[u8]| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
        let request = match chunked {
            true => {
                let chunks: String = body.as_bytes().chunks(1_000).map(chunk).collect();
                format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
            }
            false => format!("{head}content-length: {}\r\n\r\n{body}", body.len()),
        };
        client.raw(request, 1).answer()
    };
    for chunked in [false, true] {
        let good = large_invoice("1");
        assert_eq!(send(&good, chunked).is(200).json()["body"], good);
        let errors = send(&large_invoice("x"), chunked).refused(422, "schema_violation").json()["errors"].clone();
        assert_eq!(errors[0]["pointer"], "/invoice/line[20001]/amount");
        assert!(errors[0]["detail"].as_str().unwrap().starts_with("line 20002, column 19: "), "{errors}");
        let malformed = send(&large_invoice("</x>"), chunked).refused(400, "malformed_body");
        assert!(malformed.text().contains("line 20002"), "{}", malformed.text());
    }
    proxy.done();
}

#[test]
fn a_large_answer_is_judged_too() {
    let upstream = upstream()
        .does(|call| {
            let last = if call.body()?.is_empty() { "x" } else { "1" };
            call.answer(200, &[("content-type", "text/xml")], large_invoice(last))
        })
        .start();
    let proxy = taking(&upstream, "response: { xml: schemas/invoice.xsd, max_size: 4MiB }");
    let mut client = client(&proxy);
    assert_eq!(client.post("/invoices", "a").send().is(200).text(), large_invoice("1"));
    client.post("/invoices", "").send().refused(502, "invalid_upstream_response");
    proxy.done();
}
