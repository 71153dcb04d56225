//! `bartizan ready`: the launch checklist finds what is missing, at its line, and nothing else.

use std::path::Path;
use std::process::Command;

use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// As `openssl genpkey -algorithm ed25519` made it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAWU1t2i+roKdjpuI1u26Bw0jGZ3+APMr3iMhsBb2Oon\n-----END PRIVATE KEY-----\n";

/// A policy of `tests/cases/ready`, with the files that it names.
fn case(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/ready").join(name).read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    for (file, content) in [
        ("audit.pem", KEY),
        ("admin-token", ADMIN_TOKEN),
        ("records-token", "Bearer token-of-the-records"),
        ("digest", &"ab".repeat(32)),
        ("other-digest", &"cd".repeat(32)),
    ] {
        std::fs::write(folder.path().join(file), content).unwrap();
    }
    folder
}

/// Exit code and output of `bartizan ready` in this folder.
fn ready(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.current_dir(folder).env("ADA_TOKEN", "a-token-from-the-environment").env_remove("BARTIZAN_POLICY");
    let output = command.args(["ready", "--policy", "policy.yaml"]).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The checklist as JSON.
#[track_caller]
fn reported(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, out, err) = ready(folder, &[arguments, &["--format", "json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

/// `FILE:LINE ITEM` of each finding, and a text that it has.
fn findings(report: &Value) -> Vec<(String, String)> {
    let items = report["items"].as_array().unwrap().iter();
    let found = items.flat_map(|item| item["findings"].as_array().unwrap().iter().map(move |found| (item, found)));
    let mut found: Vec<_> = found
        .map(|(item, found)| {
            let (file, line) = (found["file"].as_str().unwrap_or("-"), &found["line"]);
            let place = format!("{file}:{line} {}", item["name"].as_str().unwrap());
            (place, format!("{}; {}", found["message"].as_str().unwrap(), found["help"].as_str().unwrap()))
        })
        .collect();
    found.sort();
    found
}

/// The item of this name.
#[track_caller]
fn item<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["items"].as_array().unwrap().iter().find(|item| item["name"] == name).unwrap()
}

#[test]
fn every_gap_is_found_at_its_line_and_nothing_else() {
    let mut gaps = 0;
    for (name, expected) in [
        ("clean", &[][..]),
        (
            "partner",
            &[
                ("policy.yaml:10 plans", "the plan `standard` has no quota, and the consumer `acme` has it"),
                ("policy.yaml:16 keys", "the key `acme-1` has no end"),
                ("policy.yaml:17 plans", "the consumer `globex` has no plan; write `plan: NAME`"),
                ("policy.yaml:19 keys", "the key `globex-1` is not replaced for more than 400 days"),
                ("policy.yaml:25 responses", "nothing looks at the responses of `PUT /files/{id}`"),
                ("policy.yaml:26 requests", "any body is let through to `POST /files`"),
                ("policy.yaml:5 keys", "operators can make keys without an end"),
            ],
        ),
        (
            "edge",
            &[
                ("policy.yaml:10 token_lifetimes", "tokens of the issuer `corp` may live for ever"),
                ("policy.yaml:11 token_lifetimes", "tokens of the issuer `old` may live for more than a day"),
                ("policy.yaml:15 plans", "the plan `trial` has no quota, and every consumer of `old`"),
                ("policy.yaml:23 powerful_routes", "`DELETE /orders/{id}`, which is powerful: it deletes"),
                ("policy.yaml:24 record_leaves", "only on this machine"),
                ("policy.yaml:6 secrets", "the secret `admin.token` is written in the policy"),
                ("policy.yaml:7 secrets", "comes from an environment variable"),
            ],
        ),
        (
            "internal",
            &[
                ("policy.test.yaml:8 tests_pass", "the test `deletes` fails"),
                ("policy.yaml:11 refusals_tested", "no test is refused with 429"),
                ("policy.yaml:19 refusals_tested", "no test is refused with 422"),
                ("policy.yaml:20 requests", "the stage `schema` only reports at `PUT /orders/{id}`"),
                ("policy.yaml:26 record_signed", "no key signs checkpoints"),
                ("policy.yaml:8 scopes_tested", "the scope `orders:write` is for, which a role grants"),
            ],
        ),
    ] {
        let folder = case(name);
        let (code, report) = reported(folder.path(), &["--offline"]);
        let found = findings(&report);
        let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, expected.iter().map(|(place, _)| *place).collect::<Vec<_>>(), "{name}: {found:#?}");
        for ((_, message), (_, part)) in found.iter().zip(expected) {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!((code, &report["ready"]), (Some(i32::from(name != "clean")), &(name == "clean").into()), "{name}");
        gaps += found.len();
    }
    assert_eq!(gaps, 20);
}

#[test]
fn what_was_not_looked_at_is_in_the_way_unless_that_is_meant() {
    let folder = case("clean");
    let (code, report) = reported(folder.path(), &[]);
    assert_eq!(
        (code, &report["ready"], &report["failed"], &report["not_looked_at"]),
        (Some(1), &json!(false), &json!(0), &json!(2))
    );
    for name in ["revocation_drilled", "running_policy"] {
        assert_eq!(item(&report, name)["status"], "not_looked_at", "{report}");
    }
    let (code, out, err) = ready(folder.path(), &["--offline"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with("ready, as far as it was looked at: 12 passed, 2 not looked at\n"), "{out}");
    assert!(!out.contains(ADMIN_TOKEN) && !report.to_string().contains(ADMIN_TOKEN));
    // Without tests, there is no evidence.
    std::fs::remove_file(folder.path().join("policy.test.yaml")).unwrap();
    let (code, report) = reported(folder.path(), &["--offline"]);
    assert_eq!((code, &item(&report, "tests_pass")["status"]), (Some(1), &json!("failed")), "{report}");
    // Those of another policy are none for this one.
    let other = case("edge");
    let tests = other.path().join("policy.test.yaml").display().to_string();
    let (code, _, err) = ready(folder.path(), &["--offline", "--tests", &tests]);
    assert_eq!((code, err.contains("its `policy` is another one")), (Some(2), true), "{err}");
}

#[test]
fn a_powerful_scope_that_no_route_requires_is_an_error() {
    let folder = case("clean");
    let path = folder.path().join("policy.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("powerful_scopes: [orders:refund]", "powerful_scopes: [orders:refnud]"))
        .unwrap();
    let (code, out, err) = ready(folder.path(), &["--offline"]);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("there is no scope that a route requires, called `orders:refnud`"), "{err}");
    assert!(err.contains("did you mean `orders:refund`?"), "{err}");
    std::fs::write(&path, text.replace("max_age: 5m, ", "")).unwrap();
    let (_, report) = reported(folder.path(), &["--offline"]);
    assert_eq!(findings(&report).len(), 1, "a route that deletes is powerful without a list: {report}");
}

#[test]
fn the_page_stands_alone_and_escapes_what_other_teams_write() {
    let folder = case("clean");
    let path = folder.path().join("policy.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let wicked = text.replace("clerk: [orders:read,", "clerk: [\"<script>alert('1')</script>&\", orders:read,");
    std::fs::write(&path, wicked).unwrap();
    let (code, out, err) = ready(folder.path(), &["--offline", "--html", "ready.html"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let page = std::fs::read_to_string(folder.path().join("ready.html")).unwrap();
    assert!(
        page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;") && !page.contains("<script"),
        "{page}"
    );
    assert!(page.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-"));
    for outside in ["src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}: {page}");
    }
    let (code, _, err) = ready(folder.path(), &["--offline", "--html", "none/ready.html"]);
    assert_eq!((code, err.contains("none/ready.html cannot be written")), (Some(1), true), "{err}");
}

#[test]
fn a_drill_leaves_evidence_until_authentication_changes() {
    let (upstream, folder) = (upstream().start(), tempfile::tempdir().unwrap());
    let proxy = proxy()
        .before(&upstream)
        .file("audit.pem", KEY)
        .with("auth: { api_keys: { max_key_age: 90d } }\nstore: state/\nroles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
        .audit("{ chain: { key: audit.pem, checkpoint: 1h }, to: [file: { path: audit.jsonl }] }")
        .start();
    let admin = format!("http://{}", proxy.admin());
    let node = ["--admin", &admin, "--admin-token", ADMIN_TOKEN];
    let mut drill = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    drill.args(["drill", "revocation", "--consumer", "acme", "--path", "/x", "--node", &proxy.url("")]).args(node);
    let output = drill.env_remove("BARTIZAN_POLICY").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let drilled = eventually("the drill is on record", || {
        proxy.records().into_iter().find(|record| record["event"]["action"] == "revocation_drilled")
    });
    assert_eq!(drilled["bartizan"]["drill"]["nodes"], 1, "{drilled}");
    assert!(drilled["bartizan"]["drill"]["refused_after"].as_u64() <= drilled["bartizan"]["drill"]["within"].as_u64());

    // The node is asked; no checkpoint has signed the drill yet.
    let here = proxy.file("policy.yaml").parent().unwrap().to_path_buf();
    let (code, report) = reported(&here, &node);
    assert_eq!((code, &item(&report, "running_policy")["status"]), (Some(1), &json!("passed")), "{report}");
    let drill = item(&report, "revocation_drilled");
    assert!(drill.to_string().contains("no checkpoint signs any of these lines"), "{drill}");
    for file in ["policy.yaml", "audit.pem"] {
        std::fs::copy(proxy.file(file), folder.path().join(file)).unwrap();
    }
    let record = proxy.file("audit.jsonl");
    proxy.signal("TERM");
    eventually("the last checkpoint is there", || {
        let lines = std::fs::read_to_string(&record).unwrap();
        lines.trim_end().lines().last().is_some_and(|line| line.contains("\"stopped\"")).then_some(())
    });
    std::fs::copy(&record, folder.path().join("audit.jsonl")).unwrap();

    let status = |arguments: &[&str]| {
        let (_, report) = reported(folder.path(), arguments);
        let item = item(&report, "revocation_drilled");
        (item["status"].as_str().unwrap().to_owned(), item.to_string())
    };
    let (passed, evidence) = status(&[]);
    assert_eq!((passed.as_str(), evidence.contains("on 1 node; the line is signed")), ("passed", true), "{evidence}");
    assert_eq!(status(&["--record", "audit.jsonl"]).0, "passed");
    // A drill that somebody has written into the record is none.
    let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    std::fs::write(folder.path().join("forged.jsonl"), text.replace("\"nodes\":1", "\"nodes\":9")).unwrap();
    let (failed, why) = status(&["--record", "forged.jsonl"]);
    assert_eq!((failed.as_str(), why.contains("the record cannot be relied on")), ("failed", true), "{why}");
    let policy = std::fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
    std::fs::write(folder.path().join("policy.yaml"), policy.replace("orders:read", "orders:see")).unwrap();
    assert_eq!(status(&[]).0, "passed", "scopes are not authentication");
    std::fs::write(folder.path().join("policy.yaml"), policy.replace("90d", "91d")).unwrap();
    let (failed, why) = status(&[]);
    assert_eq!((failed.as_str(), why.contains("has changed since the drill")), ("failed", true), "{why}");
}

#[test]
fn what_operators_have_added_is_looked_at_on_the_node() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .plan("paid: { rate: 5/s, quota: 1000/day }")
        .with("store: state/\nroles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: paid } }")
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let create = |path: &str, body: Value| {
        let answer = operator(&proxy).request("POST", path).bearer(ADMIN_TOKEN).body(body.to_string()).send();
        assert_eq!(answer.status, 201, "{path}");
    };
    create("/v1/consumers", json!({"name": "late", "roles": ["reader"]}));
    create("/v1/consumers", json!({"name": "later", "roles": ["reader"], "plan": "free"}));
    create("/v1/consumers/late/keys", json!({"id": "late-1", "expires": null}));
    create("/v1/consumers/late/keys", json!({"id": "late-2", "expires": "30d"}));
    let admin = format!("http://{}", proxy.admin());
    let node = ["--admin", &admin, "--admin-token", ADMIN_TOKEN];
    let here = proxy.file("policy.yaml").parent().unwrap().to_path_buf();
    let (_, report) = reported(&here, &node);
    let messages = |name: &str| item(&report, name)["findings"].to_string();
    assert!(messages("plans").contains("the consumer `late`, which operators have added, has no plan"), "{report}");
    assert!(messages("plans").contains("the plan `free` has no quota, and the consumer `later` has it"), "{report}");
    assert!(messages("keys").contains("the key `late-1`, which operators have made, has no end"), "{report}");
    assert!(!messages("keys").contains("late-2"), "{report}");
    assert_eq!(item(&report, "running_policy")["status"], "passed", "{report}");
    // What is in the file is not what is in force.
    let policy = std::fs::read_to_string(here.join("policy.yaml")).unwrap();
    std::fs::write(here.join("policy.yaml"), policy.replace("1000/day", "2000/day")).unwrap();
    let (_, report) = reported(&here, &node);
    assert!(item(&report, "running_policy").to_string().contains("another policy in force"), "{report}");
    let (_, report) = reported(&here, &["--admin", &admin, "--admin-token", "wrong"]);
    assert_eq!(item(&report, "running_policy")["status"], "not_looked_at", "{report}");
}

#[test]
fn a_drill_that_was_too_slow_is_not_recorded_as_passed() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).with("store: state/").open("GET /x").start();
    let drills =
        |body: Value| operator(&proxy).request("POST", "/v1/drills").bearer(ADMIN_TOKEN).body(body.to_string()).send();
    for (passed, after, action) in [
        (true, json!(10), "revocation_drilled"),
        (true, json!(11), "revocation_drill_failed"),
        (true, Value::Null, "revocation_drill_failed"),
        (false, json!(1), "revocation_drill_failed"),
    ] {
        let answer = drills(json!({"passed": passed, "nodes": 2, "within_ms": 10, "refused_after_ms": after}));
        assert_eq!((answer.status, &answer.json()["action"]), (200, &action.into()), "{passed} {after}");
        assert_eq!(answer.json()["recorded"], true);
    }
    for (nodes, within) in [(0, 10), (1_000_001, 10), (1, 1_000_001)] {
        let answer = drills(json!({"passed": true, "nodes": nodes, "within_ms": within}));
        assert!((400..500).contains(&answer.status), "{nodes} {within}: {}", answer.status);
    }
    eventually("all four are on record", || {
        let recorded = proxy.records().into_iter().filter(|record| record["bartizan"]["drill"]["nodes"] == 2);
        (recorded.filter(|record| record["bartizan"]["target"] == "revocation").count() == 4).then_some(())
    });
}

/// The admin listener says what the command says, to those who may read; and it is not made for each who asks.
#[test]
fn a_node_gives_its_own_checklist() {
    let upstream = upstream().start();
    let policy = proxy()
        .before(&upstream)
        .with("store: state/\nroles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .with("token_service: { issuer: \"http://127.0.0.1\", audience: [x] }\nself_service: { path: /.bartizan }")
        .file(
            "policy.test.yaml",
            "policy: policy.yaml\ncallers: { acme: { consumer: acme } }\n\
             tests: [{ name: reads, as: acme, request: GET /x, expect: allow }]\n",
        )
        .route("GET /x", "scopes: [orders:read]");
    let text = policy
        .yaml()
        .replace("token:", "tokens: [{ name: board, token: a-token-that-only-looks, rights: read }], token:");
    let mut proxy = policy.text(&text).start();
    let asks = |proxy: &Proxy, token: &str| operator(proxy).get("/v1/launch-check").bearer(token).send();
    let looks = |proxy: &Proxy, token: &str| {
        let answer = asks(proxy, token);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let invited = json!({"credential": "client_secret", "key_lifetime": null});
    let (_, code) = crate::self_service::invite(&proxy, "acme", invited);
    let made = crate::self_service::claim(&mut client(&proxy), &code).is(201).json();

    let given = looks(&proxy, "a-token-that-only-looks");
    let admin = format!("http://{}", proxy.admin());
    let here = proxy.file("policy.yaml").parent().unwrap().to_path_buf();
    let (_, said) = reported(&here, &["--admin", &admin, "--admin-token", ADMIN_TOKEN]);
    let outcomes = |report: &Value| {
        let items = report["items"].as_array().unwrap().iter();
        items.map(|item| format!("{} {}", item["name"], item["status"])).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&given), outcomes(&said));
    assert_eq!((&given["policy"], &given["ready"]), (&said["policy"], &json!(false)));
    assert!(item(&given, "tests_pass").to_string().contains("passed"), "{given:#}");
    let endless =
        format!("the client `{}`, which a partner has claimed, has no end", made["client_id"].as_str().unwrap());
    for report in [&given, &said] {
        assert!(item(report, "keys")["findings"].to_string().contains(&endless), "{report:#}");
    }
    assert_eq!(looks(&proxy, ADMIN_TOKEN), given, "it is young");
    let made = |name: &str| given[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let kept = made("again").duration_since(made("at")).as_secs();
    assert!((29..=300).contains(&kept) && given["of_policy_before"] == false, "{kept}: {given:#}");
    asks(&proxy, "wrong").refused(401, "invalid_token");

    // Another policy has another checklist, and one that cannot be read has none.
    let before = proxy.file("policy.yaml");
    proxy.reload_to(|policy| {
        let text = policy.yaml().replace("acme: { roles: [reader], plan: free }", "acme: { roles: [reader] }");
        policy.text(&text)
    });
    let changed = eventually("the checklist of the new policy", || {
        let report = looks(&proxy, ADMIN_TOKEN);
        (report["policy"] != given["policy"]).then_some(report)
    });
    assert!(item(&changed, "plans")["findings"].to_string().contains("has no plan"), "{changed:#}");
    let text = std::fs::read_to_string(&before).unwrap();
    let mut proxy = proxy.again("TERM");
    std::fs::write(&before, format!("{text}\nmore: 1\n")).unwrap();
    let refused = asks(&proxy, ADMIN_TOKEN).refused(409, "conflict").text();
    assert!(refused.contains("the policy file has errors: ") && refused.contains("policy.yaml:"), "{refused}");
    // Somebody is at work on the file: an error is not given again for half a minute.
    std::fs::write(&before, text).unwrap();
    eventually("the file that was mended has a checklist", || (asks(&proxy, ADMIN_TOKEN).status == 200).then_some(()));
    proxy.reload_to(|policy| policy);
    let records = proxy.done();
    let reads = records.iter().filter(|record| record["url"]["path"] == "/v1/launch-check").count();
    assert!(reads >= 2, "{reads}");
}
