//! The read-only map of a segment file: the one place with `unsafe` code in Raftline's storage.
//!
//! A mapped file must not shrink (a read past its end is a SIGBUS), and bytes that a `&[u8]` covers must not change
//! (undefined behaviour). Both are promises of the log: a segment is never shortened, and an appended byte never
//! changes. [`crate::real::RealFile`] keeps the second one by assertion: it refuses to write into the range that it
//! has handed out slices of.
#![allow(unsafe_code)]

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A file's first `len` bytes, as they were when the map was made and as they grow beneath it.
pub(crate) struct Map {
    /// Handed out as pointers only, so that no reference ever covers bytes that are still to be written.
    raw: MmapRaw,
}

impl Map {
    /// Maps the first `len` bytes of a file that has at least as many.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Arc<Self>> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        Ok(Arc::new(Self { raw: MmapOptions::new().len(len).map_raw_read_only(file)? }))
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// The bytes `[from, up_to)`, which keep the map alive. The caller keeps the module's two promises for them.
    pub(crate) fn slice(self: &Arc<Self>, from: usize, up_to: usize) -> Bytes {
        assert!(
            from <= up_to && up_to <= self.raw.len(),
            "slice {from}..{up_to} of a map of {}",
            self.raw.len()
        );
        Bytes::from_owner(Slice { map: Arc::clone(self), from, len: up_to - from })
    }
}

/// The owner behind a [`Bytes`]. Invariant: `from + len <= map.len()`.
struct Slice {
    map: Arc<Map>,
    from: usize,
    len: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Map::slice` checked that the range lies in the map, the `Arc` keeps the map alive for as long as
        // this borrow, and the pages are inside the file, which never shrinks (segments are only grown and
        // unlinked). The bytes do not change while borrowed: only written ranges are handed out, and `RealFile`
        // refuses writes into the range that slices were handed out of.
        unsafe { std::slice::from_raw_parts(self.map.raw.as_ptr().add(self.from), self.len) }
    }
}
