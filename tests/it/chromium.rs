//! A page in a real browser calls an API of another origin.

use crate::support::chromium::Browser;
use crate::support::*;

/// What the page does: each call, and what of the response it can read. It sends the results to its own server.
const PAGE: &str = r#"<!doctype html><title>page</title><body><script>
const call = async (path, headers, method) => {
  try {
    const response = await fetch("API" + path, { method: method || "GET", headers });
    const text = await response.text();
    return { status: response.status, code: response.ok ? null : JSON.parse(text).code, id: response.headers.has("x-request-id") };
  } catch (error) { return { error: error.name }; }
};
(async () => {
  const reader = { authorization: "Bearer READER" };
  const results = [
    await call("/orders/7", reader),
    await call("/orders/7", reader),
    await call("/orders/7", reader, "DELETE"),
    await call("/open", {}),
    await call("/open", { "x-other": "1" }),
    await call("/nothing", {}),
  ];
  await fetch("/results", { method: "POST", body: JSON.stringify(results) });
  const frame = document.createElement("iframe");
  frame.src = location.href.replace("127.0.0.1", "localhost").replace("/page", "/other");
  document.body.append(frame);
})();
</script>"#;

/// The page of an origin that may not call the API.
const OTHER: &str = r#"<!doctype html><title>other</title><body><script>
const call = async (headers) => {
  try { return (await fetch("API/open", { headers })).status; } catch (error) { return error.name; }
};
(async () => {
  const results = [await call({}), await call({ authorization: "Bearer READER" })];
  await fetch("/other-results", { method: "POST", body: JSON.stringify(results) });
})();
</script>"#;

#[test]
fn a_page_calls_an_api_of_another_origin() {
    if !has("chromium") {
        return skipped("there is no chromium");
    }
    let (api, issuer) = (upstream().start(), issuer());
    let pages = std::sync::Arc::new(std::sync::Mutex::new((String::new(), String::new())));
    let shown = std::sync::Arc::clone(&pages);
    let site = upstream()
        .does(move |call| {
            let (page, other) = shown.lock().unwrap().clone();
            let html = [("content-type", "text/html")];
            match call.head.word(1) {
                "/page" => call.answer(200, &html, page),
                "/other" => call.answer(200, &html, other),
                _ => call.answer(204, &[], ""),
            }
        })
        .start();
    let proxy = proxy()
        .before(&api)
        .trusts(&issuer)
        .api(&format!("cors: {{ origins: [\"{}\"], headers: [authorization], expose: [x-request-id] }}", site.url()))
        .route("GET /orders/{id}", "scopes: [orders:read]")
        .route("DELETE /orders/{id}", "scopes: [orders:write]")
        .open("GET /open")
        .start();
    let token = String::from(issuer.token().scope("orders:read"));
    let filled = |page: &str| page.replace("API", &proxy.url("")).replace("READER", &token);
    *pages.lock().unwrap() = (filled(PAGE), filled(OTHER));

    let browser = Browser::opens(&format!("{}/page", site.url()));
    let sent = |path: &str| {
        let body =
            |seen: upstream::Seen| (seen.target() == path).then(|| serde_json::from_slice(&seen.body).ok()).flatten();
        eventually(path, || site.seen().into_iter().find_map(body))
    };
    let results: Value = sent("/results");
    let failed = json!({ "error": "TypeError" });
    let ok = json!({ "status": 200, "code": null, "id": true });
    let refused = |status: u16, code: &str| json!({ "status": status, "code": code, "id": true });
    assert_eq!(
        results,
        json!([ok, ok, refused(403, "insufficient_scope"), ok, failed, refused(404, "no_route")]),
        "allowed, allowed, refused and readable, allowed, a header that is not listed, refused and readable"
    );
    // To read, it is refused; to send what needs a preflight, too.
    assert_eq!(sent("/other-results"), json!(["TypeError", "TypeError"]));
    drop(browser);
    let (_, records) = proxy.stop();
    let asked = |method: &str, status: u16| {
        let is = |record: &&Value| {
            said(record, "http.request.method") == method
                && said(record, "url.path") == "/orders/7"
                && said(record, "http.response.status_code") == status
        };
        records.iter().filter(is).count()
    };
    assert_eq!(
        (asked("OPTIONS", 204), asked("GET", 200)),
        (2, 2),
        "the answer to a preflight is remembered: {records:#?}"
    );
}
