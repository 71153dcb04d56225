//! Makes large values where they stay.

/// Makes a value in its box. What `Box::new` gets of a function is made on the stack first, and then copied as a whole: of the state of
/// an asynchronous function, that is kilobytes which mean nothing yet.
#[inline]
pub(crate) fn in_box<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}
