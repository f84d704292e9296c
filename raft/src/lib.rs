//! Raftline's Raft engine: one group's protocol state as a pure function of what happens to it.
//!
//! [`Raft`] never does I/O, never reads a clock and never sees payload bytes: it sees term, index, size and kind.
//! Drive it like this:
//!
//! 1. feed what happened through [`Raft::step`] (or [`Raft::propose`]); carry out the [`Output`]s in order;
//! 2. after a batch of inputs, call [`Raft::flush`] once: replication and commit news of the whole batch leave in it;
//! 3. call `step` with [`Input::Tick`] when [`Raft::deadline`] has passed.
//!
//! Nothing has to be waited for: whatever must follow a disk write is withheld here until the matching
//! [`Input::LogDurable`] or [`Input::HardStateDurable`] has come.
//!
//! In reading order: [`types`] (inputs, outputs, messages), then the rest.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod types;
