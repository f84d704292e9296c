//! End to end: broker processes, real sockets, real disks, and the real client.

mod bystanders;
mod descriptors;
mod directories;
mod elsewhere;
mod examples;
mod files;
mod full_disk;
mod hung_disk;
mod leader_killed;
mod rotten;
mod slow_follower;

/// The program that runs a broker: this package's own, so that `cargo test` builds all it needs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_raftline-tests");
