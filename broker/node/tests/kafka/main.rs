//! The Kafka listener over a real socket, byte by byte: what well-behaved clients rely on, what others may do without
//! harm, and every answer in every version read to its last byte.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acls;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod deleting;
mod every_group_version;
mod every_version;
mod fenced;
mod fetching;
mod handshake;
mod internal;
mod knowing;
mod leaders;
mod listeners;
mod naming;
mod page;
mod placing;
mod producing;
mod sessions;
mod subscribing;
mod topic_configs;
mod topic_ids;
