//! The task that keeps a consumer in its group: heartbeats and commits, one after the other, so that no commit is
//! under way while a heartbeat moves the member's epoch.

use super::Positions;
use crate::admin::{Admin, by_topic, each};
use crate::clock;
use crate::config::{Assignor, GroupConsumerConfig};
use crate::error::{AdminError, CommitError, ErrorCode, Refusal};
use crate::limits::{GROUP_PATIENCE, LEAVE_PATIENCE};
use crate::record::TopicPartition;
use raftline_proto::api;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// What the group told. A round is never told twice; the first is 1.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// Nothing yet.
    Nothing,
    /// What to own from now on: all else is to be given up.
    Assigned { round: u64, partitions: Arc<BTreeSet<TopicPartition>> },
    /// The group has put this member out: everything is to be dropped, and nothing can be committed.
    Lost { round: u64 },
    /// The group does not take it. This is the last that is told.
    Refused(Refusal),
}

/// What the handle says.
#[derive(Debug)]
pub(super) enum Order {
    /// What it owns now, in answer to a round.
    Own { round: u64, partitions: BTreeSet<TopicPartition> },
    /// How far it has read.
    Commit { offsets: Positions, done: oneshot::Sender<Result<(), CommitError>> },
}

/// Where the member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// To join with the next heartbeat.
    Out,
    /// In the group.
    In { epoch: i32 },
    /// Put out: the handle has to drop everything in answer to this round before it joins again.
    Lost { round: u64 },
    /// Not taken by the group.
    Refused,
}

/// A member of a group.
pub(super) struct Membership {
    admin: Admin,
    group: String,
    member_id: String,
    topics: Vec<String>,
    assignor: &'static str,
    client_id: String,
    rebalance_timeout_ms: u32,
    interval: Duration,
    session_timeout: Option<Duration>,
    /// When the last heartbeat was sent that was answered well.
    heard: Instant,
    standing: Standing,
    round: u64,
    /// As told last.
    assigned: Option<Arc<BTreeSet<TopicPartition>>>,
    /// As the handle said last, and whatever it was told since: it may have begun to read that. Were it left out,
    /// 1. this member is told partition 0, and its handle looks up where to go on;
    /// 2. the next heartbeat says that it owns nothing, so partition 0 may go to another member at once;
    /// 3. the handle begins to read: two members have it.
    owned: BTreeSet<TopicPartition>,
    told: watch::Sender<Told>,
    orders: mpsc::Receiver<Order>,
}

impl Membership {
    pub(super) fn new(
        admin: Admin,
        group: &str,
        topics: BTreeSet<String>,
        config: &GroupConsumerConfig,
        told: watch::Sender<Told>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let rebalance_timeout_ms = u32::try_from(config.rebalance_timeout.as_millis()).unwrap_or(u32::MAX);
        Self {
            admin,
            group: group.to_owned(),
            member_id: format!("{}-{:032x}", config.client_id, rand::random::<u128>()),
            topics: topics.into_iter().collect(),
            assignor: match config.assignor {
                Assignor::Uniform => "uniform",
                Assignor::Range => "range",
            },
            client_id: config.client_id.clone(),
            rebalance_timeout_ms: rebalance_timeout_ms.max(1),
            interval: config.heartbeat_interval_max,
            session_timeout: None,
            heard: clock::monotonic(),
            standing: Standing::Out,
            round: 0,
            assigned: None,
            owned: BTreeSet::new(),
            told,
            orders,
        }
    }

    /// Until the handle is gone.
    pub(super) async fn run(mut self) {
        let mut next_beat = clock::monotonic();
        loop {
            let beats = matches!(self.standing, Standing::Out | Standing::In { .. });
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Own { round, partitions }) => {
                        if self.own(round, partitions) {
                            next_beat = clock::monotonic();
                        }
                    }
                    Some(Order::Commit { offsets, done }) => {
                        let committed = self.commit(&offsets).await;
                        if let Err(error) = &committed {
                            tracing::warn!(group = self.group, %error, "offsets were not committed");
                        }
                        // Nobody may wait for it.
                        let _ = done.send(committed);
                    }
                    None => return self.leave().await,
                },
                () = tokio::time::sleep_until(next_beat), if beats => {
                    let interval = self.beat().await;
                    next_beat = clock::monotonic() + interval;
                }
            }
        }
    }

    /// What the handle owns. Whether the group is to know at once.
    fn own(&mut self, round: u64, partitions: BTreeSet<TopicPartition>) -> bool {
        match self.standing {
            Standing::Lost { round: lost } if lost == round => {
                self.owned = partitions;
                self.standing = Standing::Out;
                true
            }
            // It owned that before it was put out.
            Standing::Lost { .. } | Standing::Out | Standing::Refused => false,
            Standing::In { .. } => {
                let mut owned = partitions;
                if round != self.round {
                    owned.extend(self.assigned.iter().flat_map(|assigned| assigned.iter().cloned()));
                }
                let changed = self.owned != owned;
                self.owned = owned;
                changed
            }
        }
    }

    /// One heartbeat; when to send the next.
    async fn beat(&mut self) -> Duration {
        let epoch = match self.standing {
            Standing::In { epoch } => epoch,
            Standing::Out | Standing::Lost { .. } | Standing::Refused => JOINS,
        };
        let sent = clock::monotonic();
        match self.admin.heartbeat(GROUP_PATIENCE, &self.request(epoch)).await {
            Ok(reply) => {
                self.heard = sent;
                self.take(&reply);
                self.interval.min(Duration::from_millis(u64::from(reply.heartbeat_interval_ms.max(1))))
            }
            Err(AdminError::Refused(refusal)) => {
                self.take_refusal(refusal);
                Duration::ZERO
            }
            Err(error) => {
                tracing::warn!(group = self.group, %error, "no heartbeat was answered");
                let silent = clock::monotonic().duration_since(self.heard);
                let over = self.session_timeout.is_some_and(|timeout| silent >= timeout);
                if over && matches!(self.standing, Standing::In { .. }) {
                    // The group counts on others by now.
                    self.lose();
                }
                Duration::ZERO
            }
        }
    }

    fn request(&self, member_epoch: i32) -> api::ConsumerGroupHeartbeatRequest {
        api::ConsumerGroupHeartbeatRequest {
            group: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch,
            subscribed_topics: self.topics.clone(),
            owned: by_topic(&self.owned),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            assignor: self.assignor.to_owned(),
            client_id: self.client_id.clone(),
        }
    }

    fn take(&mut self, reply: &api::ConsumerGroupHeartbeatReply) {
        self.session_timeout = Some(Duration::from_millis(u64::from(reply.session_timeout_ms)));
        self.standing = Standing::In { epoch: reply.member_epoch };
        let partitions: BTreeSet<TopicPartition> = each(&reply.assignment).collect();
        if self.assigned.as_deref() != Some(&partitions) {
            self.owned.extend(partitions.iter().cloned());
            let partitions = Arc::new(partitions);
            self.assigned = Some(partitions.clone());
            self.round += 1;
            self.told.send_replace(Told::Assigned { round: self.round, partitions });
        }
    }

    fn take_refusal(&mut self, refusal: Refusal) {
        match refusal.code {
            ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch | ErrorCode::StaleMemberEpoch => {
                tracing::info!(group = self.group, reason = refusal.message, "put out of the group");
                self.lose();
            }
            _ => {
                self.standing = Standing::Refused;
                self.told.send_replace(Told::Refused(refusal));
            }
        }
    }

    fn lose(&mut self) {
        self.round += 1;
        self.assigned = None;
        self.standing = Standing::Lost { round: self.round };
        self.told.send_replace(Told::Lost { round: self.round });
    }

    async fn commit(&mut self, offsets: &Positions) -> Result<(), CommitError> {
        let not_a_member = || CommitError::NotAMember { group: self.group.clone() };
        let Standing::In { epoch } = self.standing else { return Err(not_a_member()) };
        let Err(error) = self.try_commit(epoch, offsets).await else { return Ok(()) };
        match error.code() {
            Some(ErrorCode::StaleMemberEpoch) => {
                // The answer that told the new epoch was lost: it is told again.
                self.beat().await;
                let Standing::In { epoch } = self.standing else {
                    return Err(CommitError::NotAMember { group: self.group.clone() });
                };
                Ok(self.try_commit(epoch, offsets).await?)
            }
            Some(ErrorCode::UnknownMember | ErrorCode::FencedMemberEpoch) => {
                let error = not_a_member();
                self.lose();
                Err(error)
            }
            _ => Err(error.into()),
        }
    }

    async fn try_commit(&self, epoch: i32, offsets: &Positions) -> Result<(), AdminError> {
        let member = Some((self.member_id.as_str(), epoch));
        self.admin.commit_as(GROUP_PATIENCE, &self.group, member, offsets).await
    }

    async fn leave(self) {
        // A join whose answer is not known may have happened.
        if matches!(self.standing, Standing::In { .. } | Standing::Out) {
            let left = self.admin.heartbeat(LEAVE_PATIENCE, &self.request(LEAVES)).await;
            if let Err(error) = left {
                tracing::debug!(group = self.group, %error, "the group did not hear the leave");
            }
        }
    }
}

const JOINS: i32 = 0;
const LEAVES: i32 = -1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::config::ClientConfig;
    use raftline_proto::ids::PartitionIndex;

    fn partitions(numbers: &[u32]) -> BTreeSet<TopicPartition> {
        numbers.iter().map(|number| TopicPartition::new("t", PartitionIndex(*number))).collect()
    }

    /// A member of a group that is played by the test. Needs a runtime for the connections, which it never makes.
    fn member() -> (Membership, watch::Receiver<Told>) {
        let cluster = Cluster::new(vec!["127.0.0.1:1".to_owned()], ClientConfig::default());
        let admin = Admin::new(Arc::new(cluster.expect("an address")));
        let (sender, told) = watch::channel(Told::Nothing);
        let (_, orders) = mpsc::channel(1);
        let config = GroupConsumerConfig::default();
        (Membership::new(admin, "g", BTreeSet::from(["t".to_owned()]), &config, sender, orders), told)
    }

    fn assign(member: &mut Membership, member_epoch: i32, numbers: &[u32]) {
        let assignment = by_topic(&partitions(numbers));
        member.take(&api::ConsumerGroupHeartbeatReply {
            member_epoch,
            assignment,
            ..api::ConsumerGroupHeartbeatReply::default()
        });
    }

    #[tokio::test]
    async fn what_was_told_counts_as_owned_until_the_handle_says_otherwise() {
        let (mut member, told) = member();
        assert_eq!(member.request(JOINS).owned, []);
        assign(&mut member, 1, &[0, 1]);
        assert!(
            matches!(&*told.borrow(), Told::Assigned { round: 1, partitions: of } if **of == partitions(&[0, 1]))
        );
        assert_eq!(member.owned, partitions(&[0, 1]), "the handle may have begun to read");
        assert!(!member.own(1, partitions(&[0, 1])), "nothing new to the group");
        assign(&mut member, 1, &[0, 1]);
        assert_eq!(member.round, 1, "nor to the handle");

        // It has to give 1 up, and is told of 2 before it has.
        assign(&mut member, 1, &[0]);
        assign(&mut member, 2, &[0, 2]);
        assert_eq!(member.owned, partitions(&[0, 1, 2]));
        assert!(member.own(2, partitions(&[0])), "1 is free");
        assert_eq!(member.owned, partitions(&[0, 2]), "2 may be read by now");
        assert!(!member.own(3, partitions(&[0, 2])));
    }

    #[tokio::test]
    async fn who_was_put_out_drops_everything_before_it_joins_again() {
        let (mut member, told) = member();
        assign(&mut member, 1, &[0]);
        member.own(1, partitions(&[0]));
        let fenced = Refusal { code: ErrorCode::FencedMemberEpoch, message: "put out".to_owned() };
        member.take_refusal(fenced);
        assert!(matches!(*told.borrow(), Told::Lost { round: 2 }));
        assert!(!member.own(1, partitions(&[0])), "that was before");
        assert_eq!(member.standing, Standing::Lost { round: 2 });
        assert!(member.own(2, BTreeSet::new()));
        assert_eq!((member.standing, member.request(JOINS).owned), (Standing::Out, vec![]));
        // The same assignment as before is news again.
        assign(&mut member, 3, &[0]);
        assert!(matches!(*told.borrow(), Told::Assigned { round: 3, .. }));
        let full = Refusal { code: ErrorCode::LimitExceeded, message: "full".to_owned() };
        member.take_refusal(full);
        assert!(matches!(&*told.borrow(), Told::Refused(refusal) if refusal.message == "full"));
    }
}
