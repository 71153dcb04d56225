//! Which namespace a prefix is bound to (Namespaces in XML 1.0).

/// The namespace of the prefix `xml`, which is bound from the start (§3).
pub(super) const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace of the declarations themselves, which nothing may be bound to (§3).
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// The declarations in force at one place of a document.
pub(super) struct Namespaces {
    /// Most of them.
    most: usize,
    bound: Vec<Binding>,
}

struct Binding {
    /// Of the element that declares it.
    depth: usize,
    /// Empty for the default namespace.
    prefix: Box<str>,
    /// Empty for none.
    name: Box<str>,
}

impl Namespaces {
    /// None declared; at most `most` at once.
    pub(super) fn new(most: usize) -> Self {
        Self { most, bound: Vec::new() }
    }

    /// Takes a declaration on the element at `depth`; `prefix` is empty for the default namespace. The error is in words.
    pub(super) fn declare(&mut self, depth: usize, prefix: &str, name: &str) -> Result<(), &'static str> {
        match (prefix, name) {
            ("xml", XML) => return Ok(()),
            ("xml", _) | (_, XML) => return Err("the prefix `xml` and its namespace go with each other alone"),
            ("xmlns", _) | (_, XMLNS) => return Err("the prefix `xmlns` and its namespace cannot be declared"),
            ("", _) => {}
            (_, "") => return Err("a prefix cannot be unbound in XML 1.0"),
            _ => {}
        }
        if self.bound.len() >= self.most {
            return Err("too many namespaces are declared at once");
        }
        self.bound.push(Binding { depth, prefix: prefix.into(), name: name.into() });
        Ok(())
    }

    /// What a prefix is bound to; for the default namespace, empty, there is always an answer.
    pub(super) fn resolve(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "xml" => return Some(XML),
            "xmlns" => return None,
            _ => {}
        }
        let bound = self.bound.iter().rev().find(|binding| &*binding.prefix == prefix);
        bound.map(|binding| &*binding.name).or_else(|| prefix.is_empty().then_some(""))
    }

    /// The element at `depth` ends, and what it declared with it.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.bound.pop_if(|binding| binding.depth >= depth).is_some() {}
    }
}
