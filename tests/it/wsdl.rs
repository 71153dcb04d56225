//! SOAP services by their WSDL.

use crate::support::*;

const SOAP_1_1: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const SOAP_1_2: &str = "http://www.w3.org/2003/05/soap-envelope";
const CANCEL: &str = r#"<cancel xmlns="urn:example:service"><number>7</number></cancel>"#;
const CANCELLED: &str = r#"<cancelled xmlns="urn:example:service"/>"#;

/// Both bindings of an `rpc` service, in two files.
const RPC: &str = r#"<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:s11="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:s12="http://schemas.xmlsoap.org/wsdl/soap12/" xmlns:t="urn:stock" targetNamespace="urn:stock:bindings"
  xmlns:b="urn:stock:bindings">
<import namespace="urn:stock" location="stock.wsdl"/>
<binding name="one" type="t:Stock"><s11:binding style="rpc" transport="http://schemas.xmlsoap.org/soap/http"/>
  <operation name="Price"><s11:operation soapAction=""/>
    <input><s11:body use="literal" namespace="urn:stock"/></input>
    <output><s11:body use="literal" namespace="urn:stock"/></output></operation>
  <operation name="Ping"><s11:operation style="document" soapAction="urn:ping"/>
    <input><s11:body use="literal"/></input><output><s11:body use="literal"/></output></operation></binding>
<binding name="two" type="t:Stock"><s12:binding style="rpc" transport="http://schemas.xmlsoap.org/soap/http"/>
  <operation name="Price"><s12:operation soapAction="urn:price"/>
    <input><s12:body use="literal" namespace="urn:stock"/></input>
    <output><s12:body use="literal" namespace="urn:stock"/></output></operation></binding>
</definitions>"#;
const STOCK: &str = r#"<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:xs="http://www.w3.org/2001/XMLSchema"
  xmlns:t="urn:stock" xmlns:a="urn:a" targetNamespace="urn:stock">
<import namespace="urn:stock:bindings" location="rpc.wsdl"/>
<types>
  <xs:schema targetNamespace="urn:stock"><xs:import namespace="urn:a"/>
    <xs:complexType name="Item"><xs:sequence><xs:element name="sku" type="a:Sku"/></xs:sequence></xs:complexType></xs:schema>
  <xs:schema targetNamespace="urn:a"><xs:simpleType name="Sku"><xs:restriction base="xs:string">
    <xs:pattern value="[A-Z]-[0-9]+"/></xs:restriction></xs:simpleType></xs:schema>
</types>
<message name="Ask"><part name="item" type="t:Item"/><part name="count" type="xs:int"/></message>
<message name="Answer"><part name="price" type="xs:decimal"/></message>
<message name="Nothing"/>
<portType name="Stock">
  <operation name="Price"><input message="t:Ask"/><output message="t:Answer"/></operation>
  <operation name="Ping"><input message="t:Nothing"/><output message="t:Nothing"/></operation></portType>
</definitions>"#;

fn envelope(version: &str, header: &str, body: &str) -> String {
    format!("<s:Envelope xmlns:s=\"{version}\"><s:Header>{header}</s:Header>\n<s:Body>{body}</s:Body></s:Envelope>")
}

fn example(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/xml-soap/schemas");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// The service of the example, before an upstream.
fn invoices(upstream: &Upstream) -> Proxy {
    let contract = "public: true, request: { soap: schemas/service.wsdl }, response: { soap: schemas/service.wsdl }";
    let files = ["service.wsdl", "invoice.xsd", "line.xsd"];
    let proxy = files
        .iter()
        .fold(proxy().before(upstream), |proxy, name| proxy.file(&format!("schemas/{name}"), example(name)));
    proxy.route("POST /service", contract).start()
}

/// An upstream that answers each call with the same message.
fn answering(body: &str) -> Upstream {
    let answer = envelope(SOAP_1_1, "", body);
    upstream().does(move |call| call.answer(200, &[("content-type", "text/xml")], answer.clone())).start()
}

#[test]
fn only_the_operations_of_a_wsdl_can_be_called() {
    let upstream = answering(CANCELLED);
    let proxy = invoices(&upstream);
    let mut client = client(&proxy);
    let mut post = |header: &str, body: &str| {
        client.post("/service", envelope(SOAP_1_1, header, body)).header("content-type", "text/xml").send()
    };
    post("", CANCEL).is(200);
    post("<any xmlns='urn:other' s:mustUnderstand='1'/>", CANCEL).is(200);
    post("<caller xmlns='urn:example:service'>acme</caller>", CANCEL).is(200);
    let wrong = post("<caller xmlns='urn:example:service'>not a name</caller>", CANCEL);
    assert_eq!(wrong.refused(422, "schema_violation").json()["errors"][0]["pointer"], "/Envelope/Header/caller");
    let wrong = post("", &CANCEL.replace('7', "x")).refused(422, "schema_violation");
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/Envelope/Body/cancel/number");
    // It is declared, but not what a request contains.
    let wrong = post("", CANCELLED).refused(422, "schema_violation");
    let detail = wrong.json()["errors"][0]["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "line 2, column 9: this element is not that of an operation; the operations are Send, Cancel");
    post("", "").refused(422, "schema_violation");
    proxy.done();
}

#[test]
fn an_action_is_that_of_the_operation_in_the_body() {
    let upstream = answering(CANCELLED);
    let proxy = invoices(&upstream);
    let mut client = client(&proxy);
    let mut post = |name: &str, value: &str, media: &str| {
        let call = client.post("/service", envelope(SOAP_1_1, "", CANCEL)).header("content-type", media);
        call.header(name, value).send()
    };
    for value in ["\"urn:example:service#Cancel\"", "urn:example:service#Cancel", "\"\"", ""] {
        post("SOAPAction", value, "text/xml").is(200);
    }
    for value in ["\"urn:example:service#Send\"", "urn:example:service#Send", "\"urn:other\""] {
        let refused = post("soapaction", value, "text/xml").refused(422, "schema_violation");
        assert!(refused.text().contains("the SOAPAction is not that of the operation"), "{value}");
    }
    // What one server takes for this action, another takes for a part of it.
    for value in [
        "'urn:example:service#Cancel'",
        "\"urn:example:service#Cancel",
        "urn:a\"",
        "\" urn:example:service#Cancel\"",
        "a b",
    ] {
        post("soapaction", value, "text/xml").refused(400, "malformed_body");
    }
    post("x-any", "", "application/soap+xml; action=\"urn:example:service#Send\"").refused(422, "schema_violation");
    post("x-any", "", "application/soap+xml; action=\"urn:example:service#Cancel\"").is(200);
    let cancel = "action=\"urn:example:service#Cancel\"";
    for hidden in [
        "action*=utf-8''urn%3Aother",
        &format!("x-action=\"urn:example:service#Send\"; {cancel}"),
        &format!("a=\"; action=urn:example:service#Send; \"; {cancel}"),
        &format!("{cancel}; reaction=\"urn:example:service#Send\""),
        "action=\"urn:example:service#Cancel'\"",
    ] {
        post("x-any", "", &format!("application/soap+xml; {hidden}")).refused(400, "malformed_body");
    }
    post("x-any", "", &format!("application/soap+xml; charset=utf-8; {cancel}")).is(200);
    let twice = client.post("/service", envelope(SOAP_1_1, "", CANCEL)).header("content-type", "text/xml");
    twice.header("soapaction", "\"\"").header("soapaction", "\"\"").send().refused(400, "malformed_body");
    proxy.done();
}

#[test]
fn an_action_in_the_header_is_that_of_the_operation_too() {
    let upstream = answering(CANCELLED);
    let proxy = invoices(&upstream);
    let mut client = client(&proxy);
    let mut post = |header: &str| {
        let call = client.post("/service", envelope(SOAP_1_1, header, CANCEL)).header("content-type", "text/xml");
        call.send()
    };
    let action = |action: &str| format!("<Action xmlns='http://www.w3.org/2005/08/addressing'>{action}</Action>");
    for good in
        ["urn:example:service#Cancel", "urn:example:service:Invoices:CancelRequest", " &#117;rn:example:service#Cancel"]
    {
        post(&action(good)).is(200);
    }
    for wrong in ["urn:example:service#Send", "urn:example:service:Invoices:SendRequest", "<![CDATA[urn:any]]>"] {
        let refused = post(&action(wrong)).refused(422, "schema_violation");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/Envelope/Body", "{wrong}");
    }
    let cancel = action("urn:example:service#Cancel");
    post(&format!("{cancel}{cancel}")).refused(422, "schema_violation");
    post(&cancel.replace("#", "<!-- -->#")).is(200);
    post(&cancel.replace("#", "<x/>#")).refused(422, "schema_violation");
    post(&cancel.replace("#", "<!-- --> <!-- -->#")).refused(422, "schema_violation");
    for older in ["2003/03", "2004/03", "2004/08"] {
        let older = cancel.replace("www.w3.org/2005/08", &format!("schemas.xmlsoap.org/ws/{older}"));
        post(&older).is(200);
        post(&older.replace("Cancel", "Send")).refused(422, "schema_violation");
    }
    proxy.done();
}

#[test]
fn a_route_allows_the_operations_that_it_names() {
    let upstream = answering(CANCELLED);
    let only = |names: &str| {
        format!("public: true, request: {{ soap: {{ wsdl: schemas/service.wsdl, operations: [{names}] }} }}")
    };
    let mut writes = proxy().before(&upstream);
    for name in ["service.wsdl", "invoice.xsd", "line.xsd"] {
        writes = writes.file(&format!("schemas/{name}"), example(name));
    }
    let proxy = writes.route("POST /cancel", &only("Cancel")).route("POST /send", &only("Send")).start();
    let mut client = client(&proxy);
    let message = envelope(SOAP_1_1, "", CANCEL);
    client.post("/cancel", &message).header("content-type", "text/xml").send().is(200);
    let refused = client.post("/send", &message).header("content-type", "text/xml").send();
    let refused = refused.refused(422, "schema_violation");
    assert!(
        refused.text().contains("this operation is not allowed here; the operations are Send\""),
        "{}",
        refused.text()
    );
    proxy.done();
    let said = checked_as(&example("service.wsdl"), "soap: { wsdl: schemas/service.wsdl, operations: [Cancle] }");
    assert!(said.contains("there is no operation `Cancle`") && said.contains("`Cancel`"), "{said}");
    let said = checked_as(&example("service.wsdl"), "soap: { wsdl: schemas/invoice.xsd, operations: [Cancel] }");
    assert!(said.contains("this is an XSD"), "{said}");
    let said = checked_as(&example("service.wsdl"), "soap: { operations: [Cancel] }");
    assert!(said.contains("`soap` has no `wsdl`"), "{said}");
}

#[test]
fn responses_are_those_of_the_operation_or_faults() {
    let receipt = "<receipt xmlns='urn:example:invoice'><number>7</number></receipt>".to_owned();
    for (request, body, good) in [
        (CANCEL, CANCELLED.to_owned(), true),
        (CANCEL, CANCEL.to_owned(), false),
        (CANCEL, receipt.clone(), false),
        (&*invoice(), receipt, true),
        (&*invoice(), CANCELLED.to_owned(), false),
        (CANCEL, fault("<unknownInvoice xmlns='urn:example:service'>7</unknownInvoice>"), true),
        (CANCEL, fault("<unknownInvoice xmlns='urn:example:service'>x</unknownInvoice>"), false),
        (CANCEL, fault("<any/>"), true),
    ] {
        // Large messages are judged while they come.
        let large = "<!-- a comment so that there is more -->".repeat(3_000);
        for (before_request, before_response) in [("", ""), (&*large, ""), ("", &*large), (&*large, &*large)] {
            let upstream = answering(&format!("{before_response}{body}"));
            let proxy = invoices(&upstream);
            let mut client = client(&proxy);
            let call = envelope(SOAP_1_1, "", &format!("{before_request}{request}"));
            let answer = client.post("/service", call).header("content-type", "text/xml").send();
            if good {
                drop(answer.is(200));
            } else {
                drop(answer.refused(502, "invalid_upstream_response"));
            }
            // A stop gives a connection that is open two seconds.
            drop(client);
            proxy.done();
        }
    }
}

#[test]
fn faults_are_validated_under_the_statuses_that_they_have() {
    let of = |number: &str| fault(&format!("<unknownInvoice xmlns='urn:example:service'>{number}</unknownInvoice>"));
    for (status, media, body, good) in [
        (500, "text/xml", envelope(SOAP_1_1, "", &of("7")), true),
        (500, "text/xml", envelope(SOAP_1_1, "", &of("x")), false),
        (400, "text/xml", envelope(SOAP_1_1, "", &of("x")), false),
        (500, "text/html", "<p>out of order".to_owned(), true),
        (404, "text/xml", "<none/>".to_owned(), true),
    ] {
        let upstream =
            upstream().does(move |call| call.answer(status, &[("content-type", media)], body.clone())).start();
        let proxy = invoices(&upstream);
        let mut client = client(&proxy);
        let call = client.post("/service", envelope(SOAP_1_1, "", CANCEL)).header("content-type", "text/xml");
        if good {
            drop(call.send().is(status));
        } else {
            drop(call.send().refused(502, "invalid_upstream_response"));
        }
        drop(client);
        proxy.done();
    }
}

#[test]
fn nothing_is_a_response_where_the_operation_has_none() {
    let wsdl = example("service.wsdl");
    let output = "<wsdl:output message=\"tns:Cancelled\"/>";
    assert!(wsdl.contains(output));
    let one_way = wsdl.replace(output, "");
    let cancel = one_way.split("<wsdl:operation name=\"Cancel\">").last().unwrap().to_owned();
    let without = cancel.replacen("<wsdl:output><soap:body use=\"literal\"/></wsdl:output>", "", 1);
    let one_way = one_way.replace(&cancel, &without);
    for (operation, body, good) in
        [(CANCEL.to_owned(), "", true), (CANCEL.to_owned(), "<no/>", false), (invoice(), "", false)]
    {
        let upstream = upstream().does(move |call| call.answer(202, &[], body)).start();
        let proxy = proxy()
            .before(&upstream)
            .file("schemas/service.wsdl", &*one_way)
            .file("schemas/invoice.xsd", example("invoice.xsd"))
            .file("schemas/line.xsd", example("line.xsd"))
            .route(
                "POST /service",
                "public: true, request: { soap: schemas/service.wsdl }, response: { soap: schemas/service.wsdl }",
            )
            .start();
        let mut client = client(&proxy);
        let call = client.post("/service", envelope(SOAP_1_1, "", &operation)).header("content-type", "text/xml");
        if good {
            drop(call.send().is(202));
        } else {
            drop(call.send().refused(502, "invalid_upstream_response"));
        }
        drop(client);
        proxy.done();
    }
}

fn invoice() -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/xml-soap/invoice.xml"))
        .unwrap()
}

fn fault(detail: &str) -> String {
    format!("<s:Fault><faultcode>s:Client</faultcode><faultstring>no</faultstring><detail>{detail}</detail></s:Fault>")
}

#[test]
fn rpc_messages_have_the_parts_of_their_operation() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("rpc.wsdl", RPC)
        .file("stock.wsdl", STOCK)
        .route("POST /stock", "public: true, request: { soap: rpc.wsdl }")
        .start();
    let mut client = client(&proxy);
    let mut post = |version: &str, body: &str, media: &str| {
        client.post("/stock", envelope(version, "", body)).header("content-type", media).send()
    };
    let good = "<t:Price xmlns:t='urn:stock'><item><sku>A-1</sku></item><count>2</count></t:Price>";
    post(SOAP_1_1, good, "text/xml").is(200);
    post(SOAP_1_2, good, "application/soap+xml").is(200);
    post(SOAP_1_2, good, "application/soap+xml; action=\"urn:price\"").is(200);
    post(SOAP_1_2, good, "application/soap+xml; action=\"urn:ping\"").refused(422, "schema_violation");
    // The binding names no action for SOAP 1.1: none, or that of WS-Addressing.
    post(SOAP_1_1, good, "text/xml; action=\"urn:stock:Stock:PriceRequest\"").is(200);
    post(SOAP_1_1, good, "text/xml; action=\"urn:any\"").refused(422, "schema_violation");
    post(SOAP_1_1, good, "text/xml; action=\"urn:ping\"").refused(422, "schema_violation");
    post(SOAP_1_1, "", "text/xml").is(200);
    post(SOAP_1_2, "", "application/soap+xml").refused(422, "schema_violation");
    for (wrong, pointer) in [
        (good.replace("A-1", "a-1"), "/Envelope/Body/Price/item/sku"),
        (good.replace("<count>2</count>", ""), "/Envelope/Body/Price"),
        (good.replace("<count>", "<count xmlns='urn:stock'>"), "/Envelope/Body/Price/count"),
        (good.replace("</t:Price>", "<more/></t:Price>"), "/Envelope/Body/Price/more"),
        (good.replace("xmlns:t='urn:stock'", "xmlns:t='urn:other'"), "/Envelope/Body"),
        ("<Price xmlns=''/>".to_owned(), "/Envelope/Body"),
    ] {
        let refused = post(SOAP_1_1, &wrong, "text/xml").refused(422, "schema_violation");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{wrong}");
    }
    proxy.done();
}

/// A server that goes by the action would run `Ping`.
#[test]
fn an_action_of_one_operation_is_none_that_is_derived_from_the_name_of_another() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("rpc.wsdl", RPC.replace("urn:ping", "urn:ping/Price"))
        .file("stock.wsdl", STOCK)
        .route("POST /stock", "public: true, request: { soap: { wsdl: rpc.wsdl, operations: [Price] } }")
        .start();
    let mut client = client(&proxy);
    let price = "<t:Price xmlns:t='urn:stock'><item><sku>A-1</sku></item><count>2</count></t:Price>";
    let mut post = |action: &str| {
        let call = client.post("/stock", envelope(SOAP_1_1, "", price)).header("content-type", "text/xml");
        call.header("soapaction", action).send()
    };
    post("\"urn:other/Price\"").is(200);
    post("\"urn:ping/Price\"").refused(422, "schema_violation");
    proxy.done();
}

#[test]
fn what_a_wsdl_lacks_is_reported_with_its_place() {
    for (wrong, right, words) in [
        (
            "soap:body use=\"literal\"/></wsdl:input>\n      <wsdl:output><soap:body use=\"literal\"",
            "soap:body use=\"encoded\"/></wsdl:input>\n      <wsdl:output><soap:body use=\"literal\"",
            "`use=\"encoded\"` is not supported",
        ),
        ("element=\"i:receipt\"", "element=\"i:reciept\"", "there is no element `{urn:example:invoice}reciept`"),
        ("element=\"i:receipt\"", "type=\"xs:string\"", "this part needs `element`"),
        ("message=\"tns:Receipt\"", "message=\"tns:Reciept\"", "there is no message `{urn:example:service}Reciept`"),
        ("type=\"tns:Invoices\"", "type=\"tns:Invoice\"", "there is no portType `{urn:example:service}Invoice`"),
        (
            "<wsdl:operation name=\"Send\">\n      <soap",
            "<wsdl:operation name=\"Sent\">\n      <soap",
            "is not in the portType",
        ),
        ("<wsdl:message name=\"Receipt\">", "<wsdl:message name=\"Invoice\">", "is defined twice"),
        ("soap/http", "soap/smtp", "has no SOAP binding over HTTP"),
        ("part=\"caller\"", "part=\"other\"", "the message has no part `other`"),
        ("xs:NCName", "xs:NoName", "there is no type `xs:NoName`"),
    ] {
        let wsdl = example("service.wsdl");
        let line = wsdl.split(wrong).next().unwrap().lines().count();
        let said = checked(&wsdl.replacen(wrong, right, 1), "soap");
        assert!(said.contains(words), "{words}: {said}");
        assert!(said.contains("schemas/service.wsdl:"), "{line}: {said}");
    }
    // As those of WS-Notification, which ONVIF's import.
    let wsdl = example("service.wsdl");
    let (unbound, _) = wsdl.split_once("<wsdl:binding").unwrap();
    let said = checked(&format!("{unbound}</wsdl:definitions>"), "soap");
    assert!(said.contains("name the one that imports it"), "{said}");
    assert_eq!(checked(&example("service.wsdl"), "soap"), "");
    assert!(checked(&example("service.wsdl"), "xml").contains("write `soap:` in place of `xml:`"));
    let itself = "<wsdl:import namespace=\"urn:example:service\" location=\"service.wsdl\"/><wsdl:types>";
    assert_eq!(checked(&example("service.wsdl").replacen("<wsdl:types>", itself, 1), "soap"), "");
    let outside = itself.replace("service.wsdl", "../../outside.wsdl");
    let said = checked(&example("service.wsdl").replacen("<wsdl:types>", &outside, 1), "soap");
    assert!(said.contains("outside the folder"), "{said}");
    let last = example("service.wsdl").replace("xs:NCName", "xs:NoName");
    assert!(checked(&last, "soap").contains("schemas/service.wsdl:17:7"));
}

/// What `check` says of a policy with this WSDL.
fn checked(wsdl: &str, key: &str) -> String {
    checked_as(wsdl, &format!("{key}: schemas/service.wsdl"))
}

/// What `check` says of a policy whose route has this contract.
fn checked_as(wsdl: &str, contract: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream().start();
    let policy = proxy()
        .before(&upstream)
        .with("allow: [unused_plan free]")
        .file("schemas/service.wsdl", wsdl)
        .file("schemas/invoice.xsd", example("invoice.xsd"))
        .file("schemas/line.xsd", example("line.xsd"))
        .route("POST /service", &format!("public: true, request: {{ {contract} }}"));
    let path = policy.write(folder.path());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(&path).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}
