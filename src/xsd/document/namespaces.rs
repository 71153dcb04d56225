//! Namespaces in scope (Namespaces in XML 1.0).

use crate::xsd::names::{Sym, XML, XMLNS};

#[derive(Debug)]
struct Binding {
    depth: usize,
    prefix: Box<str>,
    uri: Box<str>,
    sym: Sym,
    /// The same for all bindings of a namespace that are in scope.
    number: u32,
}

/// The declarations in scope.
#[derive(Debug)]
pub(crate) struct Scopes {
    /// How many there may be.
    most: usize,
    bindings: Vec<Binding>,
    /// Bytes of their texts.
    size: usize,
    /// How many namespaces had a number.
    numbers: u32,
}

/// Most bytes of the namespaces that are declared at once.
const MAX_SIZE: usize = 256 << 10;

impl Binding {
    fn size(&self) -> usize {
        self.prefix.len().saturating_add(self.uri.len())
    }
}

/// Whether an attribute of this name declares a namespace.
pub(crate) fn is_declaration(name: &str) -> bool {
    name.strip_prefix("xmlns").is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Returns the prefix that an attribute of this name declares; empty for the default namespace.
pub(crate) fn declared_prefix(name: &str) -> Result<Option<&str>, &'static str> {
    match name {
        "xmlns" => Ok(Some("")),
        // `xmlns:` would be the empty prefix too.
        name if is_declaration(name) => split(name).map(|(_, prefix)| Some(prefix)),
        _ => Ok(None),
    }
}

/// Splits a qualified name as written: an XML name with at most one colon, which is neither first nor last.
pub(crate) fn split(name: &str) -> Result<(&str, &str), &'static str> {
    const WRONG: &str = "a name is empty, or has more than one colon";
    let Some(colon) = name.bytes().position(|byte| byte == b':') else { return Ok(("", name)) };
    let (prefix, local) = name.split_at_checked(colon).unwrap_or(("", name));
    let local = local.get(1..).unwrap_or("");
    let starts = |c: char| c != ':' && crate::xsd::chars::is_name_start(c);
    if prefix.is_empty() || local.contains(':') || !local.chars().next().is_some_and(starts) {
        return Err(WRONG);
    }
    Ok((prefix, local))
}

/// Checks a declaration (§2.2, §3).
pub(crate) fn check_declaration(prefix: &str, uri: &str) -> Result<(), &'static str> {
    match prefix {
        "xmlns" => Err("the prefix `xmlns` and its namespace cannot be declared"),
        _ if uri == XMLNS => Err("the prefix `xmlns` and its namespace cannot be declared"),
        prefix if (prefix == "xml") != (uri == XML) => {
            Err("the prefix `xml` can only be bound to its own namespace, and no other prefix to it")
        }
        prefix if !prefix.is_empty() && uri.is_empty() => Err("a prefix cannot be unbound in XML 1.0"),
        _ => Ok(()),
    }
}

impl Scopes {
    /// Starts without declarations, and allows this many in scope.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, bindings: Vec::new(), size: 0, numbers: 0 }
    }

    /// Bytes of the declarations in scope.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Adds a declaration of an element at this depth.
    pub(crate) fn declare(&mut self, depth: usize, prefix: &str, uri: &str, sym: Sym) -> Result<(), &'static str> {
        check_declaration(prefix, uri)?;
        if self.bindings.len() >= self.most {
            return Err("too many namespaces are declared at once");
        }
        let size = self.size.saturating_add(prefix.len()).saturating_add(uri.len());
        if size > MAX_SIZE {
            return Err("the namespaces that are declared at once are too long");
        }
        self.size = size;
        let known = self.bindings.iter().find(|binding| *binding.uri == *uri).map(|binding| binding.number);
        let number = known.unwrap_or_else(|| {
            self.numbers = self.numbers.wrapping_add(1);
            self.numbers
        });
        self.bindings.push(Binding { depth, prefix: prefix.into(), uri: uri.into(), sym, number });
        Ok(())
    }

    /// A number for the namespace that a prefix is bound to: two prefixes have the same if they are bound to the same one.
    pub(crate) fn number(&self, prefix: &str) -> Option<u64> {
        if prefix == "xml" {
            return Some(u64::MAX);
        }
        let found = self.bindings.iter().rev().find(|binding| *binding.prefix == *prefix);
        found.map(|binding| u64::from(binding.number))
    }

    /// Removes the declarations of the element at this depth.
    pub(crate) fn leave(&mut self, depth: usize) {
        while let Some(binding) = self.bindings.pop_if(|binding| binding.depth >= depth) {
            self.size = self.size.saturating_sub(binding.size());
        }
    }

    /// Returns the namespace that a prefix is bound to. The empty prefix always is, if only to no namespace.
    pub(crate) fn find(&self, prefix: &str) -> Option<(&str, Sym)> {
        // Comparing with an empty text by its bytes takes long on some machines, as it has no address.
        let same = |binding: &&Binding| match prefix.is_empty() {
            true => binding.prefix.is_empty(),
            false => &*binding.prefix == prefix,
        };
        let found = self.bindings.iter().rev().find(same);
        match (found, prefix) {
            (Some(binding), _) => Some((&binding.uri, binding.sym)),
            (None, "") => Some(("", Sym::NONE)),
            (None, "xml") => Some((XML, Sym::XML)),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_has_a_prefix_or_none() {
        for (name, prefix) in [
            ("xmlns", Ok(Some(""))),
            ("xmlns:p", Ok(Some("p"))),
            ("xmlnsp", Ok(None)),
            ("p:xmlns", Ok(None)),
            ("xmlns:", Err(())),
            ("xmlns::p", Err(())),
            ("xmlns:p:q", Err(())),
            ("xmlns:1", Err(())),
        ] {
            assert_eq!(declared_prefix(name).map_err(|_| ()), prefix, "{name}");
        }
    }

    #[test]
    fn the_innermost_declaration_counts() {
        let mut scopes = Scopes::new(9);
        scopes.declare(1, "p", "urn:a", Sym::NONE).unwrap();
        scopes.declare(2, "p", "urn:b", Sym::NONE).unwrap();
        assert_eq!(scopes.find("p").map(|found| found.0), Some("urn:b"));
        scopes.leave(2);
        assert_eq!(scopes.find("p").map(|found| found.0), Some("urn:a"));
        assert_eq!((scopes.find(""), scopes.find("q")), (Some(("", Sym::NONE)), None));
        for (prefix, uri) in [("xmlns", "urn:a"), ("xml", "urn:a"), ("q", ""), ("q", XML), ("", XMLNS)] {
            assert!(scopes.declare(1, prefix, uri, Sym::NONE).is_err(), "{prefix}");
        }
    }
}
