//! Three real broker processes under kill -9, SIGSTOP, a full disk, and strangers at the door.
//!
//! In reading order: `cluster` (the processes), `corpus` (the input), then a file for each scenario.

mod cluster;
mod corpus;
mod full_disk;
mod identity;
mod leader_killed;
mod power_cut;
mod stopped_follower;
