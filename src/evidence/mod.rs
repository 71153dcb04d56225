//! What the policy and the record say together: who may do more or less under another policy ([`diff`]), which decisions of the
//! record it would change ([`replay`]), and what is granted and not used ([`unused`]).

pub(crate) mod diff;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod unused;
pub(crate) mod window;
