//! Paths of Kong's routes, as templates.

/// A path that a route takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// As the policy writes it.
    pub(super) path: String,
    /// What Kong leaves of it where `strip_path` is on.
    pub(super) stripped: String,
}

/// A prefix of Kong ends anywhere; here it ends at a segment. A regular expression is converted if it says no more than
/// which segments there are.
///
/// The error is why there is no template for it.
pub(super) fn templates(path: &str, is_old: bool) -> Result<Vec<Template>, &'static str> {
    let regex = path.strip_prefix('~').or_else(|| (is_old && !is_literal(path)).then_some(path));
    match regex {
        Some(regex) => of_regex(regex),
        None if !is_literal(path) => Err("it has characters that a template cannot have as they are"),
        None => Ok(of_prefix(path, "rest")),
    }
}

/// Whether it means itself in a template, and in a path that is put before another: `/` and segments of plain characters.
pub(super) fn is_literal(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut segments = rest.trim_end_matches('/').split('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~@+".contains(c);
    !path.ends_with("//")
        && (rest.is_empty()
            || segments.all(|one| !one.is_empty() && one != "." && one != ".." && one.chars().all(plain)))
}

fn of_prefix(path: &str, rest: &str) -> Vec<Template> {
    let parent = path.trim_end_matches('/');
    let below = Template { path: format!("{parent}/{{{rest}...}}"), stripped: format!("/{{{rest}...}}") };
    if path.ends_with('/') {
        return vec![below];
    }
    vec![Template { path: path.to_owned(), stripped: "/".to_owned() }, below]
}

fn of_regex(regex: &str) -> Result<Vec<Template>, &'static str> {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let (regex, is_whole) = regex.strip_suffix('$').map_or((regex, false), |regex| (regex, true));
    let mut rest = regex.strip_prefix('/').ok_or("the expression does not begin with `/`")?;
    let (mut path, mut names) = (String::new(), Vec::new());
    loop {
        // A class such as `[^/]+` has a slash that ends no segment.
        let end = segment_end(rest);
        let (segment, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        path.push('/');
        match name(segment) {
            Some(given) => {
                let name = if given.is_empty() { format!("p{}", names.len() + 1) } else { given.to_owned() };
                if names.contains(&name) {
                    return Err("two of its groups have one name");
                }
                path.push_str(&format!("{{{name}}}"));
                names.push(name);
            }
            None => path.push_str(&literal(segment)?),
        }
        match after.strip_prefix('/') {
            Some(next) => rest = next,
            None => break,
        }
    }
    if path.ends_with('/') && is_whole {
        return Err("it ends with a slash");
    }
    if is_whole {
        return Ok(vec![Template { path, stripped: "/".to_owned() }]);
    }
    let rest = if names.iter().any(|name| name == "rest") { "more-after" } else { "rest" };
    Ok(of_prefix(&path, rest))
}

fn segment_end(text: &str) -> usize {
    let mut in_class = false;
    for (at, c) in text.char_indices() {
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            '/' if !in_class => return at,
            _ => {}
        }
    }
    text.len()
}

/// The name of a group that takes a whole segment; empty if it has none.
fn name(segment: &str) -> Option<&str> {
    let (name, class) = match segment.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        None => ("", segment),
        Some(inner) => match inner.strip_prefix("?P<").or_else(|| inner.strip_prefix("?<")) {
            Some(named) => named.split_once('>')?,
            None => ("", inner.strip_prefix("?:").unwrap_or(inner)),
        },
    };
    const CLASSES: [&str; 7] = [r"\d+", r"\w+", "[0-9]+", "[^/]+", "[a-zA-Z0-9]+", "[a-z0-9-]+", "[a-zA-Z0-9_-]+"];
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (CLASSES.contains(&class) && is_name).then_some(name)
}

/// The text of a segment without groups.
fn literal(segment: &str) -> Result<String, &'static str> {
    const WHY: &str = "the expression says more than which segments there are";
    let (mut text, mut chars) = (String::new(), segment.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('.' | '-' | '_' | '~' | '@' | '+')) => text.push(c),
                _ => return Err(WHY),
            },
            c if c.is_ascii_alphanumeric() || "-_~@".contains(c) => text.push(c),
            _ => return Err(WHY),
        }
    }
    if text == "." || text == ".." { Err(WHY) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::router::Pattern;

    #[test]
    fn paths_become_templates_or_are_left_out() {
        for (path, expected) in [
            ("/orders", Some(&["/orders /", "/orders/{rest...} /{rest...}"][..])),
            ("/orders/", Some(&["/orders/{rest...} /{rest...}"])),
            ("/", Some(&["/{rest...} /{rest...}"])),
            ("/v1.2/a_b", Some(&["/v1.2/a_b /", "/v1.2/a_b/{rest...} /{rest...}"])),
            (r"~/orders/(?<id>\d+)$", Some(&["/orders/{id} /"])),
            (r"~/orders/(?<id>[^/]+)/lines$", Some(&["/orders/{id}/lines /"])),
            (r"~/o/\d+", Some(&["/o/{p1} /", "/o/{p1}/{rest...} /{rest...}"])),
            (r"~/o/(?<rest>\d+)", Some(&["/o/{rest} /", "/o/{rest}/{more-after...} /{more-after...}"])),
            (r"~/v1\.0/x$", Some(&["/v1.0/x /"])),
            (r"~/v1.0/x$", None),
            (r"~/(?<a>\d+)/(?<a>\d+)$", None),
            (r"~/(a|b)$", None),
            (r"~/a.*", None),
            (r"~/\S+$", None),
            (r"~.*", None),
            (r"~/\.\./x$", None),
            ("/a//b", None),
            ("/a/../b", None),
            ("/a b", None),
            ("/{x}", None),
            ("/${env:HOME}", None),
            ("/a: { public: true }\n", None),
            ("orders", None),
            ("", None),
        ] {
            let templates = templates(path, false).ok();
            let found: Option<Vec<String>> =
                templates.map(|all| all.iter().map(|one| format!("{} {}", one.path, one.stripped)).collect());
            let expected = expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{path}");
            for one in found.into_iter().flatten() {
                let path = one.split(' ').next().unwrap_or_default();
                assert!(Pattern::parse(&format!("GET {path}")).is_ok(), "{path}");
            }
        }
        assert!(templates(r"/o/(\d+)$", true).is_ok() && templates(r"/o/(\d+)$", false).is_err());
    }
}
