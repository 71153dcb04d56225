//! One of the two policies.

use std::path::Path;

use super::value::Value;
use crate::policy::Policy;
use crate::policy::compile;
use crate::policy::diagnostic::Problems;

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
        let folder = path.parent().unwrap_or(Path::new("")).into();
        Ok(Self { folder, written: Value::of(&tree), compiled })
    }
}
