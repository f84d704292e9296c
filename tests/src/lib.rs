//! Raftline's proof: the deterministic simulator ([`sim`]), and what the end-to-end tests share: clusters of broker
//! processes ([`cluster`]) and files to feed them with ([`inputs`]).
#![forbid(unsafe_code)]

pub mod cluster;
pub mod inputs;
pub mod sim;
