//! Splits `multipart/form-data` (RFC 7578, RFC 2046 §5.1) into its parts, so that no server can find others in it.
//!
//! Servers differ in what they make of a body that is not well-formed: bare line feeds, blanks after a boundary, a second
//! `name`, escapes in names, encoded content. Whatever two of them read in different ways is refused; a test compares four.

use memchr::memmem;

/// Most parts of one body.
pub(super) const MAX_PARTS: usize = 1000;
/// Most bytes of a part's head, with the blank line behind it. Django reads no more.
const MAX_HEAD: usize = 1024;

/// One part of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'b> {
    pub(super) name: &'b str,
    /// Whether it has the name of a file.
    pub(super) file: bool,
    /// Its Content-Type, as written.
    pub(super) media: Option<&'b str>,
    pub(super) content: &'b [u8],
}

/// Whether all servers take this as the boundary: `bchars` (RFC 2046 §5.1.1), without blanks.
pub(super) fn is_boundary(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    (1..=70).contains(&text.len()) && text.bytes().all(allowed)
}

/// Splits a body at its boundaries. The error completes a sentence that begins with "the body".
pub(super) fn parts<'b>(boundary: &str, body: &'b [u8]) -> Result<Vec<Part<'b>>, &'static str> {
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(&delimiter);
    let mut rest = body.strip_prefix(delimiter.as_bytes()).ok_or("does not begin with its boundary")?;
    let mut parts = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(b"--") {
            return if matches!(after, b"" | b"\r\n") { Ok(parts) } else { Err("goes on after its last boundary") };
        }
        let inner = rest.strip_prefix(b"\r\n").ok_or("has a boundary that does not end its line")?;
        let end = finder.find(inner).ok_or("does not end with its boundary")?;
        let (part, after) = inner.split_at(end);
        let part = part.strip_suffix(b"\r\n").ok_or("has a boundary that does not begin its line")?;
        if parts.len() == MAX_PARTS {
            return Err("has more than 1000 parts");
        }
        parts.push(self::part(part)?);
        rest = after.get(delimiter.len()..).unwrap_or_default();
    }
}

fn part(part: &[u8]) -> Result<Part<'_>, &'static str> {
    let end = memmem::find(part.get(..MAX_HEAD).unwrap_or(part), b"\r\n\r\n");
    let (head, content) = part.split_at(end.ok_or("has a part without a head, or with one of more than 1 KiB")?);
    let head = std::str::from_utf8(head).map_err(|_| "has a part whose head is not UTF-8")?;
    let (mut disposition, mut media, mut encoding) = (None, None, None);
    for line in head.split("\r\n") {
        if line.chars().any(|character| character.is_control() && character != '\t') {
            return Err("has a part whose head has control characters");
        }
        let (name, value) = line.split_once(':').ok_or("has a part with a line that is no header field")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("has a part with a header field whose name is not a token");
        }
        let field = match name.to_ascii_lowercase().as_str() {
            "content-disposition" => &mut disposition,
            "content-type" => &mut media,
            "content-transfer-encoding" => &mut encoding,
            _ => continue,
        };
        if field.replace(value.trim_matches([' ', '\t'])).is_some() {
            return Err("has a part with a header field twice");
        }
    }
    // RFC 7578 §4.7: some servers decode it, and others do not.
    let plain = |encoding: &str| ["7bit", "8bit", "binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known));
    if !encoding.is_none_or(plain) {
        return Err("has a part with a Content-Transfer-Encoding, which is not decoded here");
    }
    let (name, file) = names(disposition.ok_or("has a part without a Content-Disposition")?)?;
    let content = content.get(4..).unwrap_or_default();
    Ok(Part { name, file: !file.unwrap_or_default().is_empty(), media, content })
}

/// The `name` and the `filename` of a Content-Disposition (RFC 7578 §4.2).
fn names(disposition: &str) -> Result<(&str, Option<&str>), &'static str> {
    const SYNTAX: &str = "has a part whose Content-Disposition is not `form-data; name=\"…\"`";
    let kind = disposition.get(..9).filter(|kind| kind.eq_ignore_ascii_case("form-data")).ok_or(SYNTAX)?;
    let mut rest = disposition.get(kind.len()..).unwrap_or_default();
    let (mut name, mut file) = (None, None);
    let mut seen: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let blanks = [' ', '\t'];
        let parameter = rest.trim_start_matches(blanks).strip_prefix(';').ok_or(SYNTAX)?.trim_start_matches(blanks);
        let (key, value) = parameter.split_once('=').ok_or(SYNTAX)?;
        // Extended values (`name*`) and parts of values (`name*0`) are read by some servers only (RFC 7578 §4.2).
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') || seen.contains(&key) {
            return Err("has a part whose Content-Disposition has parameters that are not read alike everywhere");
        }
        seen.push(key);
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(SYNTAX)?,
            None => match value.bytes().position(|byte| !is_token(byte)).unwrap_or(value.len()) {
                // No token (RFC 9110 §5.6.2): some servers drop the whole part.
                0 => return Err(SYNTAX),
                length => value.split_at(length),
            },
        };
        if value.contains('\\') {
            return Err("has a part with a backslash in a name");
        }
        match key {
            "name" => name = Some(value),
            "filename" => file = Some(value),
            _ => {}
        }
        rest = after;
    }
    let name = name.ok_or("has a part without a name")?;
    if name.is_empty() || name.trim() != name || name.contains('%') {
        return Err("has a part whose name is empty, begins or ends with a blank, or has a `%`");
    }
    if !file.is_none_or(is_file_name) {
        return Err("has a part whose file name is none everywhere");
    }
    Ok((name, file))
}

/// Whether the name of a file is one for all servers. They take what is after the last slash, and some of them drop a part
/// with a name that is empty then, or decode it as HTML before.
fn is_file_name(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    let encoded = name.contains("&#") || name.split_once('&').is_some_and(|(_, after)| after.contains(';'));
    name.is_empty() || (last.chars().any(char::is_alphanumeric) && !encoded)
}

/// `tchar` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(head: &str, content: &str) -> String {
        format!("--b\r\n{head}\r\n\r\n{content}\r\n--b--\r\n")
    }

    #[test]
    fn parts_are_what_they_are_for_everybody() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"a b\"\r\n\r\n\r\n--b\r\n\
                    content-type:\timage/png\r\ncontent-disposition: Form-Data;name=f ; filename=\"x.png\"; size=5\r\n\r\n\
                    -b\r\n\r\n--B--\n\r\n--b--";
        let parts = parts("b", body.as_bytes()).unwrap();
        let text = Part { name: "a b", file: false, media: None, content: b"" };
        let file = Part { name: "f", file: true, media: Some("image/png"), content: b"-b\r\n\r\n--B--\n" };
        assert_eq!(parts, [text, file]);
        assert_eq!(self::parts("b", b"--b--\r\n").unwrap(), []);
    }

    /// F25
    #[test]
    fn what_servers_read_in_different_ways_is_refused() {
        let plain = "content-disposition: form-data; name=a";
        for (head, good) in [
            (plain, true),
            ("content-disposition: form-data; name=\"a;b\"; filename=\"\"", true),
            ("content-disposition: form-data; name=\"ä\"; filename=\"ü/文件\"", true),
            ("content-transfer-encoding: Binary\r\ncontent-disposition: form-data; name=a", true),
            ("", false),
            ("content-disposition: form-data; name=a\r\ncontent-disposition: form-data; name=b", false),
            ("content-disposition: form-data; name=a\r\nContent-Type: a/b\r\ncontent-type: a/b", false),
            ("content-disposition: form-data; name=a; name=b", false),
            ("content-disposition: form-data; name=a; Name=b", false),
            ("content-disposition: form-data; name*=utf-8''a", false),
            ("content-disposition: form-data; name=a; name*=utf-8''b", false),
            ("content-disposition: form-data; name*0=a; name*1=b", false),
            ("content-disposition: form-data; name=a; filename*=utf-8''b", false),
            ("content-disposition: form-data; name=\"a\\\"\"", false),
            ("content-disposition: form-data; name=\"a\\b\"", false),
            ("content-disposition: form-data; name=\"a\"b", false),
            ("content-disposition: form-data; name=a b", false),
            ("content-disposition: form-data; name=\"a", false),
            ("content-disposition: form-data; name = a", false),
            ("content-disposition: form-data; name=a;", false),
            ("content-disposition: form-data; name=a; filename=", false),
            ("content-disposition: form-data; filename=; name=a", false),
            ("content-disposition: form-data; name=a; size=", false),
            ("content-disposition: form-data; name=\"\"", false),
            ("content-disposition: form-data; name=\" a\"", false),
            ("content-disposition: form-data; name=\"%61\"", false),
            ("content-disposition: form-data; name=\"a\"; filename=\"x/..\"", false),
            ("content-disposition: form-data; name=\"a\"; filename=\"&#47\"", false),
            ("content-disposition: form-data; name=\"a\"; filename=\"&sol;\"", false),
            ("content-disposition: attachment; name=a", false),
            ("content-disposition: form-data", false),
            ("content-disposition : form-data; name=a", false),
            ("content-disposition: form-data;\r\n name=a", false),
            ("x: y\ncontent-disposition: form-data; name=a", false),
            ("content-disposition: form-data; name=a\ncontent-type: text/html", false),
            ("content-disposition: form-data; name=a\rx", false),
            ("content-disposition: form-data; name=\"a\0\"", false),
            ("content-transfer-encoding: base64\r\ncontent-disposition: form-data; name=a", false),
            ("content-transfer-encoding: quoted-printable\r\ncontent-disposition: form-data; name=a", false),
        ] {
            let body = one(head, "x");
            assert_eq!(parts("b", body.as_bytes()).is_ok(), good, "{head}");
        }
        let long = format!("x: {}\r\n{plain}", "y".repeat(1000));
        assert!(parts("b", one(&long, "x").as_bytes()).is_err());
    }

    /// F25
    #[test]
    fn a_boundary_is_a_line_of_its_own() {
        let head = "content-disposition: form-data; name=a\r\n\r\n";
        for (body, good) in [
            (format!("--b\r\n{head}x\r\n--b--"), true),
            (format!("--b\r\n{head}x\r\n--b--\r\n"), true),
            (format!("\r\n--b\r\n{head}x\r\n--b--"), false),
            (format!("preamble\r\n--b\r\n{head}x\r\n--b--"), false),
            (format!("--b\r\n{head}x\r\n--b--\r\nepilogue"), false),
            (format!("--b \r\n{head}x\r\n--b--"), false),
            (format!("--b\n{head}x\r\n--b--"), false),
            (format!("--b\r\n{head}x\n--b--"), false),
            (format!("--b\r\n{head}x--b\r\n--b--"), false),
            (format!("--b\r\n{head}x\r\n--bc\r\n--b--"), false),
            (format!("--b\r\n{head}x\r\n--b"), false),
            (format!("--b\r\n{head}x\r\n"), false),
            ("--b\r\ncontent-disposition: form-data; name=a\r\n--b--".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(parts("b", body.as_bytes()).is_ok(), good, "{body:?}");
        }
        let part = format!("\r\n{head}x\r\n--b");
        assert!(parts("b", format!("--b{}--", part.repeat(1000)).as_bytes()).is_ok());
        assert!(parts("b", format!("--b{}--", part.repeat(1001)).as_bytes()).is_err());
        for (boundary, good) in
            [("a", true), ("'()+_,-./:=?", true), ("", false), ("a b", false), ("\\B", false), ("ä", false)]
        {
            assert_eq!(is_boundary(boundary), good, "{boundary}");
        }
        assert!(!is_boundary(&"b".repeat(71)));
    }
}
