//! All consumer groups of all coordinators, gathered from the brokers that live.

use super::{Origin, client, passed_on, refusals};
use crate::api::{Broker, errors};
use crate::limits;
use raftline_proto::api::{
    ConsumerGroupInfo, Error, ErrorCode, ListConsumerGroupsReply, ListConsumerGroupsRequest,
};
use raftline_proto::ids::NodeId;
use raftline_shard::consumer_groups::types::{
    GroupError, GroupListing, GroupRequest, GroupResponse, ListGroups,
};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Request;

/// What has been gathered.
#[derive(Default)]
struct Found {
    groups: BTreeMap<String, ConsumerGroupInfo>,
    /// The partitions of the internal topic that it is from.
    partitions: BTreeSet<u32>,
}

/// Answers; asks again as long as some partition of the internal topic has no coordinator.
pub(in crate::api) async fn list(
    broker: &Broker,
    request: Request<ListConsumerGroupsRequest>,
) -> ListConsumerGroupsReply {
    let origin = Origin::of(&request);
    let request = request.into_inner();
    let deadline = broker.clock.after(limits::FORWARD_TIMEOUT);
    loop {
        let mut found = Found::default();
        if let Err(error) = here(broker, &request, &mut found).await {
            return ListConsumerGroupsReply { error: Some(error), ..ListConsumerGroupsReply::default() };
        }
        if !origin.passed_on {
            elsewhere(broker, &request, &origin, &mut found).await;
        }
        let missing = (0..broker.groups.partitions()).filter(|one| !found.partitions.contains(one)).count();
        if missing == 0 || origin.passed_on {
            return found.reply();
        }
        if broker.clock.monotonic() >= deadline || broker.stop.is_cancelled() {
            return ListConsumerGroupsReply { error: Some(no_coordinators(missing)), ..found.reply() };
        }
        broker.forwarder.news().await;
    }
}

impl Found {
    fn reply(self) -> ListConsumerGroupsReply {
        ListConsumerGroupsReply {
            groups: self.groups.into_values().collect(),
            partitions: self.partitions.into_iter().collect(),
            error: None,
        }
    }

    fn take(&mut self, reply: ListConsumerGroupsReply) {
        if reply.error.is_none() {
            self.groups.extend(reply.groups.into_iter().map(|group| (group.group.clone(), group)));
            self.partitions.extend(reply.partitions);
        }
    }
}

/// The groups that this node coordinates.
async fn here(broker: &Broker, request: &ListConsumerGroupsRequest, found: &mut Found) -> Result<(), Error> {
    let asked = ListGroups { states: request.states.clone(), types: request.types.clone() };
    for (partition, answer) in broker.groups.ask_each(&GroupRequest::List(asked)).await {
        match answer {
            Ok(GroupResponse::Listed(listed)) => {
                found.partitions.insert(partition);
                let infos = listed.into_iter().map(|listing| info(listing, broker.identity.node()));
                found.groups.extend(infos.map(|info| (info.group.clone(), info)));
            }
            Ok(other) => return Err(errors::unexpected(&other)),
            // Whoever coordinates this partition in a moment lists its groups.
            Err(GroupError::NotCoordinator | GroupError::CoordinatorLoadInProgress) => {}
            Err(error) => return Err(refusals::refusal("", &error)),
        }
    }
    Ok(())
}

/// The groups that the other brokers coordinate, of those that answer.
async fn elsewhere(broker: &Broker, request: &ListConsumerGroupsRequest, origin: &Origin, found: &mut Found) {
    let alive = broker.view.alive();
    let image = broker.view.image();
    let others = image.brokers.keys().filter(|node| **node != broker.identity.node() && alive.contains(node));
    for node in others.copied() {
        if (0..broker.groups.partitions()).all(|partition| found.partitions.contains(&partition)) {
            return;
        }
        let Ok(channel) = broker.forwarder.connection(node).await else { continue };
        let request = passed_on(request.clone(), &origin.host);
        match client(channel).list_consumer_groups(request).await {
            Ok(reply) => found.take(reply.into_inner()),
            Err(status) => {
                broker.forwarder.forget(node);
                tracing::debug!(%node, %status, "a broker did not list its groups");
            }
        }
    }
}

/// A group as lists and descriptions show it.
pub(super) fn info(listing: GroupListing, coordinator: NodeId) -> ConsumerGroupInfo {
    ConsumerGroupInfo {
        group: listing.group,
        state: listing.state.to_owned(),
        r#type: listing.group_type.name().to_owned(),
        protocol_type: listing.protocol_type,
        coordinator_node: coordinator.0,
    }
}

fn no_coordinators(missing: usize) -> Error {
    errors::error(
        ErrorCode::NotCoordinator,
        format!(
            "{missing} partitions of the consumer groups' topic have no coordinator at the moment, so not all groups \
             are known: look at `raftline cluster health`, then try again"
        ),
    )
}
