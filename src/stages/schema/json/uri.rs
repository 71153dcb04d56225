//! References, and the base URIs that they are resolved against (RFC 3986 §5), as people write them: with `<`, blanks and
//! `\` in them. Identifiers are compared, never fetched.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The scheme of files: `policy:` and the path from the policy's folder.
const FILE: &str = "policy:";

/// The URI of the file at `path`.
pub(crate) fn of_file(path: &str) -> String {
    format!("{FILE}{}", path.replace('%', "%25").replace('#', "%23").replace('?', "%3F"))
}

/// The URI of a place in a file, by a JSON pointer.
pub(crate) fn of_place(path: &str, pointer: &str) -> String {
    format!("{}#{}", of_file(path), pointer.replace('%', "%25"))
}

/// A reference to a place in the schema that has it, which cannot be taken for one to a definition of a description.
pub(crate) fn of_own_place(pointer: &str) -> String {
    format!("#{}", pointer.replace('%', "%25").replace('$', "%24"))
}

/// The path of a file, if the URI is one of a file.
pub(super) fn file_of(uri: &str) -> Option<String> {
    let path = uri.strip_prefix(FILE)?;
    Some(path.replace("%23", "#").replace("%3F", "?").replace("%25", "%"))
}

/// Splits a reference into what identifies a resource, and the place in it, which is decoded.
pub(super) fn split(reference: &str) -> (&str, String) {
    let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    (resource, percent_decode_str(fragment).decode_utf8_lossy().into_owned())
}

/// Whether a reference begins with a scheme.
pub(crate) fn has_scheme(reference: &str) -> bool {
    scheme_length(reference).is_some()
}

/// Resolves a reference without its fragment. Equal resources get equal text, whichever way they are written.
pub(crate) fn resolve(base: &str, reference: &str) -> String {
    let reference = plain(reference);
    if reference.is_empty() {
        return base.to_owned();
    }
    if has_scheme(&reference) {
        let (root, path) = split_root(&reference);
        return format!("{root}{}", without_dots(path, false));
    }
    let (root, path) = split_root(base);
    if reference.starts_with("//") {
        let scheme = scheme_length(base).and_then(|length| base.get(..length)).unwrap_or_default();
        return resolve(base, &format!("{scheme}{reference}"));
    }
    let merged = if reference.starts_with('/') {
        reference
    } else if let Some(query) = reference.strip_prefix('?') {
        format!("{}?{query}", path.split('?').next().unwrap_or_default())
    } else {
        let folder = path.split('?').next().unwrap_or_default();
        let folder = folder.rfind('/').and_then(|end| folder.get(..=end)).unwrap_or_default();
        let rooted = folder.is_empty() && root.contains("//");
        format!("{}{folder}{reference}", if rooted { "/" } else { "" })
    };
    format!("{root}{}", without_dots(&merged, root == FILE))
}

/// The path that leads from one resource to another of the same authority, such as `../common/b.json`.
pub(crate) fn relative(from: &str, to: &str) -> Option<String> {
    let ((root, from), (other, to)) = (split_root(from), split_root(to));
    if root != other || !root.contains("//") {
        return None;
    }
    let strip = |path: &str| path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
    let (from, to) = (strip(from), strip(to));
    let mut folders: Vec<&str> = from.split('/').collect();
    folders.pop();
    let steps: Vec<&str> = to.split('/').collect();
    let last = steps.len().saturating_sub(1);
    let common = folders.iter().zip(steps.iter().take(last)).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n("..", folders.len() - common);
    Some(up.chain(steps.into_iter().skip(common)).collect::<Vec<_>>().join("/"))
}

/// A step of a JSON pointer (RFC 6901 §3).
pub(super) fn escaped(step: &str) -> Cow<'_, str> {
    match step.contains(['~', '/']) {
        true => step.replace('~', "~0").replace('/', "~1").into(),
        false => step.into(),
    }
}

/// What to write in a policy so that a URI is found.
pub(crate) fn catalog(uri: &str) -> String {
    let uri = uri.split('#').next().unwrap_or_default();
    let folder = uri.rfind('/').and_then(|end| uri.get(..=end)).filter(|folder| !folder.ends_with("//"));
    match folder {
        Some(folder) => format!("`catalog: {{ \"{folder}\": FOLDER/ }}` at the policy's top; nothing is fetched"),
        None => format!("`catalog: {{ \"{uri}\": FILE }}` at the policy's top; nothing is fetched"),
    }
}

/// Characters as they are read, with `/` for `\`. What would end the path stays encoded.
fn plain(reference: &str) -> String {
    let reference = reference.replace('\\', "/");
    let mut parts = reference.split('%');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) if !b"#?%".contains(&byte) => {
                plain.push(byte);
                plain.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
            }
            Some(byte) => {
                plain.extend_from_slice(format!("%{byte:02X}").as_bytes());
                plain.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
            }
            None => {
                plain.extend_from_slice(b"%25");
                plain.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn scheme_length(uri: &str) -> Option<usize> {
    let end = uri.find(':')?;
    let scheme = uri.get(..end)?;
    let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    good.then_some(end + 1)
}

/// Scheme and authority, and the rest.
fn split_root(uri: &str) -> (&str, &str) {
    let scheme = scheme_length(uri).unwrap_or(0);
    let rest = uri.get(scheme..).unwrap_or_default();
    let end = match rest.strip_prefix("//") {
        Some(inner) => scheme + 2 + inner.find(['/', '?']).unwrap_or(inner.len()),
        None => scheme,
    };
    uri.split_at(end)
}

/// Resolves `.` and `..`. Above the root, `..` is dropped (RFC 3986 §5.2.4) unless it is kept, so that a path cannot
/// seem to lead into a folder that it has left.
fn without_dots(path: &str, keep: bool) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    if !path.contains("./") && !path.ends_with('.') {
        return format!("{path}{query}");
    }
    let (root, inner) = path.strip_prefix('/').map_or(("", path), |inner| ("/", inner));
    let mut steps: Vec<&str> = Vec::new();
    let last = inner.rsplit('/').next().unwrap_or_default();
    for step in inner.split('/') {
        match step {
            "." => {}
            ".." if steps.last().is_some_and(|last| *last != "..") => drop(steps.pop()),
            ".." if keep => steps.push(".."),
            ".." => {}
            step => steps.push(step),
        }
    }
    if last == "." || last == ".." {
        steps.push("");
    }
    format!("{root}{}{query}", steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_the_rfc_says_and_as_people_write_them() {
        for (base, reference, expected) in [
            ("http://a/b/c/d", "g", "http://a/b/c/g"),
            ("http://a/b/c/d", "./g", "http://a/b/c/g"),
            ("http://a/b/c/d", "/g", "http://a/g"),
            ("http://a/b/c/d", "//g/h", "http://g/h"),
            ("http://a/b/c/d?q", "?y", "http://a/b/c/d?y"),
            ("http://a/b/c/d?q/r", "g?y", "http://a/b/c/g?y"),
            ("http://a/b/c/d", "../g", "http://a/b/g"),
            ("http://a/b/c/d", "../../../g", "http://a/g"),
            ("http://a/b/c/d", "..", "http://a/b/"),
            ("http://a/b/c/d", "", "http://a/b/c/d"),
            ("http://a", "g", "http://a/g"),
            ("http://a/b", "https://e/./f/../g", "https://e/g"),
            ("urn:example:a", "urn:example:b", "urn:example:b"),
            ("urn:example:a", "", "urn:example:a"),
            ("policy:schemas/a.json", "b.json", "policy:schemas/b.json"),
            ("policy:a.json", "b.json", "policy:b.json"),
            ("policy:a.json", "../b.json", "policy:../b.json"),
            ("policy:../x/a.json", "../b.json", "policy:../b.json"),
            ("policy:../a.json", "../b.json", "policy:../../b.json"),
            ("policy:x/a.json", "../../b.json", "policy:../b.json"),
            ("policy:/etc/x/a.json", "b.json", "policy:/etc/x/b.json"),
            ("policy:x/a.json", "/etc/passwd", "policy:/etc/passwd"),
            ("policy:x/a.json", "..\\common\\a%20b.json", "policy:common/a b.json"),
            ("policy:x/a.json", "A<B>.json", "policy:x/A<B>.json"),
            ("policy:x/a.json", "50%25%23.json", "policy:x/50%25%23.json"),
        ] {
            assert_eq!(resolve(base, reference), expected, "{base} {reference}");
        }
        assert_eq!(split(&of_place("x/5.json", "/a%20#")), (of_file("x/5.json").as_str(), "/a%20#".to_owned()));
        assert_eq!(of_file("x/50%#.json"), "policy:x/50%25%23.json");
        assert_eq!(file_of("policy:x/50%25%23.json").as_deref(), Some("x/50%#.json"));
        assert_eq!(split("a.json#/definitions/A%3CB%3E"), ("a.json", "/definitions/A<B>".to_owned()));
    }

    #[test]
    fn resources_of_one_authority_have_a_path_between_them() {
        for (from, to, expected) in [
            ("https://e/s/a.json", "https://e/s/b.json", Some("b.json")),
            ("https://e/s/orders/a.json", "https://e/s/common/b.json", Some("../common/b.json")),
            ("https://e/a.json", "https://e/x/b.json", Some("x/b.json")),
            ("https://e/a.json", "https://other/b.json", None),
            ("policy:a.json", "policy:b.json", None),
            ("urn:a", "urn:b", None),
        ] {
            assert_eq!(relative(from, to).as_deref(), expected, "{from} {to}");
        }
    }
}
