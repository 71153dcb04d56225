//! Numbers are judged as they are written, and not as binary64 or 64 bits keep them, wherever they come (F40).

use crate::support::client::Request;
use crate::support::upstream::Call;
use crate::support::*;

/// An upstream whose answer is the last word of the path.
fn answering() -> Upstream {
    let answers = |call: &mut Call<'_>| {
        let body = call.head.word(1).rsplit('/').next().unwrap_or_default().to_owned();
        call.answer(200, &[("content-type", "application/json")], body)
    };
    upstream().does(answers).start()
}

/// Each is read as 1, as 9007199254740992, or as 0, which are allowed.
#[test]
fn a_number_that_reading_rounds_is_refused_in_requests_and_answers() {
    const N: &str = r#"{"type": "integer", "maximum": 9007199254740992, "not": {"const": 1}}"#;
    let object = format!(r#"{{"properties": {{"n": {N}}}}}"#);
    let upstream = answering();
    let proxy = proxy()
        .before(&upstream)
        .file("n.json", N)
        .file("object.json", &object)
        .route("POST /body", "public: true, request: { json: n.json }")
        .route("GET /query", "public: true, request: { query: object.json }")
        .route("POST /form", "public: true, request: { form: object.json }")
        .route("GET /answer/{n}", "public: true, response: { json: n.json }")
        .start();
    let mut client = client(&proxy);
    for (n, good) in [
        ("2.0000000000000000000", true),
        ("2.0000000000000000001", false),
        ("1.0000000000000000000", false),
        ("9007199254740992.00", true),
        ("9007199254740992.01", false),
        ("0e-400", true),
        ("1e-400", false),
    ] {
        let status = |request: Request<'_>| request.send().status;
        let of_request = if good { 200 } else { 422 };
        assert_eq!(status(client.post("/body", n)), of_request, "{n}");
        assert_eq!(status(client.get(&format!("/query?n={n}"))), of_request, "{n}");
        let form = client.request("POST", "/form").header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(status(form.body(format!("n={n}"))), of_request, "{n}");
        assert_eq!(status(client.get(&format!("/answer/{n}"))), if good { 200 } else { 502 }, "{n}");
    }
    proxy.done();
}
