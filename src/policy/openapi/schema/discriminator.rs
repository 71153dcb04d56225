//! `discriminator`: a property names the schema that counts.
//!
//! `oneOf` or `anyOf` with a discriminator becomes: the property is there, it is one of the names, and the value keeps to
//! the schema that is named. So of several schemas that would fit, the one that was named decides, and what is wrong is
//! said about that one. The specification calls the property a hint; where it names one schema and another fits, this is
//! the stricter reading.
//!
//! Names are those of `mapping`, and the last part of each branch's reference. Where a branch is no reference, nothing
//! names it, and the keyword is left to describe.

use serde_json::{Map, Value, json};

use super::definitions::{Key, reference};
use super::lower::Lowering;
use crate::policy::openapi::files::Node;

impl<'d> Lowering<'_, 'd> {
    /// Replaces the choice in `out` by the one that a discriminator makes.
    pub(super) fn discriminate(&mut self, node: &Node<'d>, out: &mut Map<String, Value>) {
        let Some(discriminator) = node.get("discriminator") else { return };
        let Some(property) = discriminator.text("propertyName") else {
            // Swagger 2.0 wrote the name alone.
            self.diagnostics.warning(&discriminator, "this discriminator has no `propertyName`, so it decides nothing");
            return;
        };
        let choices = ["oneOf", "anyOf"].iter().find_map(|keyword| Some((*keyword, node.get(keyword)?)));
        let Some((keyword, choices)) = choices else {
            let message = "a discriminator without `oneOf` or `anyOf` names no schemas here: values are checked against this one alone";
            self.diagnostics.warning(&discriminator, message);
            return;
        };
        let mut targets = Vec::new();
        for branch in choices.items() {
            let Some(target) = branch.reference().and_then(|reference| branch.follow(reference).ok()) else {
                let message = "only schemas behind a `$ref` have a name: this discriminator decides nothing";
                self.diagnostics.warning(&branch, message);
                return;
            };
            let implicit = target.pointer.rsplit('/').next().unwrap_or_default();
            targets.push((implicit.replace("~1", "/").replace("~0", "~"), target));
        }
        let mut named: Vec<(String, usize)> = Vec::new();
        for (name, meant) in discriminator.get("mapping").iter().flat_map(Node::entries) {
            let text = meant.value.as_str().unwrap_or_default();
            let to = meant.follow(text).ok();
            let found = targets.iter().position(|(implicit, target)| {
                to.as_ref().is_some_and(|to| to.is(target)) || (to.is_none() && implicit == text)
            });
            match found {
                Some(position) => named.push((name.to_owned(), position)),
                None => {
                    self.diagnostics
                        .warning(&meant, "this is none of the schemas to choose from, so the name is not taken");
                }
            }
        }
        for (position, (implicit, _)) in targets.iter().enumerate() {
            if !named.iter().any(|(name, _)| name == implicit) {
                named.push((implicit.clone(), position));
            }
        }
        out.remove(keyword);
        let names: Vec<&String> = named.iter().map(|(name, _)| name).collect();
        let mut all = vec![json!({"required": [property], "properties": {property: {"enum": names}}})];
        for (position, (_, target)) in targets.iter().enumerate() {
            let names: Vec<&String> = named.iter().filter(|(_, of)| *of == position).map(|(name, _)| name).collect();
            let target = reference(&self.schemas.define(target));
            let asks = json!({"required": [property], "properties": {property: {"enum": names}}});
            all.push(json!({"if": asks, "then": target}));
        }
        match out.get_mut("allOf") {
            Some(Value::Array(others)) => others.append(&mut all),
            _ => drop(out.insert("allOf".to_owned(), Value::Array(all))),
        }
    }

    /// What a schema refers to in its `allOf`: where that is a choice that the schema itself is a branch of, what the
    /// branches have in common. Otherwise each would hold the other without end.
    pub(super) fn base(&mut self, item: &Node<'d>) -> Option<Value> {
        let target = item.follow(item.reference()?).ok()?;
        let choices = target.get("oneOf").or_else(|| target.get("anyOf"))?;
        let within = |branch: &Node<'d>| {
            let branch = branch.reference().and_then(|reference| branch.follow(reference).ok());
            branch.is_some_and(|branch| branch.file == self.within.file && branch.pointer == self.within.pointer)
        };
        choices.items().any(|branch| within(&branch)).then(|| {
            let key = Key { base: true, ..Key::of(&target) };
            reference(&self.schemas.named(&target, key))
        })
    }
}
