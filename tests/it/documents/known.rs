//! Examples that violate the description that shows them. Python's jsonschema refuses each of them too.

/// A document, and for each kind of violation in its examples: a part of what the refusal says, and what is wrong.
const KNOWN: &[(&str, &[(&str, &str)])] = &[
    (
        "CheckoutService.json",
        &[
            ("/errorCode value is not of type \"string\"", "a number"),
            ("/dateOfBirth value is not a \"date\"", "a date and a time"),
        ],
    ),
    ("LegalEntityService.json", &[("/code value is not of type \"string\"", "a number")]),
    (
        "digitalocean.com.json",
        &[
            ("/type value is not one of \"0\" or \"6\"", "another protocol version"),
            ("/maintenance_policy/start_time value is not of type \"string\"", "minutes instead of a time of day"),
        ],
    ),
    (
        "intercom.json",
        &[
            (" is a required property", "answers that leave out some of their required members"),
            ("_id value is not of type \"string\"", "ids as numbers"),
            ("/id value is not of type", "ids as numbers, or as text where they are numbers"),
            ("/url value is not a \"uri\"", "a path: a URI has a scheme (RFC 3986 §3)"),
            ("/email value is not a \"email\"", "no address"),
            ("/pages/next value is not of type \"object\"", "a URL instead of the object that it became"),
            ("/pages value is not of type \"object\"", "`null` instead of leaving it out"),
            ("/from/id value is", "an id of another kind of person"),
            ("/body value is not of type \"string\"", "`null` where text is required"),
            ("/type value is not one of", "the type of another kind of object"),
            ("_type value is not one of", "a request that shows what the API refuses"),
            ("/options value is not of type \"array\"", "a list as an object"),
            ("/options/0 value is not of type \"string\"", "objects instead of texts"),
            ("conforms to more than one schema of `oneOf`", "branches that do not exclude each other"),
            ("|  value is not of type \"object\"", "`null` as a body"),
        ],
    ),
    (
        "openai.com.json",
        &[
            ("/documents value is not of type", "a list as text"),
            ("/examples value is not of type", "a list as text"),
            ("/max_tokens value is not of type \"integer\"", "no limit, as text"),
        ],
    ),
    (
        "paypal_invoicing_v2.json",
        &[
            ("/website value is not a \"uri\"", "a host: a URI has a scheme (RFC 3986 §3)"),
            (" no value is allowed here", "`readOnly` members in a request"),
        ],
    ),
    (
        "plaid.com.json",
        &[
            (" value is not a \"date\"", "the directory's conversion from YAML made times of dates"),
            (" is a required property", "answers that leave out some of their required members"),
        ],
    ),
    (
        "xero_accounting.json",
        &[
            ("/query/date value is not a \"date\"", "the directory's conversion from YAML made times of dates"),
            ("Date value is not a \"date\"", "the same"),
            ("key must be a string", "JavaScript, not JSON"),
            ("Number value is not of type \"string\"", "a number"),
            ("/BatchPayments/0/", "a number and a truth value as they are, where the schema says text"),
            ("/0 value is not a \"uuid\"", "several identifiers in one text"),
            (" is a required property", "requests that leave out some of their required members"),
            ("DateUTC no value is allowed here", "`readOnly` members in a request"),
            (" value is not of type \"object\"", "addresses and telephone numbers as text"),
        ],
    ),
    (
        "xero_files.json",
        &[
            (" is a required property", "members of another object, or the first of its own left out"),
            ("/query/sort value is not one of", "a field and a direction"),
        ],
    ),
];

/// The refusals of a document that are not known, and the known ones that did not happen.
pub fn unknown(document: &str, refused: Vec<String>) -> Vec<String> {
    let known = KNOWN.iter().find(|(name, _)| *name == document).map_or(&[][..], |(_, known)| known);
    let happened = |part: &str| refused.iter().any(|text| text.contains(part));
    let stale = known.iter().filter(|(part, _)| !happened(part));
    let mut found: Vec<_> = stale.map(|(part, _)| format!("{part}: is known, but did not happen")).collect();
    found.extend(refused.into_iter().filter(|text| !is_known(text, known)));
    found
}

/// Whether every violation of a refusal is known.
fn is_known(text: &str, known: &[(&str, &str)]) -> bool {
    let violations = text.split_once(" | ").map_or(text, |(_, violations)| violations);
    // Introduces the violations of a branch.
    let mut telling =
        violations.split(" | ").filter(|violation| !violation.contains("why the nearest one does not fit"));
    telling.all(|violation| known.iter().any(|(part, _)| format!("| {violation}").contains(part)))
}
