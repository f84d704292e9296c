//! Finding whoever has to answer in our place, and keeping a connection to each other broker.

use super::errors;
use crate::limits;
use crate::peer::Peers;
use crate::view::NodeView;
use parking_lot::Mutex;
use raftline_proto::api::Error;
use raftline_proto::ids::{GroupId, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Connections to the other brokers' API, made on first use.
pub(super) struct Forwarder {
    own: NodeId,
    view: Arc<NodeView>,
    peers: Peers,
    channels: Mutex<BTreeMap<NodeId, (String, Channel)>>,
}

/// Who leads a group.
pub(super) enum Seat {
    /// This node.
    Here,
    /// Another one, over this connection.
    There(NodeId, Channel),
}

impl Forwarder {
    pub(super) fn new(own: NodeId, view: Arc<NodeView>, peers: Peers) -> Self {
        Self { own, view, peers, channels: Mutex::default() }
    }

    /// Who leads the group; waits a while for somebody to.
    pub(super) async fn leader(&self, group: GroupId) -> Result<Seat, Error> {
        let mut changes = self.view.changes();
        let known = async {
            loop {
                changes.borrow_and_update();
                if let Some(leader) = self.view.leader(group).and_then(|known| known.leader) {
                    return Some(leader);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        };
        let leader = tokio::time::timeout(limits::FORWARD_LEADER_WAIT, known).await;
        match leader.ok().flatten() {
            Some(leader) if leader == self.own => Ok(Seat::Here),
            Some(leader) => Ok(Seat::There(leader, self.connection(leader).await?)),
            None => Err(errors::not_coordinator(None)),
        }
    }

    /// A connection to the broker, as it is registered, or else as it is configured.
    pub(super) async fn connection(&self, node: NodeId) -> Result<Channel, Error> {
        let address = self.view.image().brokers.get(&node).map(|record| record.grpc_address.clone());
        let address = address.or_else(|| self.peers.states().get(&node).map(|(address, _)| address.clone()));
        let Some(address) = address else { return Err(errors::not_coordinator(Some(node))) };
        if let Some((known, channel)) = self.channels.lock().get(&node)
            && *known == address
        {
            return Ok(channel.clone());
        }
        // Connected before use: a call that fails afterwards may have been heard.
        let connected = async {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect().await
        };
        let channel = connected.await.map_err(|_: tonic::transport::Error| {
            errors::error(
                raftline_proto::api::ErrorCode::NotCoordinator,
                format!("node {node} at {address}, which would have to decide, cannot be reached: try again"),
            )
        })?;
        self.channels.lock().insert(node, (address, channel.clone()));
        Ok(channel)
    }

    /// The connection failed: the next call makes a new one.
    pub(super) fn forget(&self, node: NodeId) {
        self.channels.lock().remove(&node);
    }

    /// Waits for news of who leads what, or a moment.
    pub(super) async fn news(&self) {
        let mut changes = self.view.changes();
        drop(tokio::time::timeout(NEWS_WAIT, changes.changed()).await);
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A leader that does not know yet that it leads, or not any more, finds out within this.
const NEWS_WAIT: Duration = Duration::from_millis(100);
