//! The paths of a mask, and who sees what is there.

use std::sync::Arc;

use super::replacement::Replacement;

/// What a route hides of its responses.
#[derive(Debug, Clone)]
pub(crate) struct Mask(Box<[Arc<Rule>]>);

/// One path, and who sees what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// As written.
    path: Box<str>,
    /// At least one.
    pub(super) steps: Box<[Step]>,
    /// Callers with one of these scopes see it.
    visible_to: Box<[Box<str>]>,
    /// What all others get.
    pub(super) replacement: Replacement,
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// `*`: any element or member.
    Any,
    /// The member with this name; or the element at this position, if it is a number.
    Name(Box<str>, Option<usize>),
}

impl Rule {
    /// Reads a JSON pointer (RFC 6901) with `*` for any element or member. The error says what is wrong.
    pub(crate) fn new(
        pointer: &str,
        visible_to: Vec<Box<str>>,
        replacement: Replacement,
    ) -> Result<Self, &'static str> {
        let steps = pointer.strip_prefix('/').ok_or("a path begins with `/`: `/iban`, `/addresses/*/street`")?;
        let steps = steps.split('/').map(Step::read).collect::<Option<_>>();
        let steps =
            steps.ok_or("in a path, `~0` is a `~` and `~1` a `/`; no other character follows a `~` (RFC 6901)")?;
        Ok(Self { path: pointer.into(), steps, visible_to: visible_to.into(), replacement })
    }

    fn hides(&self, has: impl Fn(&str) -> bool) -> bool {
        !self.visible_to.iter().any(|scope| has(scope))
    }
}

impl Step {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if text.split('~').skip(1).any(|after| !after.starts_with(['0', '1'])) {
            return None;
        }
        let name = text.replace("~1", "/").replace("~0", "~");
        let is_index = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_digit())
            && (name == "0" || !name.starts_with('0'));
        let index = name.parse().ok().filter(|_| is_index);
        Some(Self::Name(name.into(), index))
    }
}

impl Mask {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(rules.into_iter().map(Arc::new).collect())
    }

    /// Whether something is hidden from a caller with the scopes that `has` accepts.
    pub(crate) fn hides(&self, has: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|rule| rule.hides(&has))
    }

    /// The scopes that show something.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|rule| rule.visible_to.iter().map(|scope| &**scope))
    }

    /// The rules that hide something from a caller with the scopes that `has` accepts; `None` if it sees everything.
    pub(crate) fn hidden(&self, has: impl Fn(&str) -> bool) -> Option<Hidden> {
        let rules: Vec<Arc<Rule>> = self.0.iter().filter(|rule| rule.hides(&has)).cloned().collect();
        (!rules.is_empty()).then_some(Hidden(rules))
    }
}

/// What is hidden from one caller. Never empty.
#[derive(Debug, Clone)]
pub(crate) struct Hidden(pub(super) Vec<Arc<Rule>>);

impl Hidden {
    /// The paths of what is hidden, as written.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| &*rule.path)
    }
}
