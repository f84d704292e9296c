//! An in-process stand-in for a cluster: real gRPC servers over a log in memory, with faults on order.
//!
//! It keeps the rules that the client relies on (leadership, sequence numbers, dense offsets) and nothing else.

#![allow(dead_code, reason = "each test file uses its part")]

mod log;
mod service;

pub use log::{Fault, State};

use parking_lot::Mutex;
use raftline_client::{Client, ClientConfig};
use raftline_proto::api::broker_server::BrokerServer;
use raftline_proto::limits::MESSAGE_BYTES_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio_stream::wrappers::TcpListenerStream;

/// A running cluster. Dropping it stops the servers.
pub struct Mock {
    pub shared: Arc<Shared>,
    addresses: Vec<String>,
    stops: Mutex<Vec<Option<oneshot::Sender<()>>>>,
}

pub struct Shared {
    pub state: Mutex<State>,
    /// Something was appended, or leadership changed.
    pub changed: Notify,
    /// Lets requests held by [`Fault::Hold`] go.
    pub release: Notify,
}

impl Mock {
    /// `nodes` brokers, and topic `t` with `partitions` partitions led by node 1.
    pub async fn start(nodes: u32, partitions: u32) -> Self {
        let mut state = State::default();
        state.create("t", partitions, 1);
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), release: Notify::new() });
        let mut addresses = Vec::new();
        let mut stops = Vec::new();
        for node in 1..=nodes {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound").to_string();
            shared.state.lock().brokers.insert(node, address.clone());
            addresses.push(address);
            let (stop, stopped) = oneshot::channel::<()>();
            stops.push(Some(stop));
            let service = BrokerServer::new(service::Node { node, shared: shared.clone() })
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            tokio::spawn(async move {
                let serving = tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    result = serving => result.expect("the server ends only when it is stopped"),
                    // Not graceful: connections are cut, as by a kill.
                    _ = stopped => {}
                }
            });
        }
        Self { shared, addresses, stops: Mutex::new(stops) }
    }

    pub async fn client(&self) -> Client {
        let config = ClientConfig { request_timeout: Duration::from_secs(10), ..ClientConfig::default() };
        Client::connect(self.addresses.clone(), config).await.expect("the mock answers")
    }

    /// Stops a node's server.
    pub fn stop(&self, node: u32) {
        self.stops.lock()[node as usize - 1].take();
    }

    pub fn order(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state.lock().faults.extend(faults);
    }

    /// The values stored in a partition of `t`, in order.
    pub fn values(&self, partition: usize) -> Vec<String> {
        self.shared.state.lock().topics["t"][partition].values()
    }

    pub fn batch_count(&self, partition: usize) -> usize {
        self.shared.state.lock().topics["t"][partition].batches.len()
    }

    pub fn lead(&self, partition: usize, node: u32) {
        {
            let mut state = self.shared.state.lock();
            let partition = &mut state.topics.get_mut("t").expect("made at the start")[partition];
            partition.leader = node;
            partition.term += 1;
        }
        self.shared.changed.notify_waiters();
    }
}
