//! Resolves prefixes to namespaces (Namespaces in XML 1.0).

/// The namespace of the prefix `xml`, which is predeclared (§3).
pub(super) const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace of namespace declarations, which must not be declared (§3).
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// The namespace declarations in scope.
pub(super) struct Namespaces {
    /// Most declarations in scope.
    most: usize,
    bound: Vec<Binding>,
}

struct Binding {
    /// Depth of the declaring element.
    depth: usize,
    /// Empty for the default namespace.
    prefix: Box<str>,
    /// Empty for none.
    name: Box<str>,
}

impl Namespaces {
    /// Starts without declarations, and allows at most `most` in scope.
    pub(super) fn new(most: usize) -> Self {
        Self { most, bound: Vec::new() }
    }

    /// Adds a declaration on the element at `depth`; `prefix` is empty for the default namespace.
    pub(super) fn declare(&mut self, depth: usize, prefix: &str, name: &str) -> Result<(), &'static str> {
        match (prefix, name) {
            ("xml", XML) => return Ok(()),
            ("xml", _) | (_, XML) => {
                return Err("the prefix `xml` can only be bound to its own namespace, and no other prefix to it");
            }
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

    /// Returns the namespace of a prefix. The empty prefix always resolves, to the default namespace or to none.
    pub(super) fn resolve(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "xml" => return Some(XML),
            "xmlns" => return None,
            _ => {}
        }
        let bound = self.bound.iter().rev().find(|binding| &*binding.prefix == prefix);
        bound.map(|binding| &*binding.name).or_else(|| prefix.is_empty().then_some(""))
    }

    /// Removes the declarations of the element at `depth`, which ends.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.bound.pop_if(|binding| binding.depth >= depth).is_some() {}
    }
}
