//! A replica with a disk that tells live from durable, shared by the scripts, the figure-2 tests and the model.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod disk;
pub mod replica;

use raftline_proto::ids::{EntryId, Index, Term};

/// `term.index`.
pub fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}
