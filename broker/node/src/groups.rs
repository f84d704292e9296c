//! The coordinators of consumer groups: for each partition of the internal topic that is led here, a task that runs
//! the pure [`Groups`](raftline_shard::consumer_groups::Groups) over its log.
//!
//! In reading order: this file (who coordinates which group, and the way to it), `driver` (one partition's task).
//!
//! A partition's leader reads the log through its last entry, which has to be committed, before it answers anything.
//! It appends in its own term only: had another leader been there in between, the append is refused, and it reads anew.

mod driver;

#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::handle::Shards;
use crate::limits;
use crate::view::NodeView;
use driver::{Asked, Driver};
use parking_lot::Mutex;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_proto::metadata::PartitionRecord;
use raftline_raft::types::Role;
use raftline_shard::consumer_groups::coordinator_partition;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::types::{Answer, GroupError, GroupRequest};
use raftline_shard::coordinator::internal::GROUPS_TOPIC;
use raftline_shard::image::TopicImage;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The coordinators on this node.
pub(crate) struct GroupCoordinators {
    shards: Shards,
    view: Arc<NodeView>,
    clock: Clock,
    config: GroupsConfig,
    stop: CancellationToken,
    seats: Mutex<HashMap<GroupId, Seat>>,
}

/// A coordinator at work.
struct Seat {
    term: Term,
    requests: mpsc::Sender<Asked>,
    /// Ends the task.
    vacate: CancellationToken,
}

impl GroupCoordinators {
    /// None yet: [`GroupCoordinators::follow_leaderships`] starts them.
    pub(crate) fn new(
        shards: Shards,
        view: Arc<NodeView>,
        clock: Clock,
        config: GroupsConfig,
        stop: CancellationToken,
    ) -> Self {
        Self { shards, view, clock, config, stop, seats: Mutex::default() }
    }

    /// Starts and ends coordinators as leaderships come and go, until the process stops.
    pub(crate) async fn follow_leaderships(self: Arc<Self>) {
        let mut changes = self.view.changes();
        loop {
            changes.borrow_and_update();
            self.arrange();
            let changed = tokio::select! {
                changed = changes.changed() => changed,
                () = self.stop.cancelled() => break,
            };
            if changed.is_err() {
                break;
            }
        }
        for (_, seat) in self.seats.lock().drain() {
            seat.vacate.cancel();
        }
    }

    /// One look at who leads what.
    fn arrange(self: &Arc<Self>) {
        let topic = self.topic();
        let partitions = topic.iter().flat_map(|topic| &topic.partitions);
        let led: HashMap<GroupId, Term> = partitions
            .filter_map(|partition| {
                let known = self.view.leader(partition.group)?;
                (known.role == Role::Leader).then_some((partition.group, known.term))
            })
            .collect();
        let mut seats = self.seats.lock();
        seats.retain(|group, seat| {
            let stays = led.get(group) == Some(&seat.term) && !seat.requests.is_closed();
            if !stays {
                seat.vacate.cancel();
            }
            stays
        });
        for (group, term) in led {
            seats.entry(group).or_insert_with(|| self.start(group, term));
        }
    }

    fn start(self: &Arc<Self>, group: GroupId, term: Term) -> Seat {
        let (requests, inbox) = mpsc::channel(limits::GROUP_REQUESTS_MAX);
        let vacate = self.stop.child_token();
        let driver = Driver::new(
            (group, term),
            self.shards.clone(),
            Arc::clone(&self.view),
            self.clock,
            self.config.clone(),
            inbox,
        );
        let (ended, again) = (vacate.clone(), Arc::clone(self));
        tokio::spawn(async move {
            driver.run(ended.clone()).await;
            if !ended.is_cancelled() {
                // It leads still, as far as is known, and could not go on: another one reads the log anew.
                tokio::time::sleep(limits::GROUP_RESTART_PAUSE).await;
                again.arrange();
            }
        });
        tracing::debug!(partition = self.view.place_of(group), %term, "coordinating consumer groups");
        Seat { term, requests, vacate }
    }

    /// Which partition of the internal topic a group belongs to; `None` while there is no such topic.
    pub(crate) fn partition_of(&self, group: &str) -> Option<PartitionRecord> {
        let topic = self.topic()?;
        let count = u32::try_from(topic.partitions.len()).ok().filter(|count| *count > 0)?;
        topic.partitions.get(usize::try_from(coordinator_partition(group, count)).ok()?).cloned()
    }

    /// The internal topic, once there is one.
    fn topic(&self) -> Option<Arc<TopicImage>> {
        let image = self.view.image();
        image.topic_ids.get(GROUPS_TOPIC).and_then(|id| image.topics.get(id)).cloned()
    }

    /// Asks the coordinator of a group, which has to be here.
    pub(crate) async fn ask(&self, group: &str, request: GroupRequest) -> Answer {
        let Some(partition) = self.partition_of(group) else {
            return Err(GroupError::CoordinatorNotAvailable);
        };
        let Some(requests) = self.seat(partition.group) else { return Err(GroupError::NotCoordinator) };
        ask(&requests, request).await
    }

    /// Asks every coordinator on this node: for lists of groups.
    pub(crate) async fn ask_all(&self, request: &GroupRequest) -> Vec<Answer> {
        self.ask_each(request).await.into_iter().map(|(_, answer)| answer).collect()
    }

    /// The same, with the partition of the internal topic that each answer is about.
    pub(crate) async fn ask_each(&self, request: &GroupRequest) -> Vec<(u32, Answer)> {
        let topic = self.topic();
        let partitions = topic.iter().flat_map(|topic| &topic.partitions);
        let mut answers = Vec::new();
        for (partition, number) in partitions.zip(0..) {
            if let Some(requests) = self.seat(partition.group) {
                answers.push((number, ask(&requests, request.clone()).await));
            }
        }
        answers
    }

    /// How many partitions the internal topic has; none before the first group.
    pub(crate) fn partitions(&self) -> u32 {
        self.topic().map_or(0, |topic| u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX))
    }

    /// What the coordinators go by.
    pub(crate) const fn config(&self) -> &GroupsConfig {
        &self.config
    }

    fn seat(&self, group: GroupId) -> Option<mpsc::Sender<Asked>> {
        self.seats.lock().get(&group).map(|seat| seat.requests.clone())
    }

    /// Who leads a partition of the internal topic, as far as this node knows.
    pub(crate) fn leader_of(&self, partition: &PartitionRecord) -> Option<NodeId> {
        self.view.leader(partition.group).and_then(|known| known.leader)
    }
}

async fn ask(requests: &mpsc::Sender<Asked>, request: GroupRequest) -> Answer {
    let (answer, answered) = oneshot::channel();
    match requests.try_send(Asked { request, answer }) {
        Ok(()) => answered.await.unwrap_or(Err(GroupError::NotCoordinator)),
        Err(mpsc::error::TrySendError::Full(_)) => Err(GroupError::CoordinatorLoadInProgress),
        Err(mpsc::error::TrySendError::Closed(_)) => Err(GroupError::NotCoordinator),
    }
}
