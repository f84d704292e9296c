//! The consumer of a group: topics in, records out, partitions shared with the other members. In reading order: this
//! file (the handle), [`membership`] (the task that keeps it in the group).
//!
//! The brokers assign (KIP-848). The task heartbeats and is told what to own; the handle, in [`GroupConsumer::next`],
//! follows: it stops reading what it has to give up, commits how far it got, and only then says that it has given up,
//! so that whoever gets the partition goes on exactly there. Between two calls of `next` nothing is given up: while a
//! record is being worked on, nobody else has its partition.

mod membership;

use crate::admin::Admin;
use crate::client::Client;
use crate::clock;
use crate::config::{AutoCommit, GroupConsumerConfig};
use crate::consumer::{Consumer, StartAt};
use crate::error::{CommitError, GroupConsumeError};
use crate::limits::GROUP_ORDERS_MAX;
use crate::record::{ConsumedRecord, TopicPartition};
use membership::{Membership, Order, Told};
use raftline_proto::ids::{Offset, PartitionIndex};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Next offsets to read, by partition.
type Positions = BTreeMap<TopicPartition, Offset>;

/// Reads topics together with the other members of a group: every partition is with one member at a time, and goes on
/// at the offset that the group committed last. Every record is handed out at least once: those handed out since the
/// last commit come again, if this process dies.
///
/// ```no_run
/// # async fn example(client: raftline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use raftline_client::GroupConsumerConfig;
///
/// let mut consumer = client.group_consumer("billing", ["orders"], GroupConsumerConfig::default());
/// for _ in 0..10 {
///     let record = consumer.next().await?;
///     println!("{}/{}: {:?}", record.partition, record.offset, record.value);
/// }
/// consumer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GroupConsumer {
    group: String,
    config: GroupConsumerConfig,
    admin: Admin,
    consumer: Consumer,
    told: watch::Receiver<Told>,
    orders: mpsc::Sender<Order>,
    membership: JoinHandle<()>,
    /// What was told last and is followed.
    round: u64,
    /// Owned: being read.
    reading: BTreeSet<TopicPartition>,
    /// The record that was handed out last: it counts as read when the next one is asked for.
    handed_out: Option<(TopicPartition, Offset)>,
    /// After the last record that counts as read. Only of partitions that are owned.
    read: Positions,
    committed: Positions,
    /// A commit under way.
    committing: Option<(Positions, oneshot::Receiver<Result<(), CommitError>>)>,
    commit_at: Option<Instant>,
}

impl GroupConsumer {
    pub(crate) fn start(
        client: &Client,
        group: String,
        topics: BTreeSet<String>,
        config: GroupConsumerConfig,
    ) -> Self {
        let (sender, told) = watch::channel(Told::Nothing);
        let (orders, inbox) = mpsc::channel(GROUP_ORDERS_MAX);
        let admin = client.admin();
        let membership = Membership::new(admin.clone(), &group, topics, &config, sender, inbox);
        Self {
            group,
            admin,
            consumer: client.consumer(config.consumer.clone()),
            told,
            orders,
            membership: tokio::spawn(membership.run()),
            round: 0,
            reading: BTreeSet::new(),
            handed_out: None,
            read: Positions::new(),
            committed: Positions::new(),
            committing: None,
            commit_at: next_commit(&config),
            config,
        }
    }

    /// The next record of any partition that this member has; the one before counts as read from now on. Waits for
    /// as long as there is none, and joins the group (again) as needed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What keeps it from reading a partition, or from being in the group.
    pub async fn next(&mut self) -> Result<ConsumedRecord, GroupConsumeError> {
        self.count_as_read();
        loop {
            self.follow().await?;
            self.commit_if_due();
            let due = async {
                match self.commit_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What the group told comes first: a record may not be this member's any more.
                biased;
                changed = self.told.changed() => {
                    changed.map_err(|_| GroupConsumeError::Stopped { group: self.group.clone() })?;
                }
                () = due => {}
                record = self.consumer.next() => {
                    let record = record?;
                    let partition = TopicPartition::new(record.topic.clone(), record.partition);
                    self.handed_out = Some((partition, record.offset.next()));
                    return Ok(record);
                }
            }
        }
    }

    /// Commits everything handed out so far.
    ///
    /// # Errors
    /// [`CommitError::NotAMember`] if it is not in the group any more: others may have its partitions.
    pub async fn commit(&mut self) -> Result<(), CommitError> {
        self.count_as_read();
        self.commit_now(|_| true).await
    }

    /// The partitions that this member has now; `None` before the group has told.
    #[must_use]
    pub fn assignment(&self) -> Option<&BTreeSet<TopicPartition>> {
        (self.round > 0).then_some(&self.reading)
    }

    /// The offset that comes next from a partition; `None` if this member does not have it.
    #[must_use]
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.consumer.position(topic, partition)
    }

    /// Commits, if that is not left to the caller, and leaves the group, so that the others get its partitions at
    /// once. Dropping a consumer leaves as well, and commits nothing.
    ///
    /// # Errors
    /// The last commit failed. The group is left nevertheless.
    pub async fn close(mut self) -> Result<(), CommitError> {
        self.count_as_read();
        let committed = match self.config.auto_commit {
            AutoCommit::Every(_) => self.commit_now(|_| true).await,
            AutoCommit::Never => Ok(()),
        };
        drop(self.orders);
        // It ends by itself; a runtime that shuts down ends it sooner.
        let _ = self.membership.await;
        committed
    }

    /// The same, but the record handed out last does not count as read: it comes again.
    ///
    /// # Errors
    /// As [`GroupConsumer::close`].
    pub async fn close_without_last(mut self) -> Result<(), CommitError> {
        self.handed_out = None;
        self.close().await
    }

    fn count_as_read(&mut self) {
        if let Some((partition, next)) = self.handed_out.take() {
            self.read.insert(partition, next);
        }
    }

    /// Does what the group told last. Begun again where a dropped future left off.
    async fn follow(&mut self) -> Result<(), GroupConsumeError> {
        let told = self.told.borrow_and_update().clone();
        match told {
            Told::Nothing => {}
            Told::Refused(refusal) => {
                return Err(GroupConsumeError::Refused { group: self.group.clone(), refusal });
            }
            Told::Lost { round } if round != self.round => {
                let lost = self.reading.clone();
                self.stop_reading(&lost);
                self.forget(&lost);
                self.own(round).await;
            }
            Told::Assigned { round, partitions } if round != self.round => {
                let revoked: BTreeSet<_> = self.reading.difference(&partitions).cloned().collect();
                self.give_up(&revoked).await;
                let added = partitions.difference(&self.reading).cloned().collect();
                self.begin(added).await?;
                self.own(round).await;
            }
            Told::Lost { round: _ } | Told::Assigned { .. } => {}
        }
        Ok(())
    }

    /// First reading ends, then the offset is committed, then the group may know. Another member reads on from there.
    async fn give_up(&mut self, revoked: &BTreeSet<TopicPartition>) {
        if revoked.is_empty() {
            return;
        }
        self.stop_reading(revoked);
        if let AutoCommit::Every(_) = self.config.auto_commit
            && let Err(error) = self.commit_now(|partition| revoked.contains(partition)).await
        {
            tracing::warn!(group = self.group, %error, "partitions were given up without a commit");
        }
        self.forget(revoked);
        self.own(self.round).await;
    }

    /// Goes on in partitions where the group stopped, or begins where it is configured to. A beginning is committed
    /// as if it had been read up to: "from the end on" means the end as it was when the group first came.
    async fn begin(&mut self, added: BTreeSet<TopicPartition>) -> Result<(), GroupConsumeError> {
        if added.is_empty() {
            return Ok(());
        }
        let added: Vec<TopicPartition> = added.into_iter().collect();
        let unknown = |error| GroupConsumeError::Offsets { group: self.group.clone(), error };
        let found = self.admin.committed_offsets(&self.group, &added).await.map_err(unknown)?;
        let (mut known, mut new) = (Positions::new(), Vec::new());
        for (partition, found) in added.into_iter().zip(found) {
            match found.offset {
                Some(offset) => drop(known.insert(partition, Offset(offset))),
                None => new.push(partition),
            }
        }
        let starts = self.admin.offsets(&new, self.config.start).await.map_err(unknown)?;
        for partition in &new {
            self.committed.remove(partition);
        }
        self.committed.extend(known.clone());
        let starts: Positions = new.into_iter().zip(starts).collect();
        self.read.extend(starts.clone());
        for (partition, offset) in known.into_iter().chain(starts) {
            self.consumer.assign(partition.topic.clone(), partition.partition, StartAt::Offset(offset));
            self.reading.insert(partition);
        }
        Ok(())
    }

    fn stop_reading(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            self.consumer.unassign(&partition.topic, partition.partition);
        }
    }

    fn forget(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            self.reading.remove(partition);
            self.read.remove(partition);
            self.committed.remove(partition);
        }
    }

    /// Says what is owned, in answer to this round.
    async fn own(&mut self, round: u64) {
        let order = Order::Own { round, partitions: self.reading.clone() };
        // If the task has ended, `next` says so.
        let _ = self.orders.send(order).await;
        self.round = round;
    }

    /// Begins a commit in the background, if it is time and there is anything new.
    fn commit_if_due(&mut self) {
        if self.commit_at.is_none_or(|at| at > clock::monotonic()) {
            return;
        }
        self.commit_at = next_commit(&self.config);
        if let Some((offsets, answer)) = &mut self.committing {
            match answer.try_recv() {
                // It takes its time; what has come since goes with the next one.
                Err(oneshot::error::TryRecvError::Empty) => return,
                Ok(Ok(())) => self.committed.extend(std::mem::take(offsets)),
                // Said by the task. The same offsets go with the next one.
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
        self.committing = None;
        let offsets = self.uncommitted(|_| true);
        if offsets.is_empty() {
            return;
        }
        let (done, answer) = oneshot::channel();
        if self.orders.try_send(Order::Commit { offsets: offsets.clone(), done }).is_ok() {
            self.committing = Some((offsets, answer));
        }
    }

    async fn commit_now(&mut self, of: impl Fn(&TopicPartition) -> bool) -> Result<(), CommitError> {
        // One under way is ahead of this one in the task's queue.
        self.committing = None;
        let offsets = self.uncommitted(of);
        if offsets.is_empty() {
            return Ok(());
        }
        let stopped = || CommitError::Stopped { group: self.group.clone() };
        let (done, answer) = oneshot::channel();
        let order = Order::Commit { offsets: offsets.clone(), done };
        self.orders.send(order).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())??;
        self.committed.extend(offsets);
        Ok(())
    }

    fn uncommitted(&self, of: impl Fn(&TopicPartition) -> bool) -> Positions {
        let new = self.read.iter().filter(|(partition, next)| self.committed.get(*partition) != Some(next));
        new.filter(|(partition, _)| of(partition))
            .map(|(partition, next)| (partition.clone(), *next))
            .collect()
    }
}

fn next_commit(config: &GroupConsumerConfig) -> Option<Instant> {
    match config.auto_commit {
        AutoCommit::Every(interval) => Some(clock::monotonic() + interval),
        AutoCommit::Never => None,
    }
}
