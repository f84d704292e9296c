//! Raftline's storage: one segmented log per group, the hard states of a shard in one file, and the disks beneath.
//!
//! What it never does: start threads, open sockets, read a clock, or decide anything about the protocol.
//!
//! To drive it: [`Log::open`], then per turn any number of [`Log::append`] and one [`Log::write`]; then
//! [`Log::begin_sync`], run the ticket on any thread, and [`Log::durable_through`] with what it covered. Hard states go
//! the same way through [`StateFile`]. [`SyncSet`] merges the tickets of many logs into one round. A failed sync is
//! final: stop the process.
//!
//! [`compact`] makes a log smaller the same way: a job to run, and its result to adopt.
//!
//! In reading order: [`disk`] (the traits), [`real`] with `held` and `map`, [`sim`], [`segment`], `index`, `recover`, [`log`],
//! `staged`, `room`, `allocate`, `durable`, `cut`, `trim`, `walk`, [`read`], [`scrub`], [`compact`], [`sync`], [`state`], [`error`]. The
//! byte layouts are in `FORMAT.md`.
mod allocate;
pub mod compact;
mod cut;
pub mod disk;
mod durable;
pub mod error;
mod files;
mod held;
mod index;
pub mod log;
mod map;
pub mod read;
pub mod real;
mod recover;
mod room;
pub mod scrub;
pub mod segment;
pub mod sim;
mod staged;
pub mod state;
pub mod sync;
mod trim;
mod walk;

pub use allocate::Allocation;
pub use compact::{Compacted, Compaction, CompactionFacts, CompactionRule};
pub use disk::{DirHold, Disk, DiskFile, is_shortage};
pub use error::{AdoptError, AppendError, CompactionError, Damage, OpenError, ReadError};
pub use log::{Log, LogOptions};
pub use read::{BatchesRead, EntriesRead};
pub use real::RealDisk;
pub use recover::{Recovery, SegmentFacts};
pub use scrub::{Scrub, Scrubbed, Suspect};
pub use sim::SimDisk;
pub use state::{GroupState, Lazy, StateError, StateFile, StateTicket, StateWriteError};
pub use sync::{SyncPart, SyncPoint, SyncSet, SyncTicket};
pub use trim::{LetGo, Outlived};
