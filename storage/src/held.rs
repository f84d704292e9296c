//! Bytes that were read into memory, counted for as long as anybody holds them.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes read from a disk are in memory. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    bytes: Arc<AtomicU64>,
}

impl Held {
    /// How many there are now.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts these bytes until the last slice of them is dropped.
    pub(crate) fn hold(&self, bytes: Vec<u8>) -> Bytes {
        let count = bytes.len() as u64;
        self.bytes.fetch_add(count, Ordering::Relaxed);
        Bytes::from_owner(Holding { bytes, count, held: self.clone() })
    }
}

/// The owner behind a [`Bytes`].
struct Holding {
    bytes: Vec<u8>,
    count: u64,
    held: Held,
}

impl AsRef<[u8]> for Holding {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_their_last_slice_is_gone() {
        let held = Held::default();
        let whole = held.hold(vec![7; 100]);
        let slice = whole.slice(10..20);
        assert_eq!(held.bytes(), 100);
        drop(whole);
        assert_eq!(held.bytes(), 100, "the slice keeps all of it");
        assert_eq!(slice, [7; 10][..]);
        drop(slice);
        assert_eq!(held.bytes(), 0);
    }
}
