//! The Kafka wire protocol as functions over bytes.
//!
//! It never reads a socket or a clock, never decides what a request is answered, never panics at what a client sends
//! and never allocates by a size that it has not checked. A listener drives it so:
//!
//! 1. [`frame::Splitter`] takes frames off what a connection received;
//! 2. [`request::open`] reads the header and lets in what [`api::Served`] lists;
//! 3. [`messages::Body::decode`] screens and decodes the body; it shares the frame's memory;
//! 4. the dispatcher finds an answer, and [`api_versions::answer`], [`produce::ProduceAnswer::encode`],
//!    [`fetch::FetchAnswer::encode`] or [`messages::encode`] makes a frame of it, size included.
//!
//! What fails in 1 to 3 closes the connection, but for [`request::HeaderError::ApiVersions`]. A decoded request keeps
//! its whole frame alive: copy what is to live longer, such as a group's id.
//!
//! In reading order: [`limits`], [`error`], [`api`], [`wire`], [`frame`], [`request`], [`api_versions`], [`screen`],
//! `shapes`, [`messages`], [`leader`], [`produce`], [`fetch`], [`batch`].
#![forbid(unsafe_code)]

pub mod api;
pub mod api_versions;
pub mod batch;
pub mod error;
pub mod fetch;
pub mod frame;
pub mod leader;
pub mod limits;
pub mod messages;
pub mod produce;
pub mod request;
pub mod screen;
mod shapes;
pub mod wire;

/// The messages that are not written by hand, and their types, of the version that this crate's own functions take.
pub use kafka_protocol;
pub use uuid;
