//! The admin page: what is sent, and what it does in a real browser.

use crate::support::chromium::{Browser, Tab};
use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

const READER: &str = "a-token-that-only-looks";
const PEOPLE: &str =
    "store: ./store\nroles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }";

/// With a store and a consumer.
fn policy(upstream: &Upstream) -> Policy {
    proxy().before(upstream).with(PEOPLE).route("GET /x", "scopes: [orders:read]").open("GET /open")
}

/// With a token that may only read.
fn with_reader(policy: Policy) -> Policy {
    let tokens = format!("tokens: [{{ name: board, token: {READER}, rights: read }}], token:");
    let text = policy.yaml().replace("token:", &tokens);
    policy.text(&text)
}

fn url(proxy: &Proxy, rest: &str) -> String {
    format!("http://{}/{rest}", proxy.admin())
}

/// Follows the link that `bartizan demo` prints.
#[track_caller]
fn signs_in(tab: &mut Tab, proxy: &Proxy) {
    tab.goes(&url(proxy, &format!("#token={ADMIN_TOKEN}")));
    tab.waits("document.getElementById('app')?.hidden === false");
}

/// A button with this text is there.
fn has_button(text: &str) -> String {
    format!("[...document.querySelectorAll('button')].some((one) => one.textContent === {})", json!(text))
}

/// Clicks the button with this text in the row that has that text.
#[track_caller]
fn clicks(tab: &mut Tab, row: &str, text: &str) {
    let found = format!(
        "[...document.querySelectorAll('tbody tr')].filter((row) => row.textContent.includes({})) \
         .flatMap((row) => [...row.querySelectorAll('button')]).find((one) => one.textContent === {})",
        json!(row),
        json!(text)
    );
    tab.waits(&format!("Boolean({found})"));
    tab.value(&format!("{found}.click()"));
}

/// Confirms what a dialog asks.
#[track_caller]
fn confirms(tab: &mut Tab, title: &str) {
    tab.waits(&format!("document.getElementById('dialog-title').textContent.includes({})", json!(title)));
    tab.value("document.getElementById('dialog-act').click()");
}

#[track_caller]
fn new_key(proxy: &Proxy, id: &str) -> String {
    let body = json!({ "id": id, "note": "<img src=x onerror=xss()>" }).to_string();
    let made = operator(proxy).post("/v1/consumers/acme/keys", body).bearer(ADMIN_TOKEN).send();
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["key"].as_str().unwrap().to_owned()
}

#[test]
fn the_page_needs_no_token_and_says_what_the_browser_may_do() {
    let upstream = upstream().start();
    let proxy = with_reader(policy(&upstream)).start();
    let mut operator = operator(&proxy);
    let page = operator.get("/").send();
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(!text.contains(ADMIN_TOKEN) && !text.contains("orders:read"), "it shows nothing by itself");
    let policy = page.header("content-security-policy").unwrap().to_owned();
    for rule in [
        "default-src 'none'",
        "script-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    operator.post("/", "").send().refused(405, "method_not_allowed");
    operator.get("/index.html").send().refused(404, "no_route");
    // Neither a cookie nor the address signs anybody in: only the header does, which other sites cannot send.
    let cookie = format!("token={ADMIN_TOKEN}");
    operator.get("/v1/operator").header("cookie", &cookie).send().refused(401, "missing_credentials");
    operator.get(&format!("/v1/operator?token={ADMIN_TOKEN}")).send().refused(401, "missing_credentials");
    let origin = ("origin", "https://evil.example");
    let preflight = operator.request("OPTIONS", "/v1/operator").header(origin.0, origin.1).send();
    assert!(preflight.status >= 400 && preflight.header("access-control-allow-origin").is_none());

    let me = |token: &str| crate::support::client::operator(&proxy).get("/v1/operator").bearer(token).send().json();
    assert_eq!(me(ADMIN_TOKEN), json!({ "name": "admin", "rights": "operate" }));
    assert_eq!(me(READER), json!({ "name": "board", "rights": "read" }));
    let sinks = operator.get("/v1/sinks").bearer(READER).send().json();
    assert!(sinks["items"][0]["sink"].as_str().unwrap().contains("audit.jsonl"), "{sinks}");
    assert_eq!((&sinks["items"][0]["error"], &sinks["dropped"]), (&Value::Null, &json!(0)), "{sinks}");
    proxy.done();
}

#[test]
fn operators_sign_in_and_readers_change_nothing() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let upstream = upstream().start();
    let proxy = with_reader(policy(&upstream)).start();
    new_key(&proxy, "acme-1");
    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    tab.goes(&url(&proxy, ""));
    // With the keyboard alone.
    tab.waits("document.activeElement?.id === 'token'");
    tab.types("a-wrong-token");
    tab.presses("Enter");
    tab.waits("document.getElementById('sign-in-error').textContent.includes('unknown')");
    assert_eq!(tab.value("document.getElementById('app').hidden"), true);
    tab.types(READER);
    tab.presses("Enter");
    tab.waits("!document.getElementById('app').hidden && document.getElementById('operator').textContent.includes('read only')");
    tab.value("location.hash = 'keys'");
    tab.waits("document.body.innerText.includes('acme-1')");
    for change in ["Rotate", "Revoke"] {
        assert_eq!(tab.value(&has_button(change)), false, "{change}");
    }
    // The token is in memory only.
    let found = format!(
        "[document.documentElement.outerHTML, location.href, document.cookie, JSON.stringify({{...localStorage, \
         ...sessionStorage}}), document.getElementById('token').value].some((text) => text.includes('{READER}'))"
    );
    assert_eq!(tab.value(&found), false);
    tab.value("document.getElementById('sign-out').click()");
    tab.waits("document.getElementById('app').hidden && !document.body.textContent.includes('acme-1')");

    // A link with a token signs in, and does not stay in the address, nor in the history.
    tab.goes("about:blank");
    signs_in(&mut tab, &proxy);
    assert_eq!(tab.value("document.getElementById('operator').textContent"), "admin");
    assert_eq!(tab.value("location.href"), url(&proxy, ""));
    let history = tab.call("Page.getNavigationHistory", json!({})).to_string();
    assert!(!history.contains(ADMIN_TOKEN), "{history}");
    // What is not accepted any longer ends the session.
    let changed = |policy: Policy| {
        let text = policy.yaml().replace(ADMIN_TOKEN, "another-admin-token-for-tests");
        policy.text(&text)
    };
    let mut proxy = proxy;
    proxy.reload_to(changed);
    tab.value("location.hash = 'consumers'");
    tab.waits("document.getElementById('app').hidden && document.getElementById('sign-in-error').textContent !== ''");
    drop(browser);
    proxy.done();
}

#[test]
fn a_key_is_rotated_and_revoked_and_seen_refused() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let upstream = upstream().start();
    let proxy = policy(&upstream).start();
    let (first, mut client) = (new_key(&proxy, "acme-1"), client(&proxy));
    client.get("/x").key(&first).send().is(200);
    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    signs_in(&mut tab, &proxy);
    tab.value("location.hash = 'keys'");
    clicks(&mut tab, "acme-1", "Rotate");
    confirms(&mut tab, "Rotate the key acme-1?");
    tab.waits("document.getElementById('secret')?.textContent.startsWith('bz_')");
    let second = tab.value("document.getElementById('secret').textContent");
    client.get("/x").key(second.as_str().unwrap()).send().is(200);
    client.get("/x").key(&first).send().is(200);
    // It is shown once.
    tab.presses("Escape");
    tab.waits("!document.getElementById('dialog').open && !document.documentElement.outerHTML.includes('bz_')");
    // The row with the button is another one now, and those who use the keyboard are not lost.
    tab.waits("document.activeElement.id === 'main'");

    clicks(&mut tab, "acme-1", "Revoke");
    tab.presses("Escape");
    client.get("/x").key(&first).send().is(200);
    // One that is closed and one that is opened at once: the second is whole.
    let revoke = "[...document.querySelectorAll('tbody tr')].find((row) => row.textContent.startsWith('acme-1'))\
                  .querySelector('button.danger')";
    tab.value(&format!("{revoke}.click(); document.getElementById('dialog-close').click(); {revoke}.click()"));
    tab.waits("document.getElementById('dialog').open");
    tab.value("new Promise((done) => setTimeout(done))");
    tab.waits("document.getElementById('dialog-body').textContent !== ''");
    tab.presses("Escape");
    clicks(&mut tab, "acme-1", "Revoke");
    confirms(&mut tab, "Revoke the key acme-1?");
    tab.waits("[...document.querySelectorAll('tbody tr')].some((row) => row.textContent.startsWith('acme-1') && row.textContent.includes('revoked'))");
    tab.value("location.hash = 'live'");
    tab.waits("document.getElementById('live-state')?.textContent.startsWith('following')");
    client.get("/x").key(&first).send().refused(401, "revoked");
    tab.waits("document.querySelector('#live-rows tbody')?.textContent.includes('revoked')");

    tab.value("location.hash = 'consumers'");
    clicks(&mut tab, "acme", "Suspend");
    confirms(&mut tab, "Suspend acme?");
    tab.waits("document.querySelector('tbody').textContent.includes('suspended')");
    client.get("/x").key(second.as_str().unwrap()).send().refused(403, "consumer_suspended");
    drop(browser);
    proxy.done();
}

#[test]
fn a_partner_is_invited_and_findings_and_limits_are_shown() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let upstream = upstream().start();
    let proxy = policy(&upstream)
        .with("self_service: { path: /.bartizan }")
        .plan("free: { rate: 7/h, burst: 7 }")
        .route("GET /reported", "scopes: [orders:read], mode: report")
        .start();
    let (key, mut client) = (new_key(&proxy, "acme-1"), client(&proxy));
    client.get("/reported").send().is(200);
    client.get("/x").send().refused(401, "missing_credentials");
    client.get("/x").key(&key).send().is(200);
    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    signs_in(&mut tab, &proxy);
    tab.value("location.hash = 'consumers'");
    clicks(&mut tab, "acme", "Invite");
    confirms(&mut tab, "Invite acme");
    tab.waits("document.getElementById('secret')?.textContent.startsWith('bzi_')");
    let code = tab.value("document.getElementById('secret').textContent");
    let claimed =
        client.post("/.bartizan/invitations/claim", json!({ "code": code }).to_string()).send().is(201).json();
    client.get("/x").key(claimed["key"].as_str().unwrap()).send().is(200);
    tab.presses("Escape");

    let has_row = |texts: &[&str]| {
        let texts = json!(texts);
        format!(
            "[...document.querySelectorAll('tbody tr')].some((row) => {texts}.every((text) => row.textContent.includes(text)))"
        )
    };
    tab.value("location.hash = 'findings'");
    tab.waits(&has_row(&["GET /reported", "missing_credentials", "1"]));
    tab.waits(&has_row(&["GET /x", "missing_credentials", "1"]));
    tab.value("location.hash = 'limits'");
    tab.waits(&has_row(&["acme", "free", "2 of 7"]));
    tab.value("location.hash = 'system'");
    tab.waits(&has_row(&["audit.jsonl"]));
    tab.waits(&has_row(&[&upstream.url(), "available"]));
    // The smallest telephones: nothing is beside the screen.
    let narrow = json!({ "width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": true });
    tab.call("Emulation.setDeviceMetricsOverride", narrow);
    for view in ["overview", "live", "consumers", "keys", "limits", "findings", "launch", "system"] {
        tab.value(&format!("location.hash = '{view}'"));
        tab.waits("!document.getElementById('main').innerText.includes('Loading …')");
        assert_eq!(tab.value("document.documentElement.scrollWidth <= innerWidth"), true, "{view}");
    }
    drop(browser);
    proxy.done();
}

/// The launch check of the page: what is to be done comes first, with its line; and readers see it, too.
#[test]
fn the_launch_check_is_shown() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let upstream = upstream().start();
    let markup = "acme: { roles: [reader], plan: free }, \"<img src=x onerror=xss()>\": { roles: [reader] }";
    let policy = with_reader(policy(&upstream));
    let text = policy.yaml().replace("acme: { roles: [reader], plan: free }", markup);
    let proxy = policy.text(&text).start();
    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    tab.goes(&url(&proxy, &format!("#token={READER}")));
    tab.waits("document.getElementById('app')?.hidden === false");
    tab.value("location.hash = 'launch'");
    tab.waits("document.querySelectorAll('ol.checks > li').length > 10");
    assert!(tab.value("document.querySelector('.verdict').textContent").as_str().unwrap().starts_with("not ready"));
    let badges = "[...document.querySelectorAll('ol.checks > li > .badge')].map((one) => one.textContent)";
    let badges = tab.value(badges);
    let badges: Vec<&str> = badges.as_array().unwrap().iter().map(|badge| badge.as_str().unwrap()).collect();
    let order = ["failed", "not looked at", "passed", "not applicable"];
    assert!(badges.is_sorted_by_key(|badge| order.iter().position(|known| known == badge)), "{badges:?}");
    let shown = tab.value("document.getElementById('main').innerText");
    let shown = shown.as_str().unwrap();
    assert!(shown.contains("<img src=x onerror=xss()>") && shown.contains("policy.yaml:"), "{shown}");
    assert_eq!(tab.value("document.querySelectorAll('#main img').length"), 0);
    // Each item is an entry of a list, with a heading of its own.
    assert_eq!(tab.value("document.querySelectorAll('ol.checks > li h2').length"), badges.len());
    // Wide and narrow, nothing is beside the screen.
    for width in [1200, 320] {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500 });
        tab.call("Emulation.setDeviceMetricsOverride", size);
        assert_eq!(tab.value("document.documentElement.scrollWidth <= innerWidth"), true, "{width}");
    }
    tab.value("[...document.querySelectorAll('button')].find((one) => one.textContent === 'Look again').click()");
    tab.waits("![...document.querySelectorAll('button')].find((one) => one.textContent === 'Look again').disabled");
    assert_eq!(tab.value("document.querySelector('#main .wrong').textContent"), "");
    drop(browser);
    proxy.done();
}

/// A partner is invited to a client of the token service, which is then seen and revoked.
#[test]
fn a_partner_is_invited_to_a_client() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let upstream = upstream().start();
    let proxy = policy(&upstream)
        .with("self_service: { path: /.bartizan }")
        .with("token_service: { issuer: \"http://127.0.0.1\", audience: [x] }")
        .start();
    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    signs_in(&mut tab, &proxy);
    tab.value("location.hash = 'consumers'");
    clicks(&mut tab, "acme", "Invite");
    tab.waits("document.querySelector('#dialog select')?.name === 'credential'");
    assert_eq!(tab.value("document.querySelector('#dialog label').textContent"), "Credential");
    tab.value("document.querySelector('#dialog select').value = 'client_secret'");
    confirms(&mut tab, "Invite acme");
    tab.waits("document.getElementById('secret')?.textContent.startsWith('bzi_')");
    tab.waits("document.querySelector('#dialog pre').textContent.includes('grant_type=client_credentials')");
    let code = tab.value("document.getElementById('secret').textContent");
    let made = client(&proxy).post("/.bartizan/invitations/claim", json!({ "code": code }).to_string()).send();
    let id = made.is(201).json()["client_id"].as_str().unwrap().to_owned();
    tab.presses("Escape");
    tab.value("location.hash = 'keys'");
    clicks(&mut tab, &id, "Revoke");
    confirms(&mut tab, &format!("Revoke the client {id}?"));
    tab.waits(&format!(
        "[...document.querySelectorAll('tbody tr')].some((row) => row.textContent.startsWith('{id}') && row.textContent.includes('revoked'))"
    ));
    drop(browser);
    proxy.done();
}

#[test]
fn the_live_view_stays_small_however_many_requests_come() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let upstream = upstream().start();
    let proxy = policy(&upstream).start();
    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    signs_in(&mut tab, &proxy);
    tab.value("location.hash = 'live'");
    tab.waits("document.getElementById('live-state')?.textContent.startsWith('following')");
    let mut client = client(&proxy);
    let mut sends = |tab: &mut Tab, count: usize, marker: &str| {
        for _ in 0..count {
            client.get("/open").send().is(200);
        }
        client.get(&format!("/{marker}")).send().is(404);
        tab.waits(&format!("document.querySelector('#live-rows tbody').textContent.includes('/{marker}')"));
        tab.call("HeapProfiler.collectGarbage", json!({}));
        let nodes = tab.value("document.querySelectorAll('*').length").as_u64().unwrap();
        let heap = tab.call("Runtime.getHeapUsage", json!({}))["usedSize"].as_f64().unwrap();
        (nodes, heap)
    };
    let before = sends(&mut tab, 500, "first");
    // As many as come in a minute at 200 a second.
    let after = sends(&mut tab, 12_000, "last");
    assert_eq!(tab.value("document.querySelectorAll('#live-rows tbody tr').length"), 200);
    assert!(after.0 <= before.0 + 50, "elements: {before:?} → {after:?}");
    assert!(after.1 < before.1 + 2e6, "bytes of the heap: {before:?} → {after:?}");
    drop(browser);
    proxy.done();
}

#[test]
fn what_callers_control_is_text_and_never_a_script() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    const MARKUP: &str = "\"'><img src=x onerror=xss()><script>xss()</script>";
    let (upstream, issuer) = (upstream().start(), issuer());
    let file = "<img src=x onerror=xss()>";
    let telemetry = format!(
        "telemetry: {{ otlp: {{ endpoint: \"http://127.0.0.1:9\", headers: {{ x-one: \"${{file:{file}}}\" }} }} }}"
    );
    let proxy = policy(&upstream).trusts(&issuer).with(&telemetry).file(file, "value").start();
    new_key(&proxy, "acme-1");
    // A secret that cannot be read any longer: its error names the file.
    std::fs::remove_file(proxy.file(file)).unwrap();
    proxy.reload();

    let browser = Browser::opens("about:blank");
    let mut tab = browser.tab();
    tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({ "source": "window.ran = 0; window.xss = () => { window.ran += 1; };" }),
    );
    tab.call("Page.enable", json!({}));
    signs_in(&mut tab, &proxy);
    tab.value("location.hash = 'live'");
    tab.waits("document.getElementById('live-state')?.textContent.startsWith('following')");
    let mut client = client(&proxy);
    let encoded = "%22%3E%3Cimg%20src=x%20onerror=xss()%3E";
    client.get(&format!("/{encoded}")).header("user-agent", MARKUP).send();
    client
        .raw(format!("GET /<img/src=x/onerror=xss()> HTTP/1.1\r\nhost: a\r\nuser-agent: {MARKUP}\r\n\r\n"), 1)
        .answer();
    let token = issuer.token().sub(MARKUP).claim("name", MARKUP).scope(MARKUP);
    client.get("/x").bearer(token).header("user-agent", MARKUP).send();
    client.get("/open").header("user-agent", MARKUP).header("x-request-id", MARKUP).send();
    tab.waits("document.querySelectorAll('#live-rows tbody tr').length >= 4");
    let shown = tab.value("document.querySelector('#live-rows tbody').textContent");
    assert!(shown.as_str().unwrap().contains("<img src=x onerror=xss()>"), "{shown}");
    // In full, too.
    for row in 0..4 {
        tab.value(&format!("document.querySelectorAll('#live-rows tbody button')[{row}].click()"));
        tab.waits("document.getElementById('dialog').open");
        assert_eq!(tab.value("document.querySelector('#dialog img, #dialog script')"), Value::Null);
        tab.presses("Escape");
        tab.waits("!document.getElementById('dialog').open");
    }
    // A filter with markup; notes of keys, errors of secrets, consumers that only a token names.
    tab.value(&format!("(() => {{ const one = document.getElementById('filter-code'); one.value = {}; one.dispatchEvent(new Event('change')); }})()", json!(MARKUP)));
    for (view, expected) in [
        ("keys", "<img src=x"),
        ("system", file),
        ("overview", ""),
        ("limits", ""),
        ("findings", ""),
        ("consumers", "acme"),
    ] {
        tab.value(&format!("location.hash = '{view}'"));
        tab.waits(&format!("document.getElementById('main').innerText.includes({})", json!(expected)));
        tab.waits("!document.getElementById('main').innerText.includes('Loading …')");
        assert_eq!(tab.value("document.querySelectorAll('img, iframe, object, body script').length"), 0, "{view}");
    }
    tab.value(&format!("location.hash = 'keys/{}'", encoded));
    tab.waits("document.querySelector('input[type=search]')?.value.includes('<img')");
    assert_eq!(tab.value("window.ran"), 0, "a script of a caller ran");
    // And if a script of the page wrote HTML by mistake, the browser would not let it.
    assert_eq!(
        tab.value("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'written'; } catch (error) { return error.name; } })()"),
        "TypeError",
        "trusted types are enforced"
    );
    drop(browser);
    proxy.done();
}
