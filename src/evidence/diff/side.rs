//! One of the two policies.

use std::path::Path;

use super::value::Value;
use crate::policy::Policy;
use crate::policy::compile;
use crate::policy::diagnostic::Problems;
use crate::policy::tree::Tree;

/// A policy to compare: as written, and compiled.
#[derive(Debug)]
pub(crate) struct Side {
    /// Where its files are.
    pub(super) folder: Box<Path>,
    pub(super) written: Value,
    pub(super) compiled: Policy,
}

impl Side {
    /// Reads a policy.
    ///
    /// # Errors
    /// It has errors.
    pub(crate) fn read(path: &Path) -> Result<Self, Problems> {
        let (compiled, tree) = compile::with_tree(path)?;
        Ok(Self::of(path, compiled, &tree))
    }

    /// A policy that was read from this path.
    pub(crate) fn of(path: &Path, compiled: Policy, tree: &Tree) -> Self {
        let folder = path.parent().unwrap_or(Path::new("")).into();
        Self { folder, written: Value::of(tree), compiled }
    }

    /// What is written.
    pub(crate) fn written(&self) -> &Value {
        &self.written
    }

    /// What is enforced.
    pub(crate) fn policy(&self) -> &Policy {
        &self.compiled
    }
}
