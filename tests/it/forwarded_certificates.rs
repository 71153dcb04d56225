//! Client certificates that trusted proxies pass on in a header.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::certificates::{Authority, Certified};
use crate::support::*;

/// In front of an API for the holder of a certificate for `acme.example`, which this authority has issued.
fn behind(upstream: &Upstream, authority: &Authority, format: &str) -> Policy {
    let header =
        format!("client_certificate_header: {{ format: {format}, client_ca: ca.pem, client_crls: [crl.pem] }}");
    proxy()
        .before(upstream)
        .listen(&format!("{{ address: \"127.0.0.1:0\", {header} }}"))
        .file("ca.pem", authority.pem())
        .file("crl.pem", authority.revokes(&[7]))
        .with("trusted_proxies: [127.0.0.0/8]")
        .with("consumers: { acme: { plan: free, identities: [{ certificate_san: \"dns:acme.example\" }] } }")
        .open("GET /open")
        .route("GET /x", "scopes: [], proof_of_possession: [certificate]")
}

/// As in RFC 9440.
fn rfc9440(certified: &Certified) -> String {
    format!(":{}:", STANDARD.encode(certified.der()))
}

/// As Envoy writes it.
fn xfcc(certified: &Certified) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let pem: String = certified.certificate.bytes().map(escape).collect();
    format!("Hash=00ff;Cert=\"{pem}\";Subject=\"CN=\\\"a, b\\\"\";DNS=acme.example")
}

#[test]
fn a_certificate_that_a_trusted_proxy_passes_on_is_that_of_the_client() {
    let (upstream, authority, other) = (upstream().start(), authority(), authority());
    let [acme, revoked, stranger] = [
        authority.certifies(&["acme.example"]),
        authority.vouches_for(7, &["acme.example"]),
        other.certifies(&["acme.example"]),
    ];
    let nobody = authority.certifies(&["nobody.example"]);
    let expired = authority.certifies_between((2020, 1, 1), (2021, 1, 1));
    type Write = fn(&Certified) -> String;
    let formats: [(&str, &str, Write); 2] =
        [("rfc9440", "client-cert", rfc9440), ("xfcc", "x-forwarded-client-cert", xfcc)];
    for (format, name, written) in formats {
        let proxy = behind(&upstream, &authority, format).start();
        let mut client = client(&proxy);
        let answer = client.get("/x").header(name, &written(&acme)).send().is(200);
        assert_eq!(answer.echoed("x-consumer-id"), ["acme"]);
        client.get("/x").send().refused(401, "missing_credentials");
        client.get("/x").header(name, &written(&nobody)).send().refused(403, "unknown_consumer");
        for bad in [written(&stranger), written(&revoked), written(&expired), "nonsense".to_owned(), String::new()] {
            client.get("/x").header(name, &bad).send().refused(401, "invalid_certificate");
        }
        client.get("/open").send().is(200);
        proxy.done();
    }
}

#[test]
fn of_several_elements_the_one_of_the_trusted_proxy_counts() {
    let (upstream, authority) = (upstream().start(), authority());
    let [acme, nobody] = ["acme.example", "nobody.example"].map(|name| authority.certifies(&[name]));
    let proxy = behind(&upstream, &authority, "xfcc").start();
    let mut client = client(&proxy);
    let ask = |client: &mut client::Client, first: &Certified, last: &Certified| {
        client.get("/x").header("x-forwarded-client-cert", &format!("{},{}", xfcc(first), xfcc(last))).send()
    };
    ask(&mut client, &nobody, &acme).is(200);
    ask(&mut client, &acme, &nobody).refused(403, "unknown_consumer");
    // A name alone could be anybody's.
    let named = client.get("/x").header("x-forwarded-client-cert", "Hash=00ff;DNS=acme.example");
    named.send().refused(401, "invalid_certificate");
    proxy.done();
}

#[test]
fn what_others_say_of_their_certificate_is_not_believed() {
    let (upstream, authority) = (upstream().start(), authority());
    let acme = authority.certifies(&["acme.example"]);
    // By a peer that is not trusted, and by one that is, at a listener that does not take them.
    let untrusted = behind(&upstream, &authority, "rfc9440");
    let untrusted = untrusted.clone().text(&untrusted.yaml().replace("[127.0.0.0/8]", "[10.0.0.0/8]"));
    let plain = behind(&upstream, &authority, "rfc9440");
    let yaml = plain.yaml();
    let start = yaml.find(", client_certificate_header").unwrap();
    let end = start + yaml[start..].find("] }").unwrap() + "] }".len();
    let plain = plain.clone().text(&yaml.replace(&yaml[start..end], ""));
    for policy in [untrusted, plain] {
        let proxy = policy.start();
        let mut client = client(&proxy);
        client.get("/x").header("client-cert", &rfc9440(&acme)).send().refused(401, "missing_credentials");
        let open = client.get("/open").header("client-cert", &rfc9440(&acme)).send().is(200);
        assert_eq!(open.echoed("client-cert"), [""; 0]);
        proxy.done();
    }
}

#[test]
fn guesses_count_as_failed_attempts_of_the_client() {
    let (upstream, authority, other) = (upstream().start(), authority(), authority());
    let [acme, stranger] = [&authority, &other].map(|issuer| rfc9440(&issuer.certifies(&["acme.example"])));
    let proxy = behind(&upstream, &authority, "rfc9440").with("auth: { failed_attempts: 2/h }").start();
    let mut client = client(&proxy);
    let mut shows = |address: &str, path: &str, shown: &str| {
        client.get(path).header("x-forwarded-for", address).header("client-cert", shown).send()
    };
    // Also where nobody need show one: verifying it costs as much.
    shows("192.0.2.1", "/x", &stranger).refused(401, "invalid_certificate");
    shows("192.0.2.1", "/open", &stranger).refused(401, "invalid_certificate");
    shows("192.0.2.1", "/open", &acme).refused(429, "too_many_failures");
    // Other clients of the same proxy, one of whom shows the same certificate again and again.
    for _ in 0..4 {
        shows("192.0.2.2", "/x", &acme).is(200);
    }
    proxy.done();
}

#[test]
fn it_is_an_error_where_nobody_may_send_it_or_nobody_verifies_it() {
    let authority = authority();
    let with = |from: &str, to: &str| {
        let policy = proxy().server("http://127.0.0.1:9").open("GET /y");
        let header = "client_certificate_header: { format: xfcc, client_ca: ca.pem }".replace(from, to);
        let policy =
            policy.listen(&format!("{{ address: \"127.0.0.1:0\", {header} }}")).file("ca.pem", authority.pem());
        policy.with("trusted_proxies: [10.0.0.0/8]")
    };
    for (policy, reported) in [
        (with("xfcc", "rfc9440"), None),
        (with("xfcc", "pem"), Some("there is no format `pem`")),
        (with("format: xfcc, ", ""), Some("`format` is missing")),
        (with(", client_ca: ca.pem", ""), Some("`client_ca` is missing")),
        (with("ca.pem", "none.pem"), Some("none.pem")),
        (with("", "").text(&with("", "").yaml().replace("[10.0.0.0/8]", "[]")), Some("no proxy is trusted")),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let path = policy.write(folder.path());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").arg("check").arg(path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), reported.is_none(), "{reported:?}: {said}");
        assert!(said.contains(reported.unwrap_or_default()), "{reported:?}: {said}");
    }
}
