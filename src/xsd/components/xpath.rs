//! The subset of XPath of selectors and fields (XSD 1.0 Part 1, §3.11.6).

use super::model::{NameTest, Path};
use crate::xsd::chars::{is_name_char, is_nc_name, is_space};
use crate::xsd::names::{QName, Sym};

/// Most steps of a path: their states are the bits of a number.
const MAX_STEPS: usize = 62;
/// Most paths of an expression.
const MAX_PATHS: usize = 4096;

/// Most bytes of an expression.
const MAX_LENGTH: usize = 1 << 20;
/// Bytes that a path and a step of it take.
const PATH: usize = 2 * size_of::<Path>() + 4 * STEP;
const STEP: usize = size_of::<NameTest>();

/// How many bytes the paths of an expression take, about.
pub(super) fn size(text: &str) -> usize {
    let (mut paths, mut steps) = (1_usize, 0_usize);
    for byte in text.bytes() {
        paths = paths.saturating_add(usize::from(byte == b'|'));
        steps = steps.saturating_add(usize::from(byte == b'/'));
    }
    paths.saturating_mul(PATH).saturating_add(steps.saturating_mul(2 * STEP))
}

/// A token of the subset.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Sign(&'a str),
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let sign = ["//", "::", "/", "|", "@", ".", "*", ":"].into_iter().find(|sign| rest.starts_with(sign));
        let length = match sign {
            Some(sign) => {
                tokens.push(Token::Sign(sign));
                sign.len()
            }
            None => {
                let name = rest.split(|c: char| c == ':' || !is_name_char(c)).next().unwrap_or("");
                if !is_nc_name(name) {
                    return Err(format!("`{}` is not allowed in it", rest.chars().next().unwrap_or(' ')));
                }
                tokens.push(Token::Name(name));
                name.len()
            }
        };
        let after = rest.get(length..).unwrap_or("");
        rest = after.trim_start_matches(is_space);
        // White space is not allowed within names.
        let colon = tokens.last() == Some(&Token::Sign(":"));
        if after.len() != rest.len() && (colon || (rest.starts_with(':') && !rest.starts_with("::"))) {
            return Err("there is a space in a name".to_owned());
        }
    }
    Ok(tokens)
}

/// What resolves prefixes, and interns names.
pub(super) trait Resolve {
    /// The namespace that a prefix is bound to.
    fn namespace(&mut self, prefix: &str) -> Option<Sym>;
    /// Interns a string.
    fn intern(&mut self, text: &str) -> Sym;
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    resolve: &'a mut dyn Resolve,
}

/// Reads an expression: paths with `|` between them.
pub(super) fn parse(text: &str, field: bool, resolve: &mut dyn Resolve) -> Result<Vec<Path>, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("it is longer than {} MiB", MAX_LENGTH >> 20));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, resolve };
    let mut paths = Vec::new();
    loop {
        paths.push(parser.path(field)?);
        if paths.len() > MAX_PATHS {
            return Err(format!("it has more than {MAX_PATHS} paths"));
        }
        if parser.at == parser.tokens.len() {
            return Ok(paths);
        }
        if !parser.eat("|") {
            return Err("it is not one of the expressions that XML Schema allows".to_owned());
        }
    }
}

impl<'a> Parser<'a> {
    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if *found == sign);
        if found {
            self.at = self.at.saturating_add(1);
        }
        found
    }

    fn name(&mut self) -> Option<&'a str> {
        match self.tokens.get(self.at) {
            Some(Token::Name(name)) => {
                self.at = self.at.saturating_add(1);
                Some(name)
            }
            _ => None,
        }
    }

    /// `axis::`, if it comes next.
    fn axis(&mut self, axis: &str) -> bool {
        let next = self.tokens.get(self.at..self.at.saturating_add(2));
        let found = matches!(next, Some([Token::Name(name), Token::Sign("::")]) if *name == axis);
        if found {
            self.at = self.at.saturating_add(2);
        }
        found
    }

    fn path(&mut self, field: bool) -> Result<Path, String> {
        let mut path = Path::default();
        if matches!(self.tokens.get(self.at..self.at.saturating_add(2)), Some([Token::Sign("."), Token::Sign("//")])) {
            path.anywhere = true;
            self.at = self.at.saturating_add(2);
        }
        loop {
            if self.eat("@") || self.axis("attribute") {
                if !field {
                    return Err("a selector cannot have attributes".to_owned());
                }
                path.attribute = Some(self.test()?);
                return Ok(path);
            }
            if !self.eat(".") {
                self.axis("child");
                path.steps.push(self.test()?);
            }
            if path.steps.len() > MAX_STEPS {
                return Err(format!("a path has more than {MAX_STEPS} steps"));
            }
            if !self.eat("/") {
                return Ok(path);
            }
        }
    }

    fn test(&mut self) -> Result<NameTest, String> {
        if self.eat("*") {
            return Ok(NameTest::Any);
        }
        let Some(first) = self.name() else { return Err("a step has no name".to_owned()) };
        if !self.eat(":") {
            return Ok(NameTest::Name(QName::new(Sym::NONE, self.resolve.intern(first))));
        }
        let Some(ns) = self.resolve.namespace(first) else {
            return Err(format!("the prefix `{first}` is bound to no namespace"));
        };
        if self.eat("*") {
            return Ok(NameTest::Namespace(ns));
        }
        let Some(local) = self.name() else { return Err("a step has a prefix and no name".to_owned()) };
        Ok(NameTest::Name(QName::new(ns, self.resolve.intern(local))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xsd::names::Names;

    impl Resolve for Names {
        fn namespace(&mut self, prefix: &str) -> Option<Sym> {
            (prefix == "p").then(|| self.intern("urn:p"))
        }
        fn intern(&mut self, text: &str) -> Sym {
            self.intern(text)
        }
    }

    #[test]
    fn what_is_in_the_subset() {
        for (text, field, paths) in [
            (".", false, Some(1)),
            ("a", false, Some(1)),
            (".//a/p:b|child::c/*", false, Some(2)),
            ("./a", false, Some(1)),
            ("p:*", false, Some(1)),
            ("@a", false, None),
            ("@a", true, Some(1)),
            ("a/@p:b | attribute::c", true, Some(2)),
            (".//@a", true, Some(1)),
            ("@a/b", true, None),
            ("", false, None),
            ("/a", false, None),
            ("//a", false, None),
            ("a//b", false, None),
            ("q:a", false, None),
            ("a[1]", false, None),
            ("..", false, None),
            ("a|", false, None),
            ("p: a", false, None),
            ("self::a", false, None),
            (".//.", false, Some(1)),
        ] {
            let found = parse(text, field, &mut Names::new());
            assert_eq!(found.as_ref().ok().map(Vec::len), paths, "{text}: {found:?}");
        }
    }
}
