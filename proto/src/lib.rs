//! Raftline's words: ids, units and every byte layout, with no behaviour.
//!
//! Without features this crate is `no_std`, takes no clock and does no I/O: the pure crates (`raft`,
//! `broker/shard`) see it that way. Feature `std` adds compression; feature `grpc` the generated services.
//!
//! In reading order: [`ids`], [`time`], [`limits`], [`cursor`], [`entry`], [`metadata`],
//! [`payload`], [`command`], [`producers`], [`batch`], `api`, `peer`.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod batch;
pub mod command;
pub mod cursor;
pub mod entry;
pub mod ids;
pub mod limits;
pub mod metadata;
pub mod payload;
pub mod producers;
pub mod time;

/// The client API, generated from `proto/api.proto`.
#[cfg(feature = "grpc")]
#[allow(missing_docs, clippy::pedantic, clippy::all)]
pub mod api {
    tonic::include_proto!("raftline.api.v1");
}

/// The peer transport, generated from `proto/peer.proto`.
#[cfg(feature = "grpc")]
#[allow(missing_docs, clippy::pedantic, clippy::all)]
pub mod peer {
    tonic::include_proto!("raftline.peer.v1");
}
