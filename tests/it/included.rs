//! Policies of several files (`include`).

use std::fs;

use crate::support::*;

/// An API that another file of the policy defines.
fn team(upstream: &Upstream, name: &str) -> String {
    format!("apis:\n  {name}:\n    upstream: {}\n    routes: {{ GET /{name}: {{ public: true }} }}\n", upstream.url())
}

fn including(upstream: &Upstream) -> Policy {
    let policy = proxy().before(upstream).open("GET /own").with("include: [teams/*.yaml]");
    policy.file("teams/a.yaml", team(upstream, "a"))
}

#[test]
fn what_teams_define_in_their_own_files_is_served_and_reloaded() {
    let upstream = upstream().start();
    let mut proxy = including(&upstream).start();
    let mut client = client(&proxy);
    client.get("/own").send().is(200);
    client.get("/a").send().is(200);
    client.get("/b").send().refused(404, "no_route");
    let b = team(&upstream, "b");
    assert_eq!(proxy.reload_to(|policy| policy.file("teams/b.yaml", b)), proxy::Reloaded::Loaded);
    client.get("/b").send().is(200);
    // All or nothing: one wrong file changes nothing.
    let wrong = team(&upstream, "c").replace("public", "pulbic");
    let failed = proxy.reload_to(|policy| policy.file("teams/c.yaml", wrong));
    assert_eq!(failed, proxy::Reloaded::Failed);
    proxy.stderr.wait("unknown key `pulbic`", 1);
    client.get("/b").send().is(200);
    client.get("/c").send().refused(404, "no_route");
    proxy.done();
}

#[test]
fn check_shows_a_problem_in_the_file_where_it_is() {
    let upstream = upstream().start();
    let wrong = team(&upstream, "b").replace("GET /b", "GET /own").replace("upstream", "upstraem");
    let said = including(&upstream).file("teams/b.yaml", wrong).checked();
    assert!(said.contains("teams/b.yaml:3:5") && said.contains("upstraem: http"), "{said}");
    let twice = including(&upstream).file("teams/b.yaml", team(&upstream, "a")).checked();
    assert!(twice.contains("`a` is defined twice; the first is at ") && twice.contains("teams/a.yaml:2:3"), "{twice}");
}

#[test]
fn a_file_that_appears_is_seen_where_the_policy_is_watched() {
    let upstream = upstream().start();
    let proxy = including(&upstream).with("secrets: { watch: { every: 100ms, policy: true } }").start();
    fs::write(proxy.file("teams/b.new"), team(&upstream, "b")).unwrap();
    fs::rename(proxy.file("teams/b.new"), proxy.file("teams/b.yaml")).unwrap();
    proxy.stderr.wait("the policy was reloaded because ", 1);
    client(&proxy).get("/b").send().is(200);
    fs::remove_file(proxy.file("teams/a.yaml")).unwrap();
    proxy.stderr.wait("the policy was reloaded because ", 2);
    client(&proxy).get("/a").send().refused(404, "no_route");
    proxy.done();
}

/// A secret that rotates must not put in force what a team has written meanwhile.
#[test]
fn included_files_wait_for_a_reload_like_the_policy_itself() {
    let upstream = upstream().start();
    let policy =
        including(&upstream).with("secrets: { watch: 100ms }").file("token", "0123456789abcdef0123456789abcdef");
    let text = policy.yaml();
    let admin = text.lines().find(|line| line.starts_with("admin:")).unwrap();
    let two = "admin: { address: \"127.0.0.1:0\", token: \"${file:token}\" }";
    let proxy = proxy().text(&text.replace(admin, two)).file("token", "0123456789abcdef0123456789abcdef");
    let proxy = proxy.file("teams/a.yaml", team(&upstream, "a")).start();
    fs::write(proxy.file("teams/b.yaml"), team(&upstream, "b")).unwrap();
    proxy.stderr.wait("the policy has changed, and waits for a reload", 1);
    fs::write(proxy.file("token.new"), "abcdef0123456789abcdef0123456789").unwrap();
    fs::rename(proxy.file("token.new"), proxy.file("token")).unwrap();
    proxy.stderr.wait("the policy was reloaded because ", 1);
    client(&proxy).get("/a").send().is(200);
    client(&proxy).get("/b").send().refused(404, "no_route");
    proxy.done();
}
