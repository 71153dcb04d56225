//! Names in `x-bartizan` that the policy must define.

use super::ownership;
use crate::exchange::networks::{HOW_TO_WRITE, network};
use crate::policy::diagnostic::did_you_mean;
use crate::policy::document::Document;
use crate::policy::openapi::Extensions;
use crate::policy::router::PathName;
use crate::stages::scope::ProofOfPossession;

/// A name that the policy does not define: what is wrong, and what was probably meant.
pub(super) struct UnknownName {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// Returns the names that the policy does not define.
pub(super) fn unknown(document: &Document, extensions: &Extensions, names: &[PathName]) -> Vec<UnknownName> {
    let mut unknown = Vec::new();
    let wrong = extensions.from.iter().flatten().find(|text| network(text).is_none());
    if let Some(written) = wrong {
        let message = format!("`{written}` is not a network");
        unknown.push(UnknownName { message, help: Some(HOW_TO_WRITE.to_owned()) });
    } else if extensions.from.as_ref().is_some_and(Vec::is_empty) {
        unknown.push(UnknownName { message: "an empty `from` lets nobody in".to_owned(), help: None });
    }
    if let Some(written) = &extensions.ownership {
        let (_, problems) = ownership::read(document, written, names);
        // What may be right is a warning where the route is compiled.
        let wrong = problems.into_iter().filter(|problem| !problem.is_doubt);
        unknown.extend(wrong.map(|problem| UnknownName { message: problem.message, help: problem.help }));
    }
    for name in extensions.only.iter().flatten().filter(|name| !document.consumers.contains_key(*name)) {
        let message = format!("there is no consumer `{name}` in the policy");
        let help = did_you_mean(name, document.consumers.keys().map(String::as_str));
        unknown.push(UnknownName { message, help });
    }
    let proofs = || ProofOfPossession::ALL.iter().map(|(known, _)| *known);
    for name in extensions.proof_of_possession.iter().flatten().filter(|name| !proofs().any(|known| known == **name)) {
        let message = format!("there is no proof of possession `{name}`");
        unknown.push(UnknownName { message, help: did_you_mean(name, proofs()) });
    }
    let classes = || document.plans.values().flat_map(|plan| plan.classes.keys()).map(String::as_str);
    if let Some(class) = extensions.class.as_deref().filter(|class| !classes().any(|known| known == *class)) {
        let message = format!("no plan of the policy has a limit for the class `{class}`");
        unknown.push(UnknownName { message, help: did_you_mean(class, classes()) });
    }
    unknown
}
