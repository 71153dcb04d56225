//! Interned strings and expanded names.
//!
//! A schema interns the names that it declares. An instance only looks names up, so that nothing it says is ever kept.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::room::Room;
use crate::budget::Exhausted;

/// The namespace of XML Schema.
pub(crate) const XSD: &str = "http://www.w3.org/2001/XMLSchema";
/// The namespace of `xsi:type` and its kind.
pub(crate) const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// The namespace of `xml:lang` and its kind.
pub(crate) const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace of `xmlns` itself.
pub(crate) const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// The namespace of WSDL 1.1.
pub(crate) const WSDL: &str = "http://schemas.xmlsoap.org/wsdl/";

/// An interned string.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sym(u32);

impl Sym {
    /// The empty string: no namespace.
    pub(crate) const NONE: Self = Self(0);
    /// The namespace of XML Schema.
    pub(crate) const XSD: Self = Self(1);
    /// The namespace of `xsi:type`.
    pub(crate) const XSI: Self = Self(2);
    /// The namespace of `xml:lang`.
    pub(crate) const XML: Self = Self(3);
    /// A string that the schema does not mention.
    pub(crate) const UNKNOWN: Self = Self(u32::MAX);

    /// The number of the string.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An expanded name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct QName {
    /// The namespace; [`Sym::NONE`] for none.
    pub(crate) ns: Sym,
    /// The local name.
    pub(crate) local: Sym,
}

impl QName {
    /// Returns this name.
    pub(crate) const fn new(ns: Sym, local: Sym) -> Self {
        Self { ns, local }
    }

    /// Both halves as one number.
    pub(crate) fn key(self) -> u64 {
        u64::from(self.ns.0) << 32 | u64::from(self.local.0)
    }

    /// The name of a [`QName::key`].
    pub(crate) fn of_key(key: u64) -> Self {
        let half = |number: u64| Sym(u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX));
        Self { ns: half(key >> 32), local: half(key) }
    }

    /// Whether the schema mentions both halves.
    pub(crate) fn is_known(self) -> bool {
        self.ns != Sym::UNKNOWN && self.local != Sym::UNKNOWN
    }
}

/// A fast hash for tables by numbers, which nobody chooses. Of texts, it is easy to make many that have the same.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FastHasher(u64);

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl FastHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MIX);
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.add(u64::from_le_bytes(*chunk));
        }
        // The last ones, some of them twice: to copy them one by one takes longer.
        let last = match (bytes.last_chunk::<8>(), rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            (Some(last), _, _) => u64::from_le_bytes(*last),
            (None, Some(first), Some(last)) => {
                u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
            }
            _ => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        self.add(last ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, number: u8) {
        self.add(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A map by numbers, with the fast hash.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;
/// A map by texts, with a hash that has a key of its own in each process.
pub(crate) type TextMap<K, V> = HashMap<K, V>;

/// Bytes that a string takes in [`Names`], beside its text.
const NEW: usize = 128;

/// The strings of a schema.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    numbers: TextMap<Arc<str>, Sym>,
    strings: Vec<Arc<str>>,
}

impl Names {
    /// Returns a table with the well-known namespaces.
    pub(crate) fn new() -> Self {
        let mut names = Self { numbers: TextMap::default(), strings: Vec::new() };
        for known in ["", XSD, XSI, XML] {
            names.intern(known);
        }
        names
    }

    /// Returns the number of a string, and adds it if it is new.
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.numbers.get(text) {
            return *sym;
        }
        let sym = Sym(u32::try_from(self.strings.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = text.into();
        self.strings.push(Arc::clone(&text));
        self.numbers.insert(text, sym);
        sym
    }

    /// The same, while there is room for new ones.
    pub(crate) fn intern_within(&mut self, text: &str, room: &mut Room) -> Result<Sym, Exhausted> {
        if let Some(sym) = self.numbers.get(text) {
            return Ok(*sym);
        }
        room.take(text.len().saturating_add(NEW))?;
        Ok(self.intern(text))
    }

    /// Returns the number of a string, or [`Sym::UNKNOWN`].
    pub(crate) fn find(&self, text: &str) -> Sym {
        self.numbers.get(text).copied().unwrap_or(Sym::UNKNOWN)
    }

    /// Returns the string.
    pub(crate) fn text(&self, sym: Sym) -> &str {
        self.strings.get(sym.index()).map_or("?", |text| text)
    }

    /// Returns the string, which is shared.
    pub(crate) fn shared(&self, sym: Sym) -> Arc<str> {
        self.strings.get(sym.index()).map_or_else(|| "?".into(), Arc::clone)
    }

    /// Writes a name as people read it: `{namespace}local`, or `xs:local`.
    pub(crate) fn show(&self, name: QName) -> String {
        match name.ns {
            Sym::NONE => self.text(name.local).to_owned(),
            Sym::XSD => format!("xs:{}", self.text(name.local)),
            Sym::XML => format!("xml:{}", self.text(name.local)),
            ns => format!("{{{}}}{}", self.text(ns), self.text(name.local)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_interned_once() {
        let mut names = Names::new();
        let order = names.intern("order");
        assert_eq!((names.intern("order"), names.find("order"), names.find("nowhere")), (order, order, Sym::UNKNOWN));
        assert_eq!((names.find(""), names.find(XSD)), (Sym::NONE, Sym::XSD));
        assert_eq!(names.show(QName::new(Sym::XSD, order)), "xs:order");
    }
}
