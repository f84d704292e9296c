//! Asking brokers for metadata: whoever answers first, and for leaders that it does not know, those who do.

use crate::cluster::Cluster;
use crate::connection::{Use, describe_status};
use crate::error::{Attempt, Attempts};
use crate::limits::{METADATA_ATTEMPT_TIMEOUT, METADATA_PATIENCE};
use raftline_proto::api;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;

impl Cluster {
    /// What the first broker that answers knows, completed by what the others know of leaders that it does not: a
    /// broker is sure only about partitions of which it holds a replica. Tells who answered first.
    pub(crate) async fn ask_metadata_of(
        self: &Arc<Self>,
        request: api::MetadataRequest,
        preferred: Option<&str>,
    ) -> Result<(api::MetadataReply, String), Attempts> {
        let (mut reply, address) = self.ask_anyone(&request, preferred).await?;
        let mut asked = JoinSet::new();
        for address in knowing_more(&reply) {
            let cluster = self.clone();
            // What is missing may not be made by this question.
            let request = api::MetadataRequest { topics: request.topics.clone(), auto_create: false };
            asked.spawn(async move { cluster.ask(&address, request).await });
        }
        let complete = async {
            while let Some(answer) = asked.join_next().await {
                if let Ok(Ok(answer)) = answer {
                    learn_leaders(&mut reply, answer);
                }
            }
        };
        // Those who take longer are done without: what they know comes with the next refresh.
        let _ = tokio::time::timeout(METADATA_PATIENCE, complete).await;
        Ok((reply, address))
    }

    /// Asks one broker after another, the next one as soon as the one before has failed or kept silent for a moment;
    /// the first answer counts.
    async fn ask_anyone(
        self: &Arc<Self>,
        request: &api::MetadataRequest,
        preferred: Option<&str>,
    ) -> Result<(api::MetadataReply, String), Attempts> {
        let mut attempts = Attempts::default();
        let mut candidates = self.candidates(preferred).into_iter();
        let mut asked = JoinSet::new();
        loop {
            if let Some(address) = candidates.next() {
                let (cluster, request) = (self.clone(), request.clone());
                asked.spawn(async move { (cluster.ask(&address, request).await, address) });
            } else if asked.is_empty() {
                return Err(attempts);
            }
            tokio::select! {
                Some(answer) = asked.join_next() => match answer {
                    Ok((Ok(reply), address)) => return Ok((reply, address)),
                    Ok((Err(reason), address)) => {
                        tracing::debug!(address, reason, "no metadata from this broker");
                        attempts.0.push(Attempt { address, reason });
                    }
                    // Aborted: the runtime is shutting down.
                    Err(error) => attempts.0.push(Attempt { address: "?".into(), reason: error.to_string() }),
                },
                () = tokio::time::sleep(METADATA_PATIENCE), if candidates.len() > 0 => {}
            }
        }
    }

    async fn ask(&self, address: &str, request: api::MetadataRequest) -> Result<api::MetadataReply, String> {
        let mut stub = self.connections.stub(Use::Requests, address).map_err(|error| error.to_string())?;
        match tokio::time::timeout(METADATA_ATTEMPT_TIMEOUT, stub.metadata(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(describe_status(&status)),
            Err(_) => Err(format!("no answer within {METADATA_ATTEMPT_TIMEOUT:?}")),
        }
    }

    /// Every known address once: the preferred one, the brokers in random order, those given at the start.
    pub(crate) fn candidates(&self, preferred: Option<&str>) -> Vec<String> {
        use rand::seq::SliceRandom;
        let mut brokers: Vec<String> = self.view().brokers.values().cloned().collect();
        brokers.shuffle(&mut rand::rng());
        let mut all: Vec<String> = preferred.map(str::to_owned).into_iter().collect();
        for address in brokers.into_iter().chain(self.bootstrap.iter().cloned()) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

/// The brokers that hold replicas of partitions whose leader is not known, and live.
fn knowing_more(reply: &api::MetadataReply) -> Vec<String> {
    let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
    let leaderless = partitions.filter(|partition| partition.leader_node.is_none());
    let nodes: BTreeSet<u32> = leaderless.flat_map(|partition| partition.replicas.iter().copied()).collect();
    let knowing = |broker: &&api::BrokerInfo| {
        nodes.contains(&broker.node) && broker.alive && broker.node != reply.answering_node
    };
    reply.brokers.iter().filter(knowing).map(|broker| broker.grpc_address.clone()).collect()
}

/// Takes over leaders of higher terms, and of the same term where none was known.
fn learn_leaders(reply: &mut api::MetadataReply, other: api::MetadataReply) {
    let mut known: BTreeMap<u64, api::PartitionInfo> = BTreeMap::new();
    for partition in other.topics.into_iter().flat_map(|topic| topic.partitions) {
        known.insert(partition.group, partition);
    }
    for partition in reply.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        let Some(other) = known.get(&partition.group) else { continue };
        let newer = other.term > partition.term;
        let more = other.term == partition.term && partition.leader_node.is_none();
        if newer || more {
            (partition.leader_node, partition.term) = (other.leader_node, other.term);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(answering_node: u32, partitions: &[(u64, u64, Option<u32>)]) -> api::MetadataReply {
        let partitions = partitions.iter().map(|(group, term, leader_node)| api::PartitionInfo {
            group: *group,
            term: *term,
            leader_node: *leader_node,
            replicas: vec![2, 3],
            ..api::PartitionInfo::default()
        });
        let topic = api::TopicInfo { partitions: partitions.collect(), ..api::TopicInfo::default() };
        let broker = |node| api::BrokerInfo {
            node,
            grpc_address: format!("b:{node}"),
            alive: node != 3,
            ..api::BrokerInfo::default()
        };
        api::MetadataReply {
            answering_node,
            brokers: (1..=4).map(broker).collect(),
            topics: vec![topic],
            ..api::MetadataReply::default()
        }
    }

    fn leaders(reply: &api::MetadataReply) -> Vec<Option<u32>> {
        reply.topics[0].partitions.iter().map(|partition| partition.leader_node).collect()
    }

    #[test]
    fn live_replicas_are_asked_for_leaders_that_are_not_known() {
        assert_eq!(knowing_more(&reply(1, &[(7, 0, None)])), ["b:2"]);
        assert!(knowing_more(&reply(1, &[(7, 1, Some(2))])).is_empty());
        assert!(knowing_more(&reply(2, &[(7, 0, None)])).is_empty(), "nobody else to ask");
    }

    #[test]
    fn newer_terms_win() {
        let mut ours = reply(1, &[(7, 0, None), (8, 5, Some(2)), (9, 5, Some(2)), (10, 5, None)]);
        learn_leaders(
            &mut ours,
            reply(2, &[(7, 3, Some(3)), (8, 4, Some(3)), (9, 6, None), (10, 5, Some(2))]),
        );
        assert_eq!(leaders(&ours), [Some(3), Some(2), None, Some(2)]);
    }
}
