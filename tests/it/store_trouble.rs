//! The embedded store in trouble: a disk that is full for a while, a file that is gone, a folder that others can write to.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::self_service::{claim, invite};
use crate::support::client::operator;
use crate::support::issuer::Issuer;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

fn keeping(store: &Path, upstream: &Upstream, issuer: &Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!("store: \"{}\"", store.display()))
        .with("roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
}

fn revokes(proxy: &Proxy, jti: &str) -> u16 {
    operator(proxy).post("/v1/revocations", json!({"jti": jti}).to_string()).bearer(ADMIN_TOKEN).send().status
}

/// U2: what a process may write to files ends short of the store's, as on a full disk, and is given back later.
#[test]
fn a_disk_that_is_full_for_a_while_stops_changes_for_that_while_and_nothing_else() {
    if !has("prlimit") {
        return skipped("there is no prlimit");
    }
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(store.path(), &upstream, &issuer).audit("[stdout]").after("trap '' XFSZ").start();
    let limit = |size: &str| {
        let limit =
            Command::new("prlimit").args([&format!("--pid={}", proxy.id()), &format!("--fsize={size}:")]).status();
        assert!(limit.unwrap().success());
    };
    let token = |jti: &str| issuer.token().claim("jti", jti).text();
    let state = || operator(&proxy).get("/readyz").send().json()["store"]["state"].clone();
    let up = || operator(&proxy).get("/metrics").send().text().contains("bartizan_store_up{kind=\"embedded\"} 1");
    assert_eq!((revokes(&proxy, "before"), state(), up()), (201, json!("ready"), true));
    // Room for the header of the store's file, and for no page.
    limit("4096");
    for _ in 0..2 {
        assert_eq!((revokes(&proxy, "meanwhile"), state(), up()), (503, json!("unwritable"), false));
    }
    client(&proxy).get("/x").bearer(token("before")).send().refused(401, "revoked");
    client(&proxy).get("/x").bearer(token("other")).send().is(200);
    limit("unlimited");
    assert_eq!((revokes(&proxy, "after"), state(), up()), (201, json!("ready"), true));
    // What the store did not confirm may have been changed, so it is on record as that change.
    proxy.stdout.wait("\"outcome\":\"unknown\"", 2);
    let unknown = proxy.stdout.all().into_iter().filter(|line| line.contains("\"outcome\":\"unknown\""));
    assert!(unknown.clone().count() == 2 && unknown.clone().all(|line| line.contains("\"target\":\"jti meanwhile\"")));
    client(&proxy).get("/x").bearer(token("after")).send().refused(401, "revoked");
    assert_eq!(proxy.stop().0, Some(0));
    // It is all there after a restart.
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    for jti in ["before", "after"] {
        client(&proxy).get("/x").bearer(token(jti)).send().refused(401, "revoked");
    }
    proxy.done();
}

/// A claim that the store could not write is not on record as one that was made, and the code is good when it can.
#[test]
fn a_claim_on_a_full_disk_is_no_success() {
    if !has("prlimit") {
        return skipped("there is no prlimit");
    }
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let policy = keeping(store.path(), &upstream, &issuer).with("self_service: { path: /.bartizan }");
    let proxy = policy.after("trap '' XFSZ").start();
    let limit = |size: &str| {
        let limit =
            Command::new("prlimit").args([&format!("--pid={}", proxy.id()), &format!("--fsize={size}:")]).status();
        assert!(limit.unwrap().success());
    };
    let (_, code) = invite(&proxy, "acme", Value::Null);
    // Room for the record, and for no page of the store.
    limit("12288");
    claim(&mut client(&proxy), &code).refused(503, "store_unavailable");
    limit("unlimited");
    claim(&mut client(&proxy), &code).is(201);
    let records = proxy.done();
    let claims = records.iter().filter(|record| said(record, "event.action") == "invitation_claimed");
    let claims: Vec<_> = claims.map(|record| [said(record, "event.outcome"), said(record, "event.type")]).collect();
    assert_eq!(claims, [[&json!("unknown"), &json!(["info"])], [&json!("success"), &json!(["access", "allowed"])]]);
}

/// Runs `check` on a policy, and returns its exit code and what it says.
fn checks(policy: &Policy) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let file = policy.write(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).arg("check").arg(file).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// U2, U11, S20: `check` finds what would stop the start, or let others in.
#[test]
fn check_reports_a_store_that_is_lost_is_a_file_or_is_open_to_all() {
    let (folder, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let store = folder.path().join("state");
    let policy = keeping(&store, &upstream, &issuer);
    let proxy = policy.clone().after("umask 0").start();
    assert_eq!(revokes(&proxy, "stolen"), 201);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&store), mode(&store.join("register.redb"))), (0o700, 0o600), "whatever the umask");
    assert_eq!(mode(&proxy.file("audit.jsonl")), 0o640, "whatever the umask");
    proxy.done();
    assert_eq!(checks(&policy).0, Some(0));

    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, said) = checks(&policy);
    assert!(code == Some(0) && said.contains("every user of this machine can write to the store"), "{said}");

    std::fs::write(store.join("register.redb"), b"").unwrap();
    let (code, said) = checks(&policy);
    assert!(code == Some(2) && said.contains("register.redb is empty") && said.contains("backup"), "{said}");

    let (code, said) = checks(&keeping(&store.join("register.redb"), &upstream, &issuer));
    assert!(code == Some(2) && said.contains("is a file; name a folder"), "{said}");
}
