//! Reads the parts that the declarations of a DTD are made of.

use super::markup::name_end;
use super::namespaces::split;
use crate::xsd::chars::{is_name_char, is_space};

/// A text, and how far it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Cursor<'t> {
    /// Begins with a text.
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, rest: text }
    }

    /// How many bytes are read.
    pub(super) fn at(&self) -> usize {
        self.text.len().saturating_sub(self.rest.len())
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'t str {
        self.rest
    }

    /// Takes so many bytes.
    pub(super) fn skip(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Takes white space; `false` if there is none.
    pub(super) fn space(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches(is_space);
        self.rest.len() < before
    }

    /// Takes a text, if it comes next.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes white space and the end of a declaration.
    pub(super) fn end(&mut self) -> Option<()> {
        self.space();
        self.take(">").then_some(())
    }

    /// Takes a name.
    fn name(&mut self) -> Option<&'t str> {
        Some(self.skip(name_end(self.rest))).filter(|name| !name.is_empty())
    }

    /// Takes a qualified name, as elements and attributes have.
    pub(super) fn qname(&mut self) -> Option<&'t str> {
        self.name().filter(|name| split(name).is_ok())
    }

    /// Takes a name without a colon, as entities and notations have (Namespaces in XML, §7).
    pub(super) fn nc_name(&mut self) -> Option<&'t str> {
        self.name().filter(|name| !name.contains(':'))
    }

    /// Takes an `Nmtoken`.
    pub(super) fn nmtoken(&mut self) -> Option<&'t str> {
        let end = self.rest.find(|c| !is_name_char(c)).unwrap_or(self.rest.len());
        Some(self.skip(end)).filter(|token| !token.is_empty())
    }

    /// Takes a text between quotes.
    pub(super) fn literal(&mut self) -> Option<&'t str> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (literal, rest) = self.rest.get(1..)?.split_once(quote)?;
        self.rest = rest;
        Some(literal)
    }

    /// Takes `SYSTEM "…"` or `PUBLIC "…" "…"` (XML 1.0 §4.2.2); a notation may be without the last (§4.7).
    pub(super) fn external_id(&mut self, notation: bool) -> Option<()> {
        if self.take("PUBLIC") {
            let public = self.space().then(|| self.literal())??;
            let allowed = |c: char| c.is_ascii_alphanumeric() || " \r\n-'()+,./:=?;!*#@$_%".contains(c);
            if !public.chars().all(allowed) {
                return None;
            }
            let after = *self;
            if self.space() && self.literal().is_some() {
                return Some(());
            }
            *self = after;
            return notation.then_some(());
        }
        (self.take("SYSTEM") && self.space()).then(|| self.literal())?.map(|_| ())
    }

    /// Takes what an element may contain (§3.2).
    pub(super) fn content(&mut self) -> Option<()> {
        if self.take("EMPTY") || self.take("ANY") {
            return Some(());
        }
        let mixed = self.rest.strip_prefix('(')?.trim_start_matches(is_space).starts_with("#PCDATA");
        if mixed { self.mixed() } else { self.children() }
    }

    /// `(#PCDATA | name)*` (§3.2.2)
    fn mixed(&mut self) -> Option<()> {
        self.take("(");
        self.space();
        self.take("#PCDATA");
        self.space();
        let mut names = false;
        while self.take("|") {
            names = true;
            self.space();
            self.qname()?;
            self.space();
        }
        (self.take(")") && (self.take("*") || !names)).then_some(())
    }

    /// `(name, (name | name)*)` (§3.2.1)
    fn children(&mut self) -> Option<()> {
        // What separates the parts of each open list, once it is known.
        let mut open: Vec<Option<&str>> = Vec::new();
        loop {
            self.space();
            if self.take("(") {
                open.push(None);
                continue;
            }
            self.qname()?;
            loop {
                let _ = self.take("?") || self.take("*") || self.take("+");
                self.space();
                if !self.take(")") {
                    break;
                }
                open.pop();
                if open.is_empty() {
                    let _ = self.take("?") || self.take("*") || self.take("+");
                    return Some(());
                }
            }
            let separator = [",", "|"].into_iter().find(|separator| self.take(separator))?;
            if *open.last_mut()?.get_or_insert(separator) != separator {
                return None;
            }
        }
    }
}
