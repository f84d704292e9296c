//! Raftline's proof: the deterministic simulator ([`sim`]), and what the end-to-end tests share: clusters of broker
//! processes ([`cluster`]) and files to feed them with ([`inputs`]); and what idle brokers cost ([`idle`]).
#![forbid(unsafe_code)]

pub mod cluster;
pub mod idle;
pub mod inputs;
pub mod sim;
