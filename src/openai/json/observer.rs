//! What may watch a scanner pass brackets and keys.
//!
//! Refuses to know what it is done for.

use std::ops::Range;

/// Is told of the brackets and keys that a scanner passes.
pub(crate) trait JsonObserver {
    /// An array or an object opens.
    fn open(&mut self, is_object: bool);

    /// A key of the innermost object, by the place in `bytes` between its quotes.
    fn key(&mut self, bytes: &[u8], key: Range<usize>);

    /// The innermost array or object closes.
    fn close(&mut self, bytes: &[u8]);
}

/// Watches nothing.
impl JsonObserver for () {
    fn open(&mut self, _: bool) {}

    fn key(&mut self, _: &[u8], _: Range<usize>) {}

    fn close(&mut self, _: &[u8]) {}
}
