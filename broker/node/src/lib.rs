//! Raftline's broker daemon: threads, rings, sockets and the clock around the pure shards.
//!
//! The crate makes no protocol decision: what to do is decided by `raftline-shard`, this crate does it. Drive it
//! with [`run`], which is the whole of the binary `raftlined`.
//!
//! In reading order: [`config`], [`identity`], [`logging`].
pub mod clock;
pub mod config;
pub mod handle;
pub mod identity;
pub mod inbox;
pub mod limits;
pub mod logging;
pub mod payload;
mod shard_thread;
pub mod view;
