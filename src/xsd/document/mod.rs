//! XML documents: bytes to text, text to tokens, tokens to a tree.

mod attributes;
mod bindings;
mod cursor;
pub(crate) mod decode;
pub(crate) mod dtd;
pub(crate) mod entities;
pub(crate) mod expand;
pub(crate) mod malformed;
pub(crate) mod markup;
pub(crate) mod namespaces;
pub(crate) mod references;
pub(crate) mod tokens;
pub(crate) mod tree;
