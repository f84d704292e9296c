//! Raftline's Raft engine: one group's protocol state as a pure function of what happens to it.
//!
//! [`Raft`] never does I/O, never reads a clock and never sees payload bytes: it sees term, index, size and kind.
//! Drive it like this:
//!
//! 1. feed what happened through [`Raft::step`] (or [`Raft::propose`]); carry out the [`Output`](types::Output)s in order;
//! 2. after a batch of inputs, call [`Raft::flush`] once: replication and commit news of the whole batch leave in it;
//! 3. call `step` with [`Input::Tick`](types::Input::Tick) when [`Raft::deadline`] has passed.
//!
//! Nothing has to be waited for: whatever must follow a disk write is withheld here until the matching
//! [`Input::LogDurable`](types::Input::LogDurable) or [`Input::HardStateDurable`](types::Input::HardStateDurable) has come.
//!
//! In reading order: [`types`] (inputs, outputs, messages), [`config`], `raft` (state, the way in, the clock),
//! `election`, `leader` with `leading`, `progress` and `quorum`, `follower`, `transfer`, `log` with `term_map`,
//! `views`, [`limits`].
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

pub mod config;
pub mod limits;
pub mod types;

mod chance;
mod election;
mod follower;
mod leader;
mod leading;
mod log;
mod progress;
mod quorum;
mod raft;
mod term_map;
mod transfer;
mod views;

pub use config::Config;
pub use raft::Raft;
pub use views::PeerView;
