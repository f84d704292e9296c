//! The read-only map of a segment file: the one place with `unsafe` code in Raftline's storage.
//!
//! A read of a mapped page that is not in memory makes the kernel read it from the disk, and if that fails, be it for a bad
//! sector or because the file was shortened, the process dies of a signal (SIGBUS). So bytes are given out of the map only if
//! the kernel says that all their pages are in memory; all else is read by `pread`, which returns an error instead.
//!
//! What is left: pages that are in memory when asked about, are dropped before whoever got them is done with them, and cannot
//! be read any more by then. Whoever has just compared their checksum has touched them last of all, and the kernel drops the
//! pages first that were touched longest ago.
//!
//! Bytes that a `&[u8]` covers must not change (undefined behaviour). That is a promise of the log: an appended byte never
//! changes. [`crate::real::RealFile`] keeps it by assertion: it refuses to write into the range that it has handed out.
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

    /// The bytes `[from, up_to)`, which keep the map alive, if all of them are in memory. The caller keeps the module's
    /// promise for them.
    pub(crate) fn resident(self: &Arc<Self>, from: usize, up_to: usize) -> Option<Bytes> {
        assert!(from <= up_to && up_to <= self.raw.len(), "{from}..{up_to} of a map of {}", self.raw.len());
        let page = rustix::param::page_size();
        let first = from / page * page;
        let pages = (up_to - first).div_ceil(page);
        let mut states = [0_u8; PAGES_MAX];
        let states = states.get_mut(..pages)?;
        // SAFETY: the range begins at a page of the map, ends within its last page, and `states` has a byte for each of its
        // pages. The call reads no memory of the range.
        let asked = unsafe {
            libc::mincore(self.raw.as_mut_ptr().add(first).cast(), up_to - first, states.as_mut_ptr())
        };
        let all = asked == 0 && states.iter().all(|state| state & 1 == 1);
        all.then(|| Bytes::from_owner(Slice { map: Arc::clone(self), from, len: up_to - from }))
    }
}

/// More pages at once are read by `pread`.
const PAGES_MAX: usize = 512;

/// The owner behind a [`Bytes`]. Invariant: `from + len <= map.len()`.
struct Slice {
    map: Arc<Map>,
    from: usize,
    len: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Map::resident` checked that the range lies in the map and in memory, and the `Arc` keeps the map alive
        // for as long as this borrow. The bytes do not change while borrowed: only written ranges are handed out, and
        // `RealFile` refuses writes into the range that was handed out.
        unsafe { std::slice::from_raw_parts(self.map.raw.as_ptr().add(self.from), self.len) }
    }
}
