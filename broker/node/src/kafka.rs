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
use crate::wrong_door::Signposts;
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

/// A bound listener.
pub(crate) struct Listener {
    /// What it is called.
    pub(crate) name: String,
    /// Where clients come in.
    pub(crate) socket: TcpListener,
    /// Where they are told to do so.
    pub(crate) advertised: String,
}

/// What all Kafka connections of one listener share; all but the first two fields are the broker's.
pub(crate) struct Door {
    /// The listener's name: clients are told of the brokers' addresses of the same name.
    listener: String,
    /// Whether the cluster knows this broker's listener since it was started, and it the cluster.
    registered: AtomicBool,
    broker: Arc<Broker>,
    groups: Arc<GroupCoordinators>,
    /// KiB of large requests that are being received or served, all connections together.
    frames: Arc<Semaphore>,
    /// What consumers fetch again and again.
    sessions: Arc<Sessions>,
    /// How many connections there were.
    connections: Arc<AtomicU64>,
    /// For lines that clients cause.
    closes: Arc<LogLimit>,
    /// For those that came to the wrong door.
    signposts: Arc<Signposts>,
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
    listeners: Vec<Listener>,
    broker: Arc<Broker>,
    groups: Arc<GroupCoordinators>,
    session_timeout: Duration,
    signposts: Arc<Signposts>,
    stop: CancellationToken,
) {
    let frames = Arc::new(Semaphore::new(limits::KAFKA_FRAME_KIBIBYTES_MAX));
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let (sessions, connections) = (Arc::new(Sessions::default()), Arc::default());
    let closes = Arc::new(LogLimit::new(limits::KAFKA_CLOSE_LINES_PER_SECOND));
    let opened = broker.clock.monotonic();
    let mut doors = JoinSet::new();
    for Listener { name, socket, .. } in listeners {
        let door = Arc::new(Door {
            listener: name,
            registered: AtomicBool::new(false),
            broker: Arc::clone(&broker),
            groups: Arc::clone(&groups),
            frames: Arc::clone(&frames),
            sessions: Arc::clone(&sessions),
            connections: Arc::clone(&connections),
            closes: Arc::clone(&closes),
            signposts: Arc::clone(&signposts),
            session_timeout,
            outlook: parking_lot::Mutex::default(),
            opened,
            stop: stop.clone(),
        });
        doors.spawn(admit(door, Incoming::sharing(socket, Arc::clone(&places))));
    }
    while doors.join_next().await.is_some() {}
}

/// Takes the connections of one listener.
async fn admit(door: Arc<Door>, mut incoming: Incoming) {
    let mut connections = JoinSet::new();
    loop {
        let connection: Connection = tokio::select! {
            next = incoming.next() => match next {
                Some(Ok(connection)) => connection,
                Some(Err(_)) | None => break,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            () = door.stop.cancelled() => break,
        };
        connections.spawn(connection::serve(Arc::clone(&door), connection));
    }
    while connections.join_next().await.is_some() {}
}

/// A text of ours, for an answer.
fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
