//! A shard: many Raft groups (topic partitions and the coordinator) as one pure function.
//!
//! `Shard::handle(now, event, &mut effects)` takes what happened and says what to do. It does no I/O, reads no
//! clock, starts no thread and never sees record bytes: payloads pass through as an opaque `P`.
//! The driver (the executor, or the simulator) does this, turn by turn:
//!
//! 1. `handle` each event of a bounded batch, then `handle(Event::Tick)` if `deadline()` has passed;
//! 2. `end_turn`: replication and commit news of the whole batch;
//! 3. carry out the effects in order; feed answers that are there at once (`Replicated`, `Opened`, …) into the next turn;
//! 4. issue one sync for all that was written; feed `LogDurable` and `HardStateDurable` when it is done.
//!
//! In reading order: [`types`] (events, effects), [`config`], [`shard`] (who gets which event), `group` (one group's
//! stages) with `carry` (the engine's outputs as effects) and `requests` (what clients ask), `tail` (the log's end),
//! `partition` with `produce`, `producers`, `snapshot`, `fetch`, `asking`, `parking`, `retention`, `deletion` and `compaction` (with
//! `marks`), [`coordinator`] with [`image`] and `reconcile`, `in_sync`, [`pulse`] (with `wall`), `peers`, `liveness`, `drain`,
//! `room`, `timers`, [`limits`].
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

pub mod config;
pub mod consumer_groups;
pub mod coordinator;
pub mod group_ranges;
pub mod image;
pub mod limits;
pub mod pulse;
pub mod shard;
pub mod types;

mod asking;
mod carry;
mod compaction;
mod deletion;
mod drain;
mod fetch;
mod group;
mod in_sync;
mod liveness;
mod marks;
mod parking;
mod partition;
mod peers;
mod produce;
mod producers;
mod reconcile;
mod requests;
mod retention;
mod room;
mod snapshot;
mod tail;
mod timers;
mod wall;

pub use config::ShardConfig;
pub use shard::Shard;
