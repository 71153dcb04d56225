//! URLs of the policy and of commands: what is not understood whole is refused, at every door (U1).

use std::process::Command;

/// Exit code and standard error.
fn bartizan(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.env_remove("BARTIZAN_POLICY").env_remove("BARTIZAN_ADMIN").env_remove("BARTIZAN_ADMIN_TOKEN");
    let output = command.current_dir(folder).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// U1: a port out of range, a fragment, a user name: every setting with a URL refuses them, at their place.
#[test]
fn every_setting_refuses_a_url_that_is_not_understood_whole() {
    let issuer = "audience: [a], algorithms: [ES256], max_lifetime: 1h";
    let endpoint = "client_id: proxy, client_secret: \"9f86d081884c7d659a2feaa0c55ad015\"";
    let (port, fragment, user) = ("not a number from 1 to 65535", "has a fragment", "user name or password");
    for (setting, value, reported) in [
        ("upstream", "http://127.0.0.1:9000", None),
        ("upstream", "http://127.0.0.1:90000", Some(port)),
        ("upstream", "http://127.0.0.1:9000#x", Some(fragment)),
        ("upstream", "http://api@127.0.0.1", Some(user)),
        ("upstream", "http://127.0.0.1/v1", None),
        ("upstream", "http://127.0.0.1/v1/../x", Some("dot segment")),
        ("upstream", "http://127.0.0.1/v1?x=1", Some("has a query")),
        ("upstream", "http://127.1", Some("no valid host")),
        ("servers", "http://127.0.0.1:90000", Some(port)),
        ("issuer", "https://login.example.com:8443/tenant", None),
        ("issuer", "https://login.example.com:90000", Some(port)),
        ("issuer", "https://login.example.com/#x", Some(fragment)),
        ("issuer", "https://login.example.com?tenant=1", Some("has a query")),
        ("jwks", "https://login.example.com/jwks?v=1", None),
        ("jwks", "https://login.example.com:0/jwks", Some(port)),
        ("jwks", "https://a:b@login.example.com/jwks", Some(user)),
        ("endpoint", "https://login.example.com/introspect", None),
        ("endpoint", "https://login.example.com:/introspect", Some(port)),
        ("endpoint", "https://login.example.com/introspect#x", Some(fragment)),
        ("redis", "rediss://user:word@redis.example:6380/1", None),
        ("redis", "rediss://redis.example#insecure", Some(fragment)),
        ("redis", "redis://127.0.0.1:65536", Some(port)),
        ("redis", "redis://127.0.0.1?db=1", Some("not a parameter of a Redis URL")),
    ] {
        let upstream = match setting {
            "upstream" => format!("\"{value}\""),
            "servers" => format!("{{ servers: [\"http://127.0.0.1:9000\", \"{value}\"] }}"),
            _ => "\"http://127.0.0.1:9000\"".to_owned(),
        };
        let more = match setting {
            "issuer" => format!("auth: {{ issuers: {{ corp: {{ issuer: \"{value}\", {issuer} }} }} }}\n"),
            "jwks" => format!("auth: {{ issuers: {{ corp: {{ issuer: i, jwks: \"{value}\", {issuer} }} }} }}\n"),
            "endpoint" => format!("auth: {{ introspection: {{ corp: {{ endpoint: \"{value}\", {endpoint} }} }} }}\n"),
            "redis" => format!("store: {{ redis: \"{value}\" }}\n"),
            _ => String::new(),
        };
        let policy = format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n{more}\
             apis: {{ a: {{ upstream: {upstream}, routes: {{ GET /x: {{ public: true }} }} }} }}\n"
        );
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("policy.yaml"), &policy).unwrap();
        let (code, err) = bartizan(folder.path(), &["check", "policy.yaml"]);
        let errors = err.matches("error: ").count();
        match reported {
            None => assert_eq!((code, errors), (Some(0), 0), "{setting}: {value}\n{err}"),
            Some(reported) => {
                assert_eq!((code, errors), (Some(2), 1), "{setting}: {value}\n{err}");
                assert!(
                    err.contains(reported) && err.contains("policy.yaml:") && err.contains("help: "),
                    "{value}\n{err}"
                );
            }
        }
    }
}

/// U1: the addresses that commands are given are parsed as strictly.
#[test]
fn every_command_refuses_a_url_that_is_not_understood_whole() {
    let folder = tempfile::TempDir::new().unwrap();
    let admin = ["consumer", "list", "--admin-token", "token", "--admin"];
    let drill = ["drill", "revocation", "--path", "/x", "--consumer", "acme", "--node"];
    let init = ["init", "--openapi", "orders.yaml", "--upstream"];
    let port = "not a number from 1 to 65535";
    for (arguments, value, reported) in [
        (admin.as_slice(), "http://127.0.0.1:90000", port),
        (&admin, "http://127.0.0.1:9901/metrics", "more than scheme, host and port"),
        (&admin, "http://ops@127.0.0.1:9901", "user name or password"),
        (&admin, "127.0.0.1:9901", "write `http://` or `https://`, such as `http://127.0.0.1:9901`, or `unix:PATH`"),
        (&admin, "unix://run/admin.sock", "write `unix:PATH` or `unix:///PATH`"),
        (&drill, "http://127.0.0.1:90000", port),
        (&drill, "http://127.0.0.1:8080/x", "more than scheme, host and port"),
        (&init, "http://127.0.0.1:90000", port),
        (&init, "http://127.0.0.1:9000#x", "has a fragment"),
    ] {
        let (code, err) = bartizan(folder.path(), &[arguments, &[value]].concat());
        assert_eq!(code, Some(2), "{value}: {err}");
        assert!(err.contains(reported), "{value}: {err}");
    }
}
