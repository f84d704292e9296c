//! A shard's thread: the turn loop.

use raftline_shard::types::Event;

use crate::payload::Payload;

/// What is never refused at a shard's inbox.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Something happened that must not be lost.
    Event(Box<Event<Payload>>),
}
