//! May they: decides whether a known caller may use a route.
//!
//! All scopes of the route must be granted, and a route with `only` takes approved consumers alone. It never looks at the
//! request, and it is asked anew on every one: nothing here is cached.

use std::sync::Arc;

use super::auth::Caller;
use crate::refusal::{Members, Reason, Refusal, Stage};

/// What a route asks of its callers.
#[derive(Debug, Default)]
pub(crate) struct Requirement {
    scopes: Box<[Box<str>]>,
    only: Option<Box<[Arc<str>]>>,
}

impl Requirement {
    /// All of `scopes`; and, when given, one of the consumers in `only`.
    pub(crate) fn new(scopes: Vec<String>, only: Option<Vec<String>>) -> Self {
        Self {
            scopes: scopes.into_iter().map(Box::from).collect(),
            only: only.map(|names| names.into_iter().map(Arc::from).collect()),
        }
    }

    /// The scopes that are needed.
    pub(crate) fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// The consumers it is for, when it is not for all.
    pub(crate) fn only(&self) -> Option<&[Arc<str>]> {
        self.only.as_deref()
    }

    /// Decides.
    pub(crate) fn permit(&self, caller: &Caller) -> Result<(), Refusal> {
        let missing: Vec<&str> = self.scopes.iter().map(|scope| &**scope).filter(|scope| !caller.has(scope)).collect();
        if !missing.is_empty() {
            return Err(self.refuse_scopes(caller, &missing));
        }
        match &self.only {
            Some(only) if !only.contains(caller.consumer()) => Err(Refusal::new(
                Stage::Scope,
                Reason::ConsumerNotApproved,
                "this operation is open to approved consumers only; ask the API's owner to approve yours",
            )),
            _ => Ok(()),
        }
    }

    fn refuse_scopes(&self, caller: &Caller, missing: &[&str]) -> Refusal {
        let detail = format!("the credential lacks {}; ask for one that has all required scopes", missing.join(", "));
        Refusal::new(Stage::Scope, Reason::InsufficientScope, detail).members(Members {
            required_scopes: Some(self.scopes.to_vec()),
            granted_scopes: Some(caller.granted().to_vec()),
            ..Members::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_and_an_approved_consumer_are_needed() {
        for (needed, only, granted, expected) in [
            (&[] as &[&str], None, &[] as &[&str], None),
            (&["a"], None, &["a"], None),
            (&["a"], None, &["b", "a"], None),
            (&["a", "b"], None, &["b", "a"], None),
            (&["a", "b"], None, &["a"], Some(Reason::InsufficientScope)),
            (&["a"], None, &[], Some(Reason::InsufficientScope)),
            (&["a"], None, &["a:b", "A", " a"], Some(Reason::InsufficientScope)),
            (&["a"], Some(vec!["acme"]), &["a"], None),
            (&["a"], Some(vec!["other", "acme"]), &["a"], None),
            (&["a"], Some(vec!["other"]), &["a"], Some(Reason::ConsumerNotApproved)),
            (&["a"], Some(vec!["acme-2"]), &["a"], Some(Reason::ConsumerNotApproved)),
            (&["a"], Some(vec![]), &["a"], Some(Reason::ConsumerNotApproved)),
            (&["a"], Some(vec!["acme"]), &["b"], Some(Reason::InsufficientScope)),
        ] {
            let requirement = Requirement::new(
                needed.iter().map(ToString::to_string).collect(),
                only.clone().map(|names| names.iter().map(ToString::to_string).collect()),
            );
            let got = requirement.permit(&Caller::sample("acme", granted)).err().map(|refusal| refusal.reason());
            assert_eq!(got, expected, "needed {needed:?}, only {only:?}, granted {granted:?}");
        }
    }
}
