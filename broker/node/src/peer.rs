//! The transport between brokers, over tonic.
//!
//! Every node dials every other, twice (bulk and control), and sends only on what it dialled; the answering
//! direction carries the verdict of the handshake and nothing else. Both ends know each other's cluster, node id
//! and disk before the first message counts, and every batch names the disks again.
//!
//! In reading order: this file, `handshake` (who may talk), `outbox` (what waits to leave), `dial` (the outgoing
//! connections), `accept` (the incoming ones), `convert` (engine messages to protobuf and back).

mod accept;
mod convert;
mod dial;
mod handshake;
mod outbox;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::handle::Shards;
use crate::identity::Identity;
use crate::pulse::PulseLine;
use crate::view::NodeView;
use handshake::Local;
use outbox::Lanes;
use parking_lot::Mutex;
use raftline_proto::ids::{BootId, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use accept::PeerService;
pub use outbox::Outbox;

/// All peers of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    local: Local,
    addresses: BTreeMap<NodeId, String>,
    lanes: Arc<BTreeMap<NodeId, Lanes>>,
    states: BTreeMap<NodeId, Mutex<PeerState>>,
    /// Rung when a peer dials in: whoever waits to dial it again need not wait any longer.
    heard: BTreeMap<NodeId, Notify>,
    /// Whether any peer has let this node in since its start.
    let_in: AtomicBool,
    /// Why the last peer refused this node for what it is.
    refused: watch::Sender<Option<String>>,
}

/// How the connection to a peer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// Whether it was welcomed and lives.
    pub connected: bool,
    /// Why it last was not, or broke; empty if nothing ever went wrong.
    pub last_error: String,
    /// Whether its host says that no such process runs. Stays so until it is connected again.
    pub process_gone: bool,
}

impl Peers {
    /// Peers at these addresses; this node's own is skipped. Nothing is dialled yet.
    #[must_use]
    pub fn new(identity: Arc<Identity>, boot: BootId, addresses: &BTreeMap<NodeId, String>) -> Self {
        let members: BTreeSet<NodeId> = addresses.keys().copied().collect();
        let mut addresses = addresses.clone();
        addresses.remove(&identity.node());
        let lanes = addresses.keys().map(|node| (*node, Lanes::new())).collect();
        let states = addresses.keys().map(|node| (*node, Mutex::default())).collect();
        let heard = addresses.keys().map(|node| (*node, Notify::new())).collect();
        let local = Local { identity, boot, members: Arc::new(members) };
        let shared = Shared {
            local,
            addresses,
            lanes: Arc::new(lanes),
            states,
            heard,
            let_in: AtomicBool::new(false),
            refused: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A shard thread's way out.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(Arc::clone(&self.shared.lanes))
    }

    /// Keeps a connection to every peer until `stop`, on tasks of `tasks`.
    pub fn dial(&self, pulse: &PulseLine, clock: Clock, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
        for (peer, address) in &self.shared.addresses {
            let dialler = dial::Dialler::new(Arc::clone(&self.shared), *peer, address, pulse.clone(), clock);
            let stop = stop.clone();
            let run = Box::pin(dialler.run());
            tasks.spawn(async move {
                stop.run_until_cancelled_owned(run).await;
            });
        }
    }

    /// The service that peers dial.
    #[must_use]
    pub fn service(
        &self,
        shards: Shards,
        pulse: PulseLine,
        view: Arc<NodeView>,
        clock: Clock,
        stop: CancellationToken,
    ) -> PeerService {
        PeerService::new(Arc::clone(&self.shared), shards, pulse, view, clock, stop)
    }

    /// Every peer's address and state.
    #[must_use]
    pub fn states(&self) -> BTreeMap<NodeId, (String, PeerState)> {
        let state = |(node, address): (&NodeId, &String)| {
            let state = self.shared.states.get(node).map(|state| state.lock().clone()).unwrap_or_default();
            (*node, (address.clone(), state))
        };
        self.shared.addresses.iter().map(state).collect()
    }

    /// The peers whose hosts say that no such process runs: they lead nothing, whoever else is out of reach.
    #[must_use]
    pub fn gone(&self) -> BTreeSet<NodeId> {
        let gone = self.shared.states.iter().filter(|(_, state)| state.lock().process_gone);
        gone.map(|(node, _)| *node).collect()
    }

    /// Waits until it is clear that this node is not wanted: a peer refused it for what it is, and nobody has let it
    /// in since its start nor within a grace. Returns that peer's words.
    pub async fn unwanted(&self) -> String {
        let mut refused = self.shared.refused.subscribe();
        loop {
            let message = refused.wait_for(Option::is_some).await.map(|message| message.clone());
            // The sender is in `self`.
            let Ok(Some(message)) = message else { continue };
            tokio::time::sleep(crate::limits::PEER_REFUSED_GRACE).await;
            if !self.shared.let_in.load(Ordering::Acquire) {
                return message;
            }
            self.shared.refused.send_replace(None);
        }
    }
}

impl Shared {
    fn update(&self, peer: NodeId, change: impl FnOnce(&mut PeerState)) {
        if let Some(state) = self.states.get(&peer) {
            change(&mut state.lock());
        }
    }
}
