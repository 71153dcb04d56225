//! What watches the proxy: the page of metrics, and the rules and the dashboard in `examples/monitoring`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::client::operator;
use crate::support::*;

const RULES: [&str; 2] = ["recording.rules.yaml", "alerts.rules.yaml"];
const RULE_TESTS: &str = "alerts.test.yaml";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/monitoring").join(name)
}

/// A file of the example, without the comments of YAML.
fn text(name: &str) -> String {
    let text = std::fs::read_to_string(example(name)).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| line.to_owned() + "\n").collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&text("grafana-dashboard.json")).unwrap()
}

/// The queries of a dashboard: of panels, variables and annotations.
fn queries(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        Value::Object(members) => {
            let own = members.iter().filter(|(name, _)| ["expr", "definition"].contains(&name.as_str()));
            let own = own.filter_map(|(_, value)| value.as_str().map(str::to_owned));
            own.chain(members.values().flat_map(queries)).collect()
        }
        _ => Vec::new(),
    }
}

/// All that has queries in it: where, and the text.
fn texts_with_queries() -> Vec<(&'static str, String)> {
    let mut texts = RULES.map(|name| (name, text(name))).to_vec();
    texts.push((RULE_TESTS, text(RULE_TESTS)));
    texts.push(("grafana-dashboard.json", queries(&dashboard()).join("\n")));
    texts
}

/// A selector in a query: the metric, and label → value of its matchers.
struct Selector<'a> {
    metric: &'a str,
    matchers: Vec<(&'a str, &'a str)>,
}

/// The selectors of metrics of ours, of the process's, and of recorded ones, which have colons.
fn selectors(text: &str) -> Vec<Selector<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let name = &rest[start..];
        let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
        rest = &name[end..];
        let metric = name[..end].trim_end_matches(':');
        let ours = metric.starts_with("bartizan_") || metric.starts_with("process_") || metric.contains(":bartizan_");
        if ours {
            // Values hold no quotes and no braces.
            let set = rest.strip_prefix('{').and_then(|set| set.split('}').next()).unwrap_or_default();
            let matchers = set.split("\",").filter_map(|matcher| {
                let (label, value) = matcher.split_once('=').or_else(|| matcher.split_once('!'))?;
                Some((
                    label.trim().trim_end_matches('!'),
                    value.trim_start_matches(['=', '~']).trim().trim_matches('"'),
                ))
            });
            found.push(Selector { metric, matchers: matchers.collect() });
        }
    }
    found
}

/// What the rules record.
fn recorded() -> Vec<String> {
    let rules = text(RULES[0]);
    rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect()
}

/// A metric, as `bartizan help metrics` lists it.
struct Metric {
    kind: String,
    labels: Vec<String>,
}

/// Name → metric.
fn metrics() -> BTreeMap<String, Metric> {
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).args(["help", "metrics"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let heads = table.lines().find(|line| line.starts_with("METRIC")).unwrap();
    let [kind, labels, meaning] = ["TYPE", "LABELS", "MEANING"].map(|head| heads.find(head).unwrap());
    let rows = table.lines().skip_while(|line| *line != heads).skip(1);
    let metric = |row: &str| {
        let labels = row[labels..meaning].split(',').map(|label| label.trim().to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (row[..kind].trim().to_owned(), Metric { kind: row[kind..].split(' ').next().unwrap().to_owned(), labels })
    };
    rows.map(metric).collect()
}

/// Runs `promtool` with this on standard input; whether it is content, and what it says.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

fn lacks_promtool() -> bool {
    let lacks = !has("promtool");
    if lacks {
        skipped("there is no promtool");
    }
    lacks
}

/// The page of a proxy that has served calls of all kinds: every metric that there is has a sample.
fn page_of_a_busy_proxy() -> String {
    let (store, upstream) = (tempfile::TempDir::new().unwrap(), upstream().start());
    let issuer = issuer::Issuer::with(issuer::Key::ec("a \"quoted\" \\ key\nof two lines"));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let certified = authority().certifies(&["localhost"]);
    let (vault, _) = crate::vault::scripted(|_, _| None);
    let mut proxy = proxy()
        .before(&upstream)
        .server(&format!("http://{gone}"))
        .trusts(&issuer)
        .with(&format!("store: \"{}\"", store.path().display()))
        .with(&format!("secrets: {{ vault: {{ address: \"{}\", login: {{ token: t }} }} }}", vault.url()))
        .with("roles: { reader: [orders:read], other: [\"${vault:secret/app#admin}\"] }\nconsumers: { acme: { roles: [reader], plan: free, \
              keys: [{ id: acme, rotate: { every: 30d, deliver: \"vault:secret/acme#key\" } }] } }")
        .listen(r#"{ address: "127.0.0.1:0" }"#)
        .listen(r#"{ address: "127.0.0.2:0", tls: { certificate: c.pem, key: k.pem } }"#)
        .audit("{ spool: { path: spool }, to: [file: { path: audit.jsonl }] }")
        .file("c.pem", certified.certificate)
        .file("k.pem", certified.key)
        .open("GET /open")
        .route("GET /orders", "scopes: [orders:read]")
        .route("GET /rare", "public: true, rate: 1/day")
        .route("GET /reported", "scopes: [orders:read], mode: report")
        .start();
    let mut operator = operator(&proxy);
    assert_eq!(operator.get("/v1/policy").send().status, 401);
    let key = json!({"id": "soon", "expires": "10d"}).to_string();
    assert_eq!(operator.post("/v1/consumers/acme/keys", key).bearer(proxy::ADMIN_TOKEN).send().status, 201);
    let mut client = client(&proxy);
    let mut reached: Vec<u16> = (0..2).map(|_| client.get("/open").send().status).collect();
    reached.sort_unstable();
    assert_eq!(reached, [200, 502], "they take turns");
    client.get("/nowhere").send().is(404);
    client.get("/orders").send().is(401);
    for path in ["/orders", "/reported", "/rare", "/rare"] {
        client.get(path).bearer(issuer.token().text()).send();
    }
    client.get("/reported").send();
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /more")), proxy::Reloaded::Loaded);
    let listed = metrics();
    let page = eventually("every metric has a sample", || {
        let page = operator.get("/metrics").send().text();
        let sampled = |name: &str, histogram| {
            let start = if histogram { format!("{name}_bucket{{") } else { name.to_owned() };
            page.lines()
                .any(|line| line.strip_prefix(&start).is_some_and(|rest| histogram || rest.starts_with(['{', ' '])))
        };
        listed.iter().all(|(name, metric)| sampled(name, metric.kind == "histogram")).then(|| page.clone())
    });
    proxy.done();
    page
}

/// U9: what the tool of Prometheus wants of names, kinds and help texts.
#[test]
fn promtool_finds_nothing_wrong_with_the_page_of_metrics() {
    let page = page_of_a_busy_proxy();
    if lacks_promtool() {
        return;
    }
    assert_eq!(promtool(&["check", "metrics"], &page), (true, String::new()), "{page}");
    let undescribed = page.replace("# HELP bartizan_requests_total", "# bartizan_requests_total");
    let (content, said) = promtool(&["check", "metrics"], &undescribed);
    assert!(!content && said.contains("no help text"), "it looks at help texts: {said}");
}

#[test]
fn rules_and_dashboard_use_metrics_and_labels_that_exist() {
    let (listed, recorded) = (metrics(), recorded());
    let mut used = BTreeSet::new();
    for (place, text) in texts_with_queries() {
        let found = selectors(&text);
        assert!(found.len() > 20, "{place}: {} selectors", found.len());
        for Selector { metric, matchers } in found {
            let histogram = metric.strip_suffix("_bucket").and_then(|name| listed.get(name));
            let labels: &[String] = match histogram.or_else(|| listed.get(metric)) {
                Some(found) => &found.labels,
                None => {
                    assert!(recorded.iter().any(|name| name == metric), "{place}: there is no metric {metric}");
                    used.insert(metric.to_owned());
                    &["api", "route", "server"].map(str::to_owned)
                }
            };
            for (label, _) in matchers {
                let of_scrape = ["job", "instance"].contains(&label) || (label == "le" && histogram.is_some());
                assert!(of_scrape || labels.iter().any(|known| known == label), "{place}: {metric} has no {label}");
            }
        }
    }
    assert_eq!(used, recorded.iter().cloned().collect(), "every rule is used");
}

/// Code → statuses, as `bartizan help codes` lists them.
fn codes() -> BTreeMap<String, Vec<u16>> {
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).args(["help", "codes"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let mut codes: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    for row in table.lines().skip_while(|line| !line.starts_with("CODE")).skip(1) {
        let mut words = row.split_whitespace();
        let (code, status) = (words.next().unwrap(), words.next().unwrap());
        codes.entry(code.to_owned()).or_default().push(status.parse().unwrap());
    }
    codes
}

#[test]
fn rules_and_dashboard_use_codes_that_exist_and_count_every_error() {
    let codes = codes();
    let known = |code: &str| {
        let others = ["2xx", "5xx", "[1-5]xx", "client_disconnected", "client_stalled"];
        codes.contains_key(code) || others.contains(&code)
    };
    let texts = texts_with_queries();
    for (place, text) in &texts {
        let named = selectors(text).into_iter().flat_map(|selector| selector.matchers);
        for code in named.filter(|(label, _)| *label == "code").flat_map(|(_, values)| values.split('|')) {
            assert!(known(code), "{place}: there is no code {code}");
        }
    }
    let of_server = |statuses: &[u16]| statuses.iter().all(|status| *status >= 500);
    let mut errors: BTreeSet<&str> =
        codes.iter().filter(|(_, statuses)| of_server(statuses)).map(|(code, _)| code.as_str()).collect();
    errors.insert("5xx");
    let (_, rule) = texts[0].1.split_once("route:bartizan_errors:rate5m\n").unwrap();
    let counted: BTreeSet<&str> = selectors(rule)[0].matchers[0].1.split('|').collect();
    assert_eq!(counted, errors);
}

#[test]
fn every_alert_is_tested_and_explained() {
    let (tests, readme) = (text(RULE_TESTS), text("README.md"));
    let alerts = text(RULES[1]);
    let alerts: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 20, "{}", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        let fires = format!("alertname: {name}\n");
        let expected =
            tests.split(&fires).skip(1).any(|test| test.split("alertname:").next().unwrap().contains("exp_labels"));
        assert!(expected, "{RULE_TESTS}: {name} never fires");
        assert!(readme.contains(&format!("`{name}`")), "README.md: it does not say what to do about {name}");
        let severity = alert.split("severity: ").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(matches!(severity, Some("critical" | "warning")), "{name}: {severity:?}");
    }
}

#[test]
fn promtool_accepts_configuration_rules_and_their_tests() {
    if lacks_promtool() {
        return;
    }
    let files = |names: &[&str]| names.iter().map(|name| example(name).display().to_string()).collect::<Vec<_>>();
    for (command, files) in [
        (["check", "config"], files(&["prometheus.yml"])),
        (["check", "rules"], files(&RULES)),
        (["test", "rules"], files(&[RULE_TESTS])),
    ] {
        let arguments: Vec<&str> = command.into_iter().chain(files.iter().map(String::as_str)).collect();
        let (content, said) = promtool(&arguments, "");
        assert!(content, "{command:?}: {said}");
    }

    // The tests can fail.
    let folder = tempfile::TempDir::new().unwrap();
    for name in RULES.iter().chain([&RULE_TESTS]) {
        let text = text(name).replace("ratio_rate5m > 0.05", "ratio_rate5m > 0.5");
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let file = folder.path().join(RULE_TESTS).display().to_string();
    let (content, said) = promtool(&["test", "rules", &file], "");
    assert!(!content && said.contains("BartizanErrorShareHigh"), "{said}");
}

#[test]
fn the_dashboard_is_one_that_grafana_can_show() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
    let mut ids = BTreeSet::new();
    for (position, panel) in panels.iter().enumerate() {
        let (title, [x, y, w, h]) = (panel["title"].as_str().unwrap(), place(panel));
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's, too");
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}");
        for other in &panels[..position] {
            let [left, top, width, height] = place(other);
            let apart = x >= left + width || left >= x + w || y >= top + height || top >= y + h;
            assert!(apart, "{title} lies on {}", other["title"]);
        }
        assert_eq!(panel["type"] == "row", panel["targets"].as_array().is_none_or(Vec::is_empty), "{title}");
    }
    let queries = queries(&dashboard);
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let variables: Vec<&str> = variables.map(|variable| variable["name"].as_str().unwrap()).collect();
    let asked = queries.iter().flat_map(|query| query.split('$').skip(1));
    for name in asked.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()) {
        assert!(name == "__rate_interval" || variables.contains(&name), "there is no variable ${name}");
    }

    if lacks_promtool() {
        return;
    }
    // As rules, which promtool reads.
    let rules = queries.iter().filter(|query| !query.starts_with("label_values(")).enumerate();
    let rules = rules.map(|(number, query)| {
        let query = query.replace("$__rate_interval", "5m");
        format!("  - {{ record: \"panel:{number}\", expr: {} }}\n", Value::from(query))
    });
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("panels.yaml");
    std::fs::write(&file, format!("groups:\n- name: panels\n  rules:\n{}", rules.collect::<String>())).unwrap();
    let (content, said) = promtool(&["check", "rules", &file.display().to_string()], "");
    assert!(content, "{said}");
}
