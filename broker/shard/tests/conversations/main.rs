//! Conversations with three nodes: whole shards with the real engine, over a dumb executor.

mod log;
mod node;
mod weather;
mod world;

mod asking;
mod bounding;
mod campaign;
mod compacting;
mod coordinating;
mod deleting;
mod failing;
mod fetching;
mod hanging;
mod producing;
mod remembering;
