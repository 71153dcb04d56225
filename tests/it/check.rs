//! `bartizan check`: every problem of a file in one pass, each at its place.

use std::process::Command;

use serde_json::Value;

const WRONG: &str = "\
version: 1
listn: [{ address: \"127.0.0.1:0\" }]
listen: [{ address: \"localhost:8080\" }]
timeouts: { idle: 75 }
strict: false
roles: { clerk: [orders:read] }
plans: { gold: { rate: 5/s } }
consumers: { acme: { roles: [clark], plan: glod } }
apis:
  orders:
    upstream: { servers: [\"http://127.0.0.1:9000\"], protocol: h2 }
    routes:
      GET /a/{x}: { scopes: [orders:read] }
      GET /a/{y}: { scopes: [orders:read] }
      GET /b: {}
      POST /c: { scopes: [s], request: { json: schema.json } }
audit: [stdout, { file: { path: \"${env:NOT_SET_ANYWHERE}\" } }]
";

fn check(text: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("policy.yaml"), text).unwrap();
    std::fs::write(folder.path().join("schema.json"), "{\n  \"type\": \"strin\"\n}\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.current_dir(folder.path()).args(["check", "policy.yaml"]).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_problem_is_reported_at_its_place() {
    let (code, out, _) = check(WRONG, &["--format", "json"]);
    assert_eq!(code, Some(2));
    let report: Value = serde_json::from_str(&out).unwrap();
    let reported: Vec<String> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            let words =
                problem["message"].as_str().unwrap().to_owned() + " / " + problem["help"].as_str().unwrap_or("");
            format!("{}:{}:{} {words}", problem["file"].as_str().unwrap(), problem["line"], problem["column"])
        })
        .collect();
    for expected in [
        ("policy.yaml:2:1 ", "did you mean `listen`?"),
        ("policy.yaml:3:21 ", "127.0.0.1:8080"),
        ("policy.yaml:4:19 ", "`75s`"),
        ("policy.yaml:11:27 ", "`protocol: h2c`"),
        ("policy.yaml:8:30 ", "did you mean `clerk`?"),
        ("policy.yaml:8:44 ", "did you mean `gold`?"),
        ("policy.yaml:14:7 ", "GET /a/{x}"),
        ("policy.yaml:15:7 ", "public: true"),
        ("policy.yaml:17:34 ", "NOT_SET_ANYWHERE"),
        ("schema.json:2:11 ", "this JSON Schema cannot be used"),
    ] {
        assert!(
            reported.iter().any(|line| line.starts_with(expected.0) && line.contains(expected.1)),
            "{expected:?}\n{reported:#?}"
        );
    }
    assert_eq!(reported.len(), 10, "{reported:#?}");
}

#[test]
fn the_line_itself_is_shown() {
    let (code, out, err) = check(WRONG, &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("timeouts: { idle: 75 }") && err.contains("^^"), "{err}");
}

#[test]
fn an_alias_bomb_is_reported_and_quick() {
    let mut text = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let (code, _, err) = check(&text, &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("policy.yaml:"), "{err}");
}

#[test]
fn a_good_file_says_who_may_do_what() {
    let good = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\nroles: { r: [s] }\n\
                consumers: { c: { roles: [r], identities: [{ certificate_san: c.example }] } }\napis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { scopes: [s] } } } }\n";
    let (code, out, err) = check(good, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("ok: 1 API, 1 route\n") && out.contains("GET /x  s"), "{out}");
}

/// Addresses that cannot be bound together, and upstreams that lead back, are found before the start (U11).
#[test]
fn the_own_addresses_are_neither_taken_twice_nor_called() {
    let bound = "cannot be bound together";
    let back = "this server is the proxy itself";
    for (listen, admin, upstream, reported) in [
        (&["127.0.0.1:8080"][..], "127.0.0.1:9901", "127.0.0.1:9000", None),
        (&["127.0.0.1:8080", "[::1]:8080"], "127.0.0.1:0", "10.0.0.1:8080", None),
        (&["127.0.0.1:0", "0.0.0.0:0"], "127.0.0.1:0", "127.0.0.1:9000", None),
        (&["127.0.0.1:8080"], "127.0.0.1:8080", "127.0.0.1:9000", Some("also an address for requests")),
        (&["0.0.0.0:8080"], "127.0.0.1:8080", "127.0.0.1:9000", Some(bound)),
        (&["[::]:8080", "0.0.0.0:8080"], "127.0.0.1:9901", "127.0.0.1:9000", Some(bound)),
        (&["127.0.0.1:8080", "[::]:8080"], "127.0.0.1:9901", "127.0.0.1:9000", Some(bound)),
        (&["127.0.0.1:8080"], "127.0.0.1:9901", "127.0.0.1:8080", Some(back)),
        (&["0.0.0.0:8080"], "127.0.0.1:9901", "localhost:8080", Some(back)),
        (&["[::]:8080"], "127.0.0.1:9901", "127.0.0.1:8080", Some(back)),
        (&["[::]:8080"], "127.0.0.1:9901", "[::1]:8080", Some(back)),
        (&["0.0.0.0:80"], "127.0.0.1:9901", "0.0.0.0", Some(back)),
        (&["192.0.2.7:8080"], "127.0.0.1:9901", "192.0.2.7:8080", Some(back)),
        (&["192.0.2.7:8080"], "127.0.0.1:9901", "127.0.0.1:8080", None),
    ] {
        let listen: Vec<_> = listen.iter().map(|address| format!("{{ address: \"{address}\" }}")).collect();
        let text = format!(
            "version: 1\nlisten: [{}]\nadmin: {{ address: \"{admin}\" }}\n\
             apis: {{ a: {{ upstream: \"http://{upstream}\", routes: {{ GET /x: {{ public: true }} }} }} }}\n",
            listen.join(", ")
        );
        let (code, _, err) = check(&text, &[]);
        let found = match reported {
            None => code == Some(0) && err.is_empty(),
            Some(reported) => code == Some(2) && err.contains(reported) && err.contains("1 problem in policy.yaml"),
        };
        assert!(found, "{text}{reported:?}: {code:?} {err}");
    }
}

/// F36: 8,000 consumers were too many.
#[test]
fn a_policy_may_have_many_consumers() {
    let mut text = "version: 1\nlisten: [{ address: \"127.0.0.1:0\" }]\n\
                    apis: { a: { upstream: \"http://127.0.0.1:9\", routes: { GET /x: { scopes: [s] } } } }\n\
                    plans: { p: { rate: 1/s } }\nroles: { r: [s] }\nauth: { api_keys: { header: x-key } }\nconsumers:\n"
        .to_owned();
    for number in 0..20_000 {
        let digest = format!("{number:064x}");
        text.push_str(&format!(
            "  consumer-{number}: {{ roles: [r], plan: p, keys: [{{ id: key-{number}, sha256: \"{digest}\" }}] }}\n"
        ));
    }
    assert!(text.len() > 2 << 20);
    let (code, out, err) = check(&text, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("ok: 1 API, 1 route\n"), "{out}");
}

#[test]
fn quotas_that_cannot_hold_are_reported() {
    for (plans, store, expected) in [
        ("free: { rate: 1/s, quota: 5/day }", "", Some("quotas are reset when this process restarts")),
        ("free: { rate: 1/s, quota: 5/day }", "store: s", None),
        ("free: { rate: 1/s, quota: { count: 5/day, zone: Europe/Berlin } }", "store: s", None),
        ("free: { rate: 1/s, quota: { count: 5/day, zone: Berlin } }", "store: s", Some("`Berlin` is not a time zone")),
        ("free: { rate: 1/s, quota: [5/day, 9/day] }", "store: s", Some("another quota for each day in this list")),
        ("free: { rate: 1/s, quota: [] }", "store: s", Some("this list of quotas is empty")),
        ("free: { rate: 1/s, quota: 5/s }", "store: s", Some("`s` is not a unit of a quota")),
        ("free: { rate: 1/s, classes: { c: {} } }", "", Some("a class has a `rate` or a `quota`")),
        (
            "free: { rate: 1/s, classes: { c: { burst: 2, quota: 5/day } } }",
            "store: s",
            Some("`burst` belongs to a `rate`"),
        ),
        (
            "free: { rate: 1/s, count_by: organization, quota: 5/day }, \
             gold: { rate: 1/s, count_by: organization, quota: { count: 5/day, zone: Europe/Berlin } }",
            "store: s",
            Some("count by organization, and their quotas for each day have other time zones"),
        ),
    ] {
        let policy = format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\nplans: {{ {plans} }}\n{store}\n\
             consumers: {{ acme: {{ plan: free }} }}\n\
             apis: {{ a: {{ upstream: \"http://127.0.0.1:9\", routes: {{ GET /x: {{ scopes: [a] }} }} }} }}\n"
        );
        let (_, _, problems) = check(&policy, &[]);
        match expected {
            Some(text) => assert!(problems.contains(text), "{plans}: {problems}"),
            None => assert!(!problems.contains("quota"), "{plans}: {problems}"),
        }
    }
}

/// A route that costs more than a limit ever allows at once would refuse every request.
#[test]
fn a_cost_that_never_fits_is_reported() {
    for (plan, route, expected) in [
        ("rate: 1/s, burst: 5", "cost: 6", Some("`GET /x` costs 6, more than the limit `free` of this plan allows")),
        ("rate: 9/s, classes: { c: 1/s }", "cost: 6, class: c", Some("more than the limit `c` of this plan allows")),
        ("rate: 9/s", "cost: 6, rate: 1/s", Some("a request costs 6, and the route's own `rate` allows 1 at once")),
        ("rate: 9/s", "cost: 0", Some("`cost` is at least 1")),
        ("rate: 9/s", "cost: 6, rate: 6/s", None),
    ] {
        let policy = format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\nplans: {{ free: {{ {plan} }} }}\n\
             store: state/\nconsumers: {{ acme: {{ plan: free }} }}\n\
             apis: {{ a: {{ upstream: \"http://127.0.0.1:9\", routes: {{ GET /x: {{ scopes: [a], {route} }} }} }} }}\n"
        );
        let (_, _, problems) = check(&policy, &[]);
        match expected {
            Some(text) => assert!(problems.contains(text), "{plan} {route}: {problems}"),
            None => assert!(!problems.contains("cost"), "{plan} {route}: {problems}"),
        }
    }
}

/// A policy without a warning, with these changes.
fn linted(changes: &[(&str, &str)]) -> String {
    const TIDY: &str = "version: 1
allow: []
listen: [{ address: \"127.0.0.1:0\" }]
auth: { issuers: { corp: { issuer: \"https://i.example\", audience: [a], secret: \"0123456789abcdef0123456789abcdef\", algorithms: [HS256], max_lifetime: 1h } } }
roles: { clerk: [orders:read, orders:write] }
plans: { gold: { rate: 5/s, classes: { report: 1/s } } }
consumers: { acme: { roles: [clerk], plan: gold, identities: [{ issuer: corp, id: acme }] } }
apis:
  orders:
    upstream: http://127.0.0.1:9000
    routes:
      GET /a: { scopes: [orders:read], class: report }
      POST /a: { scopes: [orders:write] }
audit: none
";
    let text = changes.iter().fold(TIDY.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let (code, _, said) = check(&text, &[]);
    assert!(matches!(code, Some(0)) || said.contains("error:"), "{said}");
    said
}

#[test]
fn what_nothing_uses_and_what_is_misspelt_is_reported_unless_it_is_meant() {
    let roles = ("roles: { clerk", "roles: { auditor: [orders:read], clerk");
    let plan = ("plans: { gold", "plans: { silver: { rate: 1/s }, gold");
    let class = ("classes: { report: 1/s }", "classes: { report: 1/s, export: 1/s }");
    let mute = ("consumers: { acme", "consumers: { mute: { roles: [clerk], plan: gold }, acme");
    let slip = ("GET /a: { scopes: [orders:read]", "GET /a: { scopes: [order:read]");
    let mask = "response: { mask: { /iban: { visible_to: [order:read] } } }, scopes: [orders:read]";
    let masked = ("GET /a: { scopes: [orders:read]", &*format!("GET /a: {{ {mask}"));
    let ungranted = ("POST /a: { scopes: [orders:write]", "POST /a: { scopes: [orders:refund]");
    let twins = ("roles: { clerk: [", "roles: { clerk: [orders.read, ");
    assert_eq!(linted(&[]), "");
    for (change, place, words, name) in [
        (roles, "policy.yaml:5:", "no consumer has the role `auditor`", "unused_role auditor"),
        (plan, "policy.yaml:6:", "no consumer has the plan `silver`", "unused_plan silver"),
        (class, "policy.yaml:6:", "no route has the class `export`", "unused_class export"),
        (mute, "policy.yaml:7:", "the consumer `mute` has no credential", "no_credential mute"),
        (slip, "policy.yaml:12:", "did you mean `orders:read`?", "ungranted_scope order:read"),
        (
            ungranted,
            "policy.yaml:13:",
            "write it at a role: nobody can call this route",
            "ungranted_scope orders:refund",
        ),
        (masked, "policy.yaml:12:", "which a mask of `GET /a` names", "ungranted_scope order:read"),
        (
            twins,
            "policy.yaml:5:",
            "`orders:read` and `orders.read` may be two names of one scope",
            "two_names orders:read",
        ),
    ] {
        let said = linted(&[change]);
        assert!(said.contains(place) && said.contains(words), "{place} {words}: {said}");
        assert!(said.contains(&format!("`allow: [{name}]`")), "{said}");
        assert_eq!(said.matches("warning:").count(), 1, "{said}");
        for allowed in [name, name.split(' ').next().unwrap()] {
            assert_eq!(linted(&[change, ("allow: []", &format!("allow: [{allowed}]"))]), "");
        }
        let other = linted(&[change, ("allow: []", "allow: [unused_role nobody]")]);
        assert!(other.contains(words) && other.contains("there is no such warning"), "{other}");
    }
    assert!(linted(&[("allow: []", "allow: [unused_rol]")]).contains("did you mean `unused_role`?"));
    // What may be used at run time, or by tokens, is not reported.
    let open = ("max_lifetime: 1h", "max_lifetime: 1h, default_plan: gold");
    assert_eq!(linted(&[ungranted, open]), "");
    assert!(linted(&[slip, open]).contains("did you mean `orders:read`?"));
    let claim = ("max_lifetime: 1h", "max_lifetime: 1h, role_claim: roles, scopes_and_roles: union");
    assert_eq!(linted(&[roles, claim]), "");
    let store = ("listen:", "store: state/\nlisten:");
    assert_eq!(linted(&[roles, plan, mute, ungranted, store]), "");
    let catalog = ("listen:", "catalog: { \"https://example.com/a\": schema.json }\nlisten:");
    let said = linted(&[catalog]);
    assert!(said.contains("no schema refers to this URL"), "{said}");
}
