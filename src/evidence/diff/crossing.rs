//! Paths that templates match: one for each, and one for every two templates that match the same paths.
//!
//! Where two templates cross, as `/{section}/status` and `/internal/{page}` do, what a route that goes leaves to another one is in no
//! sample of either: only `/internal/status` is.

/// Stands for any text in a host or a path.
pub(super) const SAMPLE: &str = "0sample0";

/// A template with samples for its names, and so many for the rest of the path.
pub(super) fn filled(template: &str, depth: usize) -> String {
    let mut path = String::new();
    let mut rest = template;
    while let Some((text, inner)) = rest.split_once('{') {
        let (name, after) = inner.split_once('}').unwrap_or((inner, ""));
        path.push_str(text);
        let samples = if name.ends_with("...") { vec![SAMPLE; depth] } else { vec![SAMPLE] };
        path.push_str(&samples.join("/"));
        rest = after;
    }
    path + rest
}

/// A path that both templates match: names take the text of the other one. `None` if there is none.
pub(super) fn crossed(one: &str, other: &str) -> Option<String> {
    let (mut these, mut those) = (one.split('/').peekable(), other.split('/').peekable());
    let mut segments: Vec<String> = Vec::new();
    loop {
        let (this, that) = match (these.next(), those.next()) {
            (None, None) => return Some(segments.join("/")),
            (Some(this), Some(that)) => (this, that),
            _ => return None,
        };
        // The rest of one path is what is left of the other one.
        for (segment, other, left) in [(this, that, &mut those), (that, this, &mut these)] {
            if segment.ends_with("...}") {
                segments.push(filled(other, 1));
                segments.extend(left.map(|segment| filled(segment, 1)));
                return Some(segments.join("/"));
            }
        }
        segments.push(segment(this, that)?);
    }
}

/// A text that two segments match, none of which is the rest of a path.
fn segment(one: &str, other: &str) -> Option<String> {
    let (Some((before, after)), Some((other_before, other_after))) = (ends(one), ends(other)) else {
        let (literal, template) = if one.contains('{') { (other, one) } else { (one, other) };
        return matches(template, literal).then(|| literal.to_owned());
    };
    // One of each begins or ends like the other one, or nothing does both.
    let longer = |one: &'_ str, other: &'_ str| if one.len() < other.len() { other } else { one }.to_owned();
    let is_one_start = before.starts_with(other_before) || other_before.starts_with(before);
    let is_one_end = after.ends_with(other_after) || other_after.ends_with(after);
    let text = |inside: &str| format!("{}{inside}{}", longer(before, other_before), longer(after, other_after));
    // Texts between names, as in `{a}-{b}`, are those of the longer of both.
    let inside = longer(&inner(one), &inner(other));
    (is_one_start && is_one_end).then(|| text(&inside))
}

/// The text before the first name of a segment, and that after the last one.
fn ends(segment: &str) -> Option<(&str, &str)> {
    let (before, _) = segment.split_once('{')?;
    let (_, after) = segment.rsplit_once('}')?;
    Some((before, after))
}

/// What is between them, with samples for the names.
fn inner(segment: &str) -> String {
    let (start, end) = (segment.find('{').unwrap_or(0), segment.rfind('}').map_or(segment.len(), |end| end + 1));
    filled(segment.get(start..end).unwrap_or_default(), 1)
}

/// Whether a segment may match a text: its own texts are in it, in their order.
fn matches(template: &str, text: &str) -> bool {
    let Some((before, after)) = ends(template) else { return template == text };
    text.len() > before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_templates_have_a_path() {
        for (one, other, path) in [
            ("/{section}/status", "/internal/{page}", Some("/internal/status")),
            ("/users/export", "/users/{id}", Some("/users/export")),
            ("/users/{id}", "/users/{name}", Some("/users/0sample0")),
            ("/users/{id}", "/orders/{id}", None),
            ("/users/{id}", "/users", None),
            ("/{area}/{rest...}", "/internal/{page}/lines", Some("/internal/0sample0/lines")),
            ("/internal/{rest...}", "/{area}/{rest...}", Some("/internal/0sample0")),
            ("/internal/{rest...}", "/internal", None),
            ("/orders/{id}:refund", "/orders/{id}", Some("/orders/0sample0:refund")),
            ("/orders/{id}:refund", "/orders/all:{action}", Some("/orders/all:0sample0:refund")),
            ("/orders/{id}:refund", "/orders/7:refund", Some("/orders/7:refund")),
            ("/orders/{id}:refund", "/orders/7", None),
            ("/orders/{id}:refund", "/orders/{id}:cancel", None),
            ("/", "/", Some("/")),
        ] {
            assert_eq!(crossed(one, other).as_deref(), path, "{one} {other}");
            if !one.contains("...") {
                assert_eq!(crossed(other, one).as_deref(), path, "{other} {one}");
            }
        }
    }
}
