//! Raftline's proof: the deterministic simulator, and what the end-to-end tests share.
#![forbid(unsafe_code)]

pub mod sim;
