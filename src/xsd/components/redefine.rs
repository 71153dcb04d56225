//! `redefine` (XSD 1.0 Part 1, §4.2.2): definitions that take the place of others of the same name, which they refer to.

use super::context::Builder;
use super::work::{At, Old, Redefinition};
use crate::xsd::names::QName;

impl Builder {
    /// What a name means within its own redefinition.
    pub(crate) fn redefined<T>(&self, at: At, name: QName, kind: impl Fn(&Old) -> Option<T>) -> Option<T> {
        let within = |redefinition: &&Redefinition| {
            redefinition.at.node <= at.node && redefinition.end.is_none_or(|end| at.node < end)
        };
        let named = self.redefined.get(&(at.document, name))?.iter();
        let named = named.filter_map(|redefinition| self.redefinitions.get(*redefinition));
        named.filter(within).find_map(|redefinition| kind(&redefinition.old))
    }

    /// How often a group or attribute group refers to itself within its redefinition, and the places.
    fn self_references(&mut self, redefinition: &Redefinition, kind: &str) -> Vec<At> {
        let mut found = Vec::new();
        let mut left = vec![redefinition.at];
        while let Some(at) = left.pop() {
            for (child, name) in self.children(at) {
                // What is within the declaration of an element is its type's.
                if &*name != "element" {
                    left.push(child);
                }
                if &*name != kind {
                    continue;
                }
                let Some(text) = self.attribute(child, "ref") else { continue };
                if self.qname(child, &text) == Some(redefinition.name) {
                    found.push(child);
                }
            }
        }
        found
    }

    /// Checks each redefinition against what it redefines, as far as that can be seen in the document.
    pub(crate) fn check_redefinitions(&mut self) {
        for redefinition in self.redefinitions.clone() {
            match redefinition.old {
                Old::Type(_) => self.check_redefined_type(&redefinition),
                Old::Group(_) => {
                    let references = self.self_references(&redefinition, "group");
                    for reference in &references {
                        let is_one = |value: Option<String>| value.is_none_or(|value| value == "1");
                        let once = is_one(self.attribute(*reference, "minOccurs"))
                            && is_one(self.attribute(*reference, "maxOccurs"));
                        if !once {
                            let message = "a redefined group must contain itself exactly once";
                            self.problem(*reference, "src-redefine.6.1.2", message);
                        }
                    }
                    if references.len() > 1 {
                        self.problem(
                            redefinition.at,
                            "src-redefine.6.1.1",
                            "a redefined group contains itself more than once",
                        );
                    }
                }
                Old::AttributeGroup(_) => {
                    let references = self.self_references(&redefinition, "attributeGroup");
                    if references.len() > 1 {
                        let message = "a redefined attribute group contains itself more than once";
                        self.problem(redefinition.at, "src-redefine.7.1", message);
                    }
                }
            }
        }
    }

    /// Whether a group or attribute group contains itself in its redefinition.
    pub(crate) fn contains_itself(&mut self, redefinition: &Redefinition) -> bool {
        let kind = if matches!(redefinition.old, Old::Group(_)) { "group" } else { "attributeGroup" };
        !self.self_references(redefinition, kind).is_empty()
    }

    fn check_redefined_type(&mut self, redefinition: &Redefinition) {
        let mut at = Some(redefinition.at);
        if self.kind(redefinition.at) == "complexType" {
            at = self.child(redefinition.at, &["simpleContent", "complexContent"]);
        }
        let derivation = at.and_then(|at| self.child(at, &["restriction", "extension"]));
        let base = derivation.and_then(|at| Some((at, self.attribute(at, "base")?)));
        let own = match base {
            Some((at, base)) => self.qname(at, &base) == Some(redefinition.name),
            None => false,
        };
        if !own {
            self.problem(redefinition.at, "src-redefine.5", "a redefined type must be derived from itself");
        }
    }
}
