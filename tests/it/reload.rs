//! Reloads: whole or not at all, under load, nothing dropped, nothing refilled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::client::operator;
use crate::support::*;

#[test]
fn thirty_reloads_under_load_fail_no_request() {
    let upstream = upstream().answers(200, "hi").start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let (done, address) = (AtomicBool::new(false), proxy.address());
    let requests = std::sync::Arc::clone(&proxy.requests);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = client::Client::new(address, std::sync::Arc::clone(&requests));
                while !done.load(Ordering::SeqCst) {
                    client.get("/x").send().is(200);
                }
            });
        }
        for round in 0..30 {
            let outcome = match round % 3 {
                0 => proxy.reload_to(|policy| policy.open(&format!("GET /new/{round}"))),
                1 => {
                    std::fs::write(proxy.file("policy.yaml"), "version: 1\nlisten: oops\n").unwrap();
                    proxy.reload()
                }
                // The same, with another route: the round before left a broken file.
                _ => proxy.reload_to(|policy| policy.route(&format!("GET /more/{round}"), "scopes: [s]")),
            };
            let expected = if round % 3 == 1 { proxy::Reloaded::Failed } else { proxy::Reloaded::Loaded };
            assert_eq!(outcome, expected, "round {round}");
        }
        done.store(true, Ordering::SeqCst);
    });
    proxy.done();
}

#[test]
fn a_broken_policy_changes_nothing_and_every_problem_is_told() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    std::fs::write(proxy.file("policy.yaml"), "version: 1\nlisten: [{ adress: \"127.0.0.1:0\" }]\n").unwrap();
    let told = operator(&proxy).post("/v1/policy/reload", "").bearer(proxy::ADMIN_TOKEN).send();
    assert_eq!(told.status, 422, "{}", told.text());
    let errors = told.json()["errors"].to_string();
    assert!(errors.contains("policy.yaml:2:12") && errors.contains("adress"), "{errors}");
    client(&proxy).get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_reload_refills_nobody() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).route("GET /x", "public: true, rate: 1/h").start();
    client(&proxy).get("/x").send().is(200);
    client(&proxy).get("/x").send().refused(429, "rate_limited");
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    client(&proxy).get("/x").send().refused(429, "rate_limited");
    client(&proxy).get("/y").send().is(200);
    proxy.done();
}

#[test]
fn a_connection_outlives_reloads_and_the_next_request_has_the_new_policy() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.get("/y").send().refused(404, "no_route");
    assert_eq!(proxy.reload(), proxy::Reloaded::Unchanged);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    client.get("/y").send().is(200);
    proxy.done();
}
