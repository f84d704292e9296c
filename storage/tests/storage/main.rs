//! Tests of the log and the state file through their public API, on the simulated disk and on the real one.
#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy sees only the test functions themselves as tests"
)]

mod common;
mod compacting;
mod compacting_crash;
mod crash;
mod full;
mod keyed;
mod model;
mod power;
mod reading;
mod real;
mod recovery;
mod scrubbing;
mod smoke;
mod syncing;
