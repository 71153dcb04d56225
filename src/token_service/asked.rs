//! What a request asks for: scopes and audiences, within what it may have.

use super::form::Form;
use super::service::refuse;
use crate::refusal::{Reason, Refusal};

/// The scopes that are asked for, within these; all of them, if none are asked for (RFC 6749 §3.3).
pub(super) fn scopes(form: &Form, within: &[Box<str>]) -> Result<Vec<Box<str>>, Refusal> {
    let Some(asked) = form.get("scope") else {
        let mut all = within.to_vec();
        all.sort_unstable();
        all.dedup();
        return Ok(all);
    };
    let mut scopes: Vec<Box<str>> = Vec::new();
    for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
        let Some(scope) = within.iter().find(|known| ***known == *scope) else {
            return Err(refuse(Reason::InvalidScope, "a scope is unknown, or beyond what this client may have"));
        };
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    scopes.sort_unstable();
    Ok(scopes)
}

/// The audiences that are asked for, within these; all of them, if none are asked for (RFC 8707 §2).
pub(super) fn audience(form: &Form, within: &[Box<str>]) -> Result<Vec<Box<str>>, Refusal> {
    let mut asked = form.all("resource").chain(form.all("audience")).peekable();
    if asked.peek().is_none() {
        return Ok(within.to_vec());
    }
    let found = asked.map(|name| within.iter().find(|known| ***known == *name).cloned());
    let found: Option<Vec<_>> = found.collect();
    found.ok_or_else(|| refuse(Reason::InvalidTarget, "no tokens are given for this audience"))
}
