//! `discriminator`: a property names the schema that applies.
//!
//! `oneOf` or `anyOf` with a discriminator becomes: the property is present, it is one of the names, and the value
//! satisfies the named schema. So the named schema decides where several would match, and violations are reported for
//! that schema. The specification calls the property a hint; where it names one schema and another matches, this is the
//! stricter reading.
//!
//! The names are those of `mapping`, and the last segment of each branch's reference. A branch that is not a reference
//! has no name; then the keyword has no effect.

use serde_json::{Map, Value, json};

use super::definitions::{Key, reference};
use super::lower::Lowering;
use crate::policy::openapi::files::Node;

impl<'d> Lowering<'_, 'd> {
    /// Replaces `oneOf` or `anyOf` in `out` by what the discriminator selects.
    pub(super) fn discriminate(&mut self, node: &Node<'d>, out: &mut Map<String, Value>) {
        let Some(discriminator) = node.get("discriminator") else { return };
        let Some(property) = discriminator.text("propertyName") else {
            // In Swagger 2.0, the value is just the name.
            self.diagnostics.warning(&discriminator, "this discriminator has no `propertyName`, so it has no effect");
            return;
        };
        let choices = ["oneOf", "anyOf"].iter().find_map(|keyword| Some((*keyword, node.get(keyword)?)));
        let Some((keyword, choices)) = choices else {
            let message =
                "a discriminator without `oneOf` or `anyOf` has no effect: values are checked against this schema only";
            self.diagnostics.warning(&discriminator, message);
            return;
        };
        let mut targets = Vec::new();
        for branch in choices.items() {
            let Some(target) = branch.reference().and_then(|reference| branch.follow(reference).ok()) else {
                let message = "only schemas behind a `$ref` have a name, so this discriminator has no effect";
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
                        .warning(&meant, "this is not one of the alternatives, so the name is not accepted");
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
            let target = reference(&self.schemas.define_in(self.scope, target));
            let asks = json!({"required": [property], "properties": {property: {"enum": names}}});
            all.push(json!({"if": asks, "then": target}));
        }
        match out.get_mut("allOf") {
            Some(Value::Array(others)) => others.append(&mut all),
            _ => drop(out.insert("allOf".to_owned(), Value::Array(all))),
        }
    }

    /// The target of a reference in `allOf`. Where the target chooses between branches and the schema is one of these,
    /// only what the branches have in common; otherwise each would contain the other without end.
    pub(super) fn base(&mut self, item: &Node<'d>) -> Option<Value> {
        let target = item.follow(item.reference()?).ok().filter(|target| target.in_schema_file().is_none())?;
        let choices = target.get("oneOf").or_else(|| target.get("anyOf"))?;
        let within = |branch: &Node<'d>| {
            let branch = branch.reference().and_then(|reference| branch.follow(reference).ok());
            branch.is_some_and(|branch| branch.file == self.within.file && branch.pointer == self.within.pointer)
        };
        choices.items().any(|branch| within(&branch)).then(|| {
            let scope = self.schemas.scopes.passing(self.scope, &target);
            let key = Key { base: true, ..Key::of(&target, scope) };
            reference(&self.schemas.named(&target, key))
        })
    }
}
