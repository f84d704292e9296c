//! What the client knows of the cluster, and how it learns more: one view, refreshed when something contradicts it.

use crate::clock;
use crate::config::{ClientConfig, MissingTopic};
use crate::connection::{Connections, Stub, Use};
use crate::error::{Attempts, ConnectError, ErrorCode, Refusal};
use crate::limits::MESSAGE_BYTES_DEFAULT;
use parking_lot::RwLock;
use raftline_proto::api;
use raftline_proto::ids::{NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The cluster as last heard. Replaced as a whole, never changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Counts refreshes, so that callers who saw the same stale view share one.
    pub(crate) version: u64,
    pub(crate) brokers: BTreeMap<NodeId, String>,
    pub(crate) topics: BTreeMap<String, Arc<TopicView>>,
    /// Topics that were asked for and refused.
    pub(crate) refused: BTreeMap<String, Refusal>,
    pub(crate) coordinator: Option<NodeId>,
}

/// A topic as last heard.
#[derive(Clone, Debug)]
pub(crate) struct TopicView {
    pub(crate) id: String,
    pub(crate) partitions: Vec<PartitionView>,
    /// The bound on a batch.
    pub(crate) message_bytes_max: usize,
}

/// A partition as last heard. Invariant: within one topic id the term never falls.
#[derive(Clone, Debug)]
pub(crate) struct PartitionView {
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: Term,
}

impl View {
    /// The leader of a partition and its address, if both are known.
    pub(crate) fn leader(&self, topic: &str, partition: u32) -> Option<(NodeId, &str)> {
        let partition = self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)?;
        let leader = partition.leader?;
        Some((leader, self.brokers.get(&leader)?))
    }
}

/// Finds and remembers.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) connections: Connections,
    pub(crate) config: ClientConfig,
    pub(crate) bootstrap: Vec<String>,
    view: RwLock<Arc<View>>,
    /// The topics that somebody uses: every refresh asks for all of them, so that it serves everybody.
    interest: RwLock<BTreeSet<String>>,
    /// Held during a refresh. The address that answered last is asked first.
    refreshing: tokio::sync::Mutex<Option<String>>,
}

impl Cluster {
    pub(crate) fn new(bootstrap: Vec<String>, config: ClientConfig) -> Result<Self, ConnectError> {
        if bootstrap.is_empty() {
            return Err(ConnectError::NoBrokers);
        }
        let connections = Connections::new(&config);
        for address in &bootstrap {
            connections.stub(Use::Requests, address)?;
        }
        Ok(Self {
            connections,
            config,
            bootstrap,
            view: RwLock::default(),
            interest: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// Has every refresh from now on ask for `topic`.
    pub(crate) fn note_interest(&self, topic: &str) {
        if !self.interest.read().contains(topic) {
            self.interest.write().insert(topic.to_owned());
        }
    }

    /// Asks brokers until one answers. Returns at once if the view is newer than the `seen` one.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        seen: u64,
        missing: MissingTopic,
    ) -> Result<Arc<View>, Attempts> {
        let mut preferred = self.refreshing.lock().await;
        // Now and then another one is asked first: the preferred one may be cut off from the cluster itself.
        if rand::random_ratio(1, 4) {
            *preferred = None;
        }
        let view = self.view();
        if view.version > seen {
            return Ok(view);
        }
        let topics: Vec<String> = self.interest.read().iter().cloned().collect();
        // With no topic of interest an empty list would mean "all": brokers alone are asked for by a topic
        // that cannot exist.
        let topics = if topics.is_empty() { vec![NO_TOPIC.to_owned()] } else { topics };
        let request = api::MetadataRequest { topics, auto_create: missing == MissingTopic::Create };
        let (reply, address) = self.ask_metadata_of(request, preferred.as_deref()).await?;
        *preferred = Some(address);
        let next = Arc::new(merge(&view, reply));
        *self.view.write() = next.clone();
        Ok(next)
    }

    /// All there is to know of brokers and the named topics (empty: all), from the first broker that answers.
    pub(crate) async fn ask_metadata(
        self: &Arc<Self>,
        topics: Vec<String>,
    ) -> Result<api::MetadataReply, Attempts> {
        let request = api::MetadataRequest { topics, auto_create: false };
        Ok(self.ask_metadata_of(request, None).await?.0)
    }

    /// The stub of a node.
    pub(crate) fn node_stub(&self, purpose: Use, node: NodeId) -> Option<Stub> {
        let view = self.view();
        self.connections.stub(purpose, view.brokers.get(&node)?).ok()
    }

    /// Takes over what a refusal told about a partition's leader, unless that broker is unknown.
    pub(crate) fn note_leader(&self, topic: &str, partition: u32, leader: NodeId) {
        let mut view = self.view.write();
        let Some(index) = usize::try_from(partition).ok() else { return };
        if !view.brokers.contains_key(&leader) {
            return;
        }
        let known = view.topics.get(topic).and_then(|topic| topic.partitions.get(index));
        if known.is_some_and(|partition| partition.leader != Some(leader)) {
            let mut next = View::clone(&view);
            if let Some(topic) = next.topics.get_mut(topic) {
                Arc::make_mut(topic).partitions[index].leader = Some(leader);
            }
            *view = Arc::new(next);
        }
    }
}

/// No topic can have this name (Kafka's characters only), so it asks for brokers alone.
const NO_TOPIC: &str = "!";

/// The view that follows from an answer. A broker that lags behind may answer with an older leader than known: the
/// higher term stands.
fn merge(old: &View, reply: api::MetadataReply) -> View {
    let mut next = View {
        version: old.version + 1,
        brokers: reply.brokers.into_iter().map(|broker| (NodeId(broker.node), broker.grpc_address)).collect(),
        coordinator: reply.coordinator_node.map(NodeId),
        ..View::default()
    };
    if next.brokers.is_empty() {
        next.brokers.clone_from(&old.brokers);
    }
    for topic in reply.topics {
        if let Some(error) = topic.error {
            next.refused.insert(topic.name, refusal(error));
            continue;
        }
        let known = old.topics.get(&topic.name).filter(|known| known.id == topic.id);
        let mut partitions = topic.partitions;
        partitions.sort_unstable_by_key(|partition| partition.partition);
        let partitions = partitions.into_iter().enumerate().map(|(index, heard)| {
            let heard = PartitionView { leader: heard.leader_node.map(NodeId), term: Term(heard.term) };
            match known.and_then(|known| known.partitions.get(index)) {
                Some(known) if known.term > heard.term => known.clone(),
                _ => heard,
            }
        });
        let view = TopicView {
            partitions: partitions.collect(),
            message_bytes_max: message_bytes_max(&topic.configs),
            id: topic.id,
        };
        next.topics.insert(topic.name, Arc::new(view));
    }
    next
}

fn message_bytes_max(configs: &BTreeMap<String, String>) -> usize {
    configs.get("max.message.bytes").and_then(|value| value.parse().ok()).unwrap_or(MESSAGE_BYTES_DEFAULT)
}

/// A broker's error as a refusal. Codes of a newer broker count as unspecified; the words stay.
pub(crate) fn refusal(error: api::Error) -> Refusal {
    let code = ErrorCode::try_from(error.code).unwrap_or(ErrorCode::Unspecified);
    Refusal { code, message: error.message }
}

/// Pauses between attempts: doubling, bounded, with a third of chance so that clients do not march in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self { next: config.backoff_min, min: config.backoff_min, max: config.backoff_max }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        pause.mul_f64(1.0 - rand::random::<f64>() / 3.0)
    }

    /// Something went well: start small again.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

/// Time left until `deadline`; `None` once it has passed.
pub(crate) fn left(deadline: tokio::time::Instant) -> Option<Duration> {
    deadline.checked_duration_since(clock::monotonic()).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(term: u64, leader: Option<u32>, id: &str) -> api::MetadataReply {
        let partition = api::PartitionInfo { term, leader_node: leader, ..Default::default() };
        let topic = api::TopicInfo {
            name: "t".into(),
            id: id.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let broker = |node| api::BrokerInfo { node, grpc_address: format!("b:{node}"), ..Default::default() };
        api::MetadataReply {
            brokers: vec![broker(1), broker(2)],
            topics: vec![topic],
            ..api::MetadataReply::default()
        }
    }

    #[test]
    fn an_older_term_does_not_win() {
        let view = merge(&View::default(), reply(5, Some(2), "a"));
        let view = merge(&view, reply(4, Some(1), "a"));
        assert_eq!(view.leader("t", 0), Some((NodeId(2), "b:2")));
        let view = merge(&view, reply(6, None, "a"));
        assert_eq!(view.leader("t", 0), None, "a newer term without a leader is news");
    }

    #[test]
    fn a_topic_made_again_starts_over() {
        let view = merge(&View::default(), reply(5, Some(2), "a"));
        let view = merge(&view, reply(1, Some(1), "b"));
        assert_eq!(view.leader("t", 0), Some((NodeId(1), "b:1")));
    }

    #[test]
    fn pauses_double_up_to_the_bound() {
        let config = ClientConfig::default();
        let mut backoff = Backoff::new(&config);
        for _ in 0..20 {
            assert!(backoff.pause() <= config.backoff_max);
        }
        assert!(backoff.pause() > config.backoff_max / 2);
        backoff.reset();
        assert!(backoff.pause() <= config.backoff_min);
    }
}
