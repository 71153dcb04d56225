//! Which scopes a token grants that has both scopes and roles.

/// How the scopes of a token and those of its roles make what it grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ScopesAndRoles {
    /// All of them: either claim grants.
    #[default]
    Union,
    /// Those that are among both: what the user may do, within what the client was allowed. A token that lacks one of the claims
    /// grants nothing.
    Intersect,
}

impl ScopesAndRoles {
    /// The scopes that are granted.
    pub(super) fn combine(self, mut scopes: Vec<Box<str>>, of_roles: Vec<Box<str>>) -> Vec<Box<str>> {
        match self {
            Self::Union => scopes.extend(of_roles),
            Self::Intersect => scopes.retain(|scope| of_roles.contains(scope)),
        }
        scopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_claim_grants_or_both_must() {
        for (scopes, of_roles, union, intersect) in [
            ("", "", "", ""),
            ("a b", "", "a b", ""),
            ("", "a b", "a b", ""),
            ("a b", "b c", "a b b c", "b"),
            ("a", "b", "a b", ""),
            ("a b", "a b", "a b a b", "a b"),
            ("a:read", "a", "a:read a", ""),
        ] {
            let list = |text: &str| text.split_whitespace().map(Box::from).collect::<Vec<Box<str>>>();
            for (how, expected) in [(ScopesAndRoles::Union, union), (ScopesAndRoles::Intersect, intersect)] {
                let granted = how.combine(list(scopes), list(of_roles));
                assert_eq!(granted, list(expected), "{how:?} of `{scopes}` and `{of_roles}`");
            }
        }
    }
}
