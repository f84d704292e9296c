//! The Kafka listener: the same partitions as the native API, for clients that speak Kafka's protocol.
//!
//! In reading order: this file (the listener), `connection` (frames in, answers out, in order), `dispatch` (what is
//! served, and by whom), `errors`, `fencing` (which brokers are told of, and where those out of reach may lead), `metadata`, `produce`, `sessions`, `fetch`,
//! `offsets`, `deletion`, `topics`, `configs`, `log_dirs`, `groups`, `consumers`, `commits`,
//! `acls`.
//!
//! Bytes are validated once, at the door, and never re-encoded: a batch goes from the frame to the log, and from the
//! log's map to the socket.

mod acls;
mod commits;
mod configs;
mod connection;
mod consumers;
mod deletion;
mod dispatch;
mod errors;
mod fencing;
mod fetch;
mod groups;
mod log_dirs;
mod metadata;
mod offsets;
mod produce;
mod sessions;
mod topics;

use crate::api::Broker;
use crate::groups::GroupCoordinators;
use crate::incoming::{Connection, Incoming};
use crate::limits;
use crate::log_limit::LogLimit;
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_proto::time::Monotonic;
use sessions::Sessions;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

/// What all Kafka connections of this broker share.
pub(crate) struct Door {
    broker: Arc<Broker>,
    groups: Arc<GroupCoordinators>,
    /// KiB of large requests that are being received or served, all connections together.
    frames: Arc<Semaphore>,
    /// Whether the cluster knows this broker since it was started, and it the cluster.
    registered: AtomicBool,
    /// What consumers fetch again and again.
    sessions: Sessions,
    /// How many connections there were.
    connections: AtomicU64,
    /// For lines that clients cause.
    closes: LogLimit,
    /// How long clients are still told of a broker that is down.
    session_timeout: Duration,
    /// How the brokers looked when that was last asked.
    outlook: parking_lot::Mutex<fencing::LastOutlook>,
    /// When this door was opened, just before the peers were first called: who was not heard of is silent since then.
    opened: Monotonic,
    stop: CancellationToken,
}

/// Serves Kafka clients until the process stops; then connections end once their answers are out.
pub(crate) async fn serve(
    listener: TcpListener,
    broker: Arc<Broker>,
    groups: Arc<GroupCoordinators>,
    session_timeout: Duration,
    stop: CancellationToken,
) {
    let frames = Arc::new(Semaphore::new(limits::KAFKA_FRAME_KIBIBYTES_MAX));
    let opened = broker.clock.monotonic();
    let door = Arc::new(Door {
        broker,
        groups,
        frames,
        registered: AtomicBool::new(false),
        sessions: Sessions::default(),
        connections: AtomicU64::new(0),
        closes: LogLimit::new(limits::KAFKA_CLOSE_LINES_PER_SECOND),
        session_timeout,
        outlook: parking_lot::Mutex::default(),
        opened,
        stop: stop.clone(),
    });
    let mut incoming = Incoming::new(listener, limits::CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    loop {
        let connection: Connection = tokio::select! {
            next = incoming.next() => match next {
                Some(Ok(connection)) => connection,
                Some(Err(_)) | None => break,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = stop.cancelled() => break,
        };
        connections.spawn(connection::serve(Arc::clone(&door), connection));
    }
    while connections.join_next().await.is_some() {}
}

/// A text of ours, for an answer.
fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
