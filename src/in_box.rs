//! Makes large values where they stay.

/// Lets the compiler make a value in its box. With `Box::new(make())`, it is made on the stack, and then copied as a whole: of the state of
/// an asynchronous function, those are kilobytes that mean nothing yet.
#[inline]
pub(crate) fn in_box<T>(make: impl FnOnce() -> T) -> Box<T> {
    Box::write(Box::new_uninit(), make())
}
