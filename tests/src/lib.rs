//! Raftline's proof: the deterministic simulator ([`sim`]), and what the end-to-end tests share: clusters of broker
//! processes ([`cluster`]) and files to feed them with ([`inputs`]); what idle brokers cost ([`idle`]), and what
//! hostile bytes do to them ([`hostile`]).
#![forbid(unsafe_code)]

pub mod cluster;
pub mod disturbed;
pub mod hostile;
pub mod idle;
pub mod inputs;
pub mod sim;
