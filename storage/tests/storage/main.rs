//! Tests of the log and the state file through their public API, on the simulated disk and on the real one.

mod common;
mod smoke;
