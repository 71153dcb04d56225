//! `bartizan init`: from a description to a policy that is good.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::*;

fn bartizan(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bartizan")).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with what is in one of the repository's.
fn folder_of(path: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            if from.is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy(&from, &to);
            } else {
                std::fs::copy(&from, &to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), folder.path());
    folder
}

fn folder() -> tempfile::TempDir {
    folder_of("tests/cases/openapi")
}

#[test]
fn every_description_becomes_a_good_policy() {
    let folder = folder();
    let mut count = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.contains("openapi") {
            continue;
        }
        count += 1;
        let out = format!("{name}.policy.yaml");
        let made =
            bartizan(folder.path(), &["init", "--openapi", &name, "--upstream", "http://127.0.0.1:9", "--out", &out]);
        let said = text(&made.stderr);
        assert!(made.status.success() && !said.contains("error"), "{said}");
        assert_eq!(said.lines().last().unwrap().split('_').next(), Some("bz"), "{said}");
        let checked = bartizan(folder.path(), &["check", &out]);
        let policy = std::fs::read_to_string(folder.path().join(&out)).unwrap();
        assert!(checked.status.success(), "{}\n{policy}", text(&checked.stderr));
        assert!(!text(&checked.stdout).contains("everyone"), "closed by default\n{policy}");
        // Comments aside, nothing in it reads this process's environment.
        let values = policy.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(values.into_iter().all(|line| !line.contains("${")), "{policy}");
        // Not over a policy that is there.
        let again =
            bartizan(folder.path(), &["init", "--openapi", &name, "--upstream", "http://127.0.0.1:9", "--out", &out]);
        assert_eq!(again.status.code(), Some(1));
        assert_eq!(std::fs::read_to_string(folder.path().join(&out)).unwrap(), policy);
    }
    assert!(count >= 3);
}

#[test]
fn what_it_makes_serves_the_key_that_it_shows() {
    let (folder, upstream) = (folder(), upstream().start());
    let made = bartizan(folder.path(), &["init", "--openapi", "orders.openapi.yaml", "--upstream", &upstream.url()]);
    let said = text(&made.stderr);
    let key = said.lines().last().unwrap();
    let policy = text(&made.stdout)
        .replace("address: 127.0.0.1:8080", "address: 127.0.0.1:0")
        .replace("audit: [stdout]", "audit: [{ file: { path: audit.jsonl } }]")
        + &format!("admin: {{ address: \"127.0.0.1:0\", token: {} }}\n", proxy::ADMIN_TOKEN);
    let mut proxy = proxy().text(&policy);
    for name in ["orders.openapi.yaml", "schemas/order.yaml", "schemas/paths.yaml", "schemas/shared.json"] {
        proxy = proxy.file(name, std::fs::read_to_string(folder.path().join(name)).unwrap());
    }
    let proxy = proxy.start();
    let mut client = client(&proxy);
    client.get("/v1/orders").send().refused(401, "missing_credentials");
    client.get("/v1/healthz").send().refused(401, "missing_credentials");
    client.get("/v1/orders").key(key).send().is(200);
    client.get("/v1/healthz").key(key).send().refused(403, "insufficient_scope");
    proxy.done();
}

/// F7
#[test]
fn keys_in_a_header_with_an_underscore_are_taken() {
    let (folder, upstream) = (folder(), upstream().start());
    let made = bartizan(folder.path(), &["init", "--openapi", "petstore.openapi.yaml", "--upstream", &upstream.url()]);
    let said = text(&made.stderr);
    let key = said.lines().last().unwrap();
    let policy = text(&made.stdout)
        .replace("address: 127.0.0.1:8080", "address: 127.0.0.1:0")
        .replace("audit: [stdout]", "audit: [{ file: { path: audit.jsonl } }]")
        + &format!("admin: {{ address: \"127.0.0.1:0\", token: {} }}\n", proxy::ADMIN_TOKEN);
    let document = std::fs::read_to_string(folder.path().join("petstore.openapi.yaml")).unwrap();
    let proxy = proxy().text(&policy).file("petstore.openapi.yaml", document).start();
    let mut client = client(&proxy);
    client.get("/api/v3/pet/7").header("api_key", key).send().is(200);
    client.get("/api/v3/pet/7").header("api_key", key).header("api-key", "x").send().refused(400, "malformed_request");
    client
        .get("/api/v3/pet/7")
        .header("api_key", key)
        .header("other_name", "x")
        .send()
        .refused(400, "malformed_request");
    proxy.done();
}

#[test]
fn a_wsdl_becomes_a_policy_that_takes_its_operations() {
    let (folder, upstream) = (folder_of("examples/xml-soap/schemas"), upstream().start());
    let made = bartizan(folder.path(), &["init", "--wsdl", "service.wsdl", "--upstream", &upstream.url()]);
    let said = text(&made.stderr);
    let key = said.lines().last().unwrap();
    let policy = text(&made.stdout)
        .replace("address: 127.0.0.1:8080", "address: 127.0.0.1:0")
        .replace("audit: [stdout]", "audit: [{ file: { path: audit.jsonl } }]")
        + &format!("admin: {{ address: \"127.0.0.1:0\", token: {} }}\n", proxy::ADMIN_TOKEN);
    assert!(policy.contains("# Cancel, Send\n      POST /service:\n        scopes: [invoices:call]"), "{policy}");
    let mut proxy = proxy().text(&policy);
    for name in ["service.wsdl", "invoice.xsd", "line.xsd"] {
        proxy = proxy.file(name, std::fs::read_to_string(folder.path().join(name)).unwrap());
    }
    let proxy = proxy.start();
    let mut client = client(&proxy);
    let envelope = |body: &str| {
        format!("<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/'><e:Body>{body}</e:Body></e:Envelope>")
    };
    let cancel = envelope("<cancel xmlns='urn:example:service'><number>7</number></cancel>");
    let mut post = |body: &str| client.post("/service", body).key(key).header("content-type", "text/xml").send();
    post(&cancel).is(200);
    post(&envelope("<delete/>")).refused(422, "schema_violation");
    client.post("/service", &cancel).header("content-type", "text/xml").send().refused(401, "missing_credentials");
    proxy.done();
    let made = bartizan(folder.path(), &["init", "--wsdl", "invoice.xsd", "--upstream", &upstream.url()]);
    assert!(
        made.status.code() == Some(2) && text(&made.stderr).contains("is not a WSDL 1.1"),
        "{}",
        text(&made.stderr)
    );
}

#[test]
fn a_wsdl_becomes_tests_that_its_policy_passes() {
    let folder = folder_of("examples/xml-soap/schemas");
    let wsdl = std::fs::read_to_string(folder.path().join("service.wsdl")).unwrap();
    // The same by SOAP 1.2, with one operation of which no schema says what its message is.
    let newer = wsdl.replace("wsdl/soap/", "wsdl/soap12/").replace("i:invoice\"", "tns:impossible\"").replace(
        "<xs:element name=\"caller\"",
        "<xs:element name=\"impossible\"><xs:simpleType><xs:restriction base=\"xs:string\"><xs:pattern value=\"a\"/><xs:length \
         value=\"2\"/></xs:restriction></xs:simpleType></xs:element><xs:element name=\"caller\"",
    );
    std::fs::write(folder.path().join("newer.wsdl"), newer).unwrap();
    for (name, passed) in [("service", 8), ("newer", 5)] {
        let (wsdl, out, tests) = (format!("{name}.wsdl"), format!("{name}.yaml"), format!("{name}.test.yaml"));
        let arguments = ["init", "--wsdl", &wsdl, "--upstream", "http://127.0.0.1:9", "--out", &out];
        let made = bartizan(folder.path(), &arguments);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let tested = bartizan(folder.path(), &["test", &tests]);
        let written = std::fs::read_to_string(folder.path().join(&tests)).unwrap();
        assert!(
            text(&tested.stdout).contains(&format!("{passed} passed, 0 failed")),
            "{}{written}",
            text(&tested.stdout)
        );
        assert_eq!(written.contains("# TODO: Send: no message"), name == "newer", "{written}");
        std::fs::remove_file(folder.path().join(&out)).unwrap();
        let again = bartizan(folder.path(), &arguments);
        assert!(text(&again.stderr).contains(&format!("{tests} cannot be written")), "{}", text(&again.stderr));
        assert!(!again.status.success() && !folder.path().join(&out).exists());
    }
}

/// Two ports, each with a binding of its own.
const PORTS: &str = r#"<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:s="http://schemas.xmlsoap.org/wsdl/soap/"
  xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:t="urn:t" targetNamespace="urn:t">
<types><xs:schema targetNamespace="urn:t"><xs:element name="read" type="xs:int"/><xs:element name="wipe" type="xs:int"/></xs:schema></types>
<message name="read"><part name="p" element="t:read"/></message>
<message name="wipe"><part name="p" element="t:wipe"/></message>
<portType name="Public"><operation name="Read"><input message="t:read"/></operation></portType>
<portType name="Admin"><operation name="Wipe"><input message="t:wipe"/></operation></portType>
<binding name="public" type="t:Public"><s:binding/><operation name="Read"><s:operation soapAction=""/>
  <input><s:body use="literal"/></input></operation></binding>
<binding name="admin" type="t:Admin"><s:binding/><operation name="Wipe"><s:operation soapAction=""/>
  <input><s:body use="literal"/></input></operation></binding>
<service name="S"><port name="p" binding="t:public"><s:address location="http://x/public"/></port>
  <port name="a" binding="t:admin"><s:address location="http://x/admin"/></port></service></definitions>"#;

/// What `init` makes of a WSDL, as `policy.yaml` and its tests.
fn made_of(wsdl: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.wsdl"), wsdl).unwrap();
    let arguments = ["init", "--wsdl", "w.wsdl", "--upstream", "http://127.0.0.1:9", "--out", "policy.yaml"];
    let made = bartizan(folder.path(), &arguments);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let policy = std::fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
    (folder, policy)
}

#[test]
fn a_path_of_a_wsdl_takes_the_operations_of_its_own_binding() {
    let (folder, policy) = made_of(PORTS);
    for (path, operation) in [("/admin", "Wipe"), ("/public", "Read")] {
        let contract = format!("request: {{ soap: {{ wsdl: w.wsdl, operations: [{operation}] }} }}");
        let route = format!("# {operation}\n      POST {path}:\n        scopes: [s:call]\n        {contract}\n");
        assert!(policy.contains(&route), "{policy}");
    }
    let tests = folder.path().join("policy.test.yaml");
    let result = || text(&bartizan(folder.path(), &["test", "policy.test.yaml"]).stdout);
    assert!(result().contains("6 passed, 0 failed"), "{}", result());
    let moved = std::fs::read_to_string(&tests).unwrap().replace("path: \"/admin\"", "path: \"/public\"");
    std::fs::write(&tests, moved).unwrap();
    assert!(result().contains("5 passed, 1 failed"), "{}", result());
}

#[test]
fn operations_that_only_their_port_types_tell_apart_are_named() {
    let read = r#"<operation name="Read"><input message="t:wipe"/></operation>"#;
    let both = PORTS.replace(r#"<portType name="Admin">"#, &format!(r#"<portType name="Admin">{read}"#)).replace(
        r#"type="t:Admin"><s:binding/>"#,
        r#"type="t:Admin"><s:binding/><operation name="Read"><input><s:body use="literal"/></input></operation>"#,
    );
    let (_folder, policy) = made_of(&both);
    let named = "# TODO: operations of another portType have the same names, and can be called here, too: Read\n";
    assert_eq!(policy.matches(named).count(), 2, "{policy}");
    assert!(!made_of(PORTS).1.contains("of another portType"));
}

#[test]
fn what_cannot_be_made_is_reported() {
    let folder = folder();
    std::fs::write(folder.path().join("old.json"), r#"{"swagger": "2.0"}"#).unwrap();
    for (openapi, upstream, code, words) in [
        ("old.json", "http://127.0.0.1:9", 2, "this is Swagger 2.0"),
        ("absent.yaml", "http://127.0.0.1:9", 2, "there is no file"),
        ("orders.openapi.yaml", "127.0.0.1:9", 2, "write `http://` or `https://`"),
        ("orders.openapi.yaml", "http://127.0.0.1:9/v1", 2, "scheme, host and port"),
    ] {
        let made = bartizan(folder.path(), &["init", "--openapi", openapi, "--upstream", upstream]);
        assert_eq!(made.status.code(), Some(code), "{openapi} {upstream}");
        assert!(text(&made.stderr).contains(words) && made.stdout.is_empty(), "{}", text(&made.stderr));
    }
}

#[test]
fn the_three_commands_of_the_example() {
    let folder = folder_of("examples/openapi-onboarding");
    let url = "http://127.0.0.1:9000";
    let made = bartizan(
        folder.path(),
        &["init", "--openapi", "orders.openapi.yaml", "--upstream", url, "--out", "policy.yaml"],
    );
    assert_eq!(text(&made.stderr).lines().count(), 2, "nothing is told but the key");
    let tested = bartizan(folder.path(), &["test", "policy.test.yaml"]);
    assert!(tested.status.success(), "{}{}", text(&tested.stdout), text(&tested.stderr));
    let checked = bartizan(folder.path(), &["check", "policy.yaml"]);
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", text(&checked.stderr));
}
