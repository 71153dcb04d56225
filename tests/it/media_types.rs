//! Which of several media types of a contract applies.

use crate::support::upstream::Call;
use crate::support::*;

/// F23
#[test]
fn the_most_specific_media_type_applies_in_either_order_and_direction() {
    let echo = |call: &mut Call<'_>| {
        let kind = call.head.header("content-type").unwrap().to_owned();
        let body = call.body()?;
        call.answer(200, &[("content-type", &kind)], body)
    };
    let upstream = upstream().does(echo).start();
    let schema = |name: &str| format!("{{ schema: {{ type: object, required: [{name}] }} }}");
    let entries = [
        ("'*/*'", schema("any")),
        ("'application/*'", schema("wide")),
        ("'application/*+json'", schema("suffix")),
        ("application/json", schema("json")),
        ("application/vnd.a+json", schema("a")),
        ("'application/vnd.b+json; v=1'", schema("b1")),
        ("'application/vnd.b+json; v=2'", schema("b2")),
    ];
    let content = |reversed: bool| {
        let mut lines = entries.each_ref().map(|(media, schema)| format!("{media}: {schema}"));
        if reversed {
            lines.reverse();
        }
        format!("content: {{ {} }}", lines.join(", "))
    };
    for reversed in [false, true] {
        let content = content(reversed);
        let paths = format!(
            "  /in: {{ post: {{ security: [], requestBody: {{ {content} }} }} }}\n  \
             /out: {{ post: {{ security: [], responses: {{ 200: {{ {content} }} }} }} }}\n"
        );
        let proxy = proxy()
            .before(&upstream)
            .file("api.yaml", format!("openapi: 3.1.0\npaths:\n{paths}"))
            .described("api.yaml")
            .route("POST /in", "public: true")
            .route("POST /out", "public: true")
            .start();
        let mut client = client(&proxy);
        for (media, name) in [
            ("application/json", "json"),
            ("application/json; charset=utf-8; x=y", "json"),
            ("application/vnd.a+json", "a"),
            ("application/vnd.c+json", "suffix"),
            ("application/vnd.b+json; v=1", "b1"),
            ("application/vnd.b+json;V=\"2\"", "b2"),
            ("application/vnd.b+json", "suffix"),
            ("model/gltf+json", "any"),
        ] {
            for (_, schema) in &entries {
                let other = schema.split(['[', ']']).nth(1).unwrap();
                for (path, refused) in [("/in", 422), ("/out", 502)] {
                    let body = format!("{{\"{other}\": 1}}");
                    let answer = client.request("POST", path).header("content-type", media).body(body).send();
                    let expected = if other == name { 200 } else { refused };
                    assert_eq!(answer.status, expected, "{path} {media} {other} {reversed} {}", answer.text());
                }
            }
        }
        proxy.done();
    }
}

/// F23: what a policy says of JSON is not escaped by a more specific type of the description.
#[test]
fn the_policys_contract_applies_before_the_descriptions() {
    let upstream = upstream().start();
    let content = "content: { application/vnd.a+json: { schema: { required: [theirs] } }, text/plain: {} }";
    let proxy = proxy()
        .before(&upstream)
        .file(
            "api.yaml",
            format!("openapi: 3.1.0\npaths:\n  /x: {{ post: {{ security: [], requestBody: {{ {content} }} }} }}\n"),
        )
        .described("api.yaml")
        .file("own.json", r#"{"required": ["ours"]}"#)
        .route("POST /x", "public: true, request: { json: own.json }")
        .start();
    let mut client = client(&proxy);
    for (media, body, status) in [
        ("application/vnd.a+json", r#"{"ours": 1}"#, 200),
        ("application/vnd.a+json", r#"{"theirs": 1}"#, 422),
        ("text/plain", "x", 200),
    ] {
        let answer = client.request("POST", "/x").header("content-type", media).body(body).send();
        assert_eq!(answer.status, status, "{media} {body} {}", answer.text());
    }
    proxy.done();
}

/// F23: a parameter does not lead from a type that is judged to a range that is not.
#[test]
fn a_parameter_is_no_way_round_a_contract() {
    let upstream = upstream().start();
    let content = "content: { 'application/json; v=1': { schema: { required: [a] } }, '*/*': {} }";
    let proxy = proxy()
        .before(&upstream)
        .file(
            "api.yaml",
            format!("openapi: 3.1.0\npaths:\n  /x: {{ post: {{ security: [], requestBody: {{ {content} }} }} }}\n"),
        )
        .described("api.yaml")
        .route("POST /x", "public: true")
        .start();
    let mut client = client(&proxy);
    for (media, status) in [
        ("application/json", 422),
        ("application/json; v=1", 422),
        ("application/json; v=2", 415),
        ("application/json; v=1; v=1", 415),
        ("text/plain", 200),
    ] {
        let answer = client.request("POST", "/x").header("content-type", media).body("{}").send();
        assert_eq!(answer.status, status, "{media} {}", answer.text());
    }
    proxy.done();
}
