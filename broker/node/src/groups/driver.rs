//! One partition's coordinator: reads the log (`reading`), then decides requests and appends what they lead to (`appending`).

mod appending;
mod reading;

use crate::clock::Clock;
use crate::handle::Shards;
use crate::view::NodeView;
use appending::{Appended, Appending, acknowledged};
use raftline_proto::ids::{GroupId, Term};
use raftline_shard::consumer_groups::Groups;
use raftline_shard::consumer_groups::codec::KeyValue;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::record::GroupRecord;
use raftline_shard::consumer_groups::types::{Answer, GroupError, GroupRequest, Output, TopicImage};
use raftline_shard::image::MetadataImage;
use raftline_shard::types::RequestId;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// A request on its way to a coordinator.
pub(super) struct Asked {
    pub(super) request: GroupRequest,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// One partition's coordinator, for one term.
pub(super) struct Driver {
    group: GroupId,
    term: Term,
    shards: Shards,
    view: Arc<NodeView>,
    /// Wakes when the view changes.
    changes: watch::Receiver<u64>,
    /// The cluster's topics as the groups were last told of them.
    image: Option<Arc<MetadataImage>>,
    clock: Clock,
    groups: Groups,
    inbox: mpsc::Receiver<Asked>,
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    next_request: u64,
    /// Keys in an earlier version's layout that the log has records of.
    earlier: BTreeSet<Vec<u8>>,
    /// Batches that write anew what is in that layout: before anything else.
    moving: VecDeque<Vec<KeyValue>>,
    /// The append that is under way. One at a time: were one refused and a later one not, the log would have records that
    /// were planned on others which it has not.
    appending: Option<Appending>,
    /// What is appended next, in order.
    queued: VecDeque<Vec<GroupRecord>>,
    /// Whether the last append was refused: what is said once of it.
    is_refused: bool,
}

/// Why a coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
enum Halt {
    /// It leads no more, or the process stops.
    #[error("another term has begun")]
    Deposed,
    /// The outcome of an append is unknown, and only the log knows; or another term's leader appends.
    #[error("an append failed: {0}")]
    Append(String),
    /// The log cannot be read, or says something that this version does not know.
    #[error("the log cannot be read: {0}")]
    Log(String),
}

impl Driver {
    pub(super) fn new(
        (group, term): (GroupId, Term),
        shards: Shards,
        view: Arc<NodeView>,
        clock: Clock,
        config: GroupsConfig,
        inbox: mpsc::Receiver<Asked>,
    ) -> Self {
        Self {
            group,
            term,
            shards,
            changes: view.changes(),
            view,
            image: None,
            clock,
            groups: Groups::new(config),
            inbox,
            waiting: HashMap::new(),
            next_request: 0,
            earlier: BTreeSet::new(),
            moving: VecDeque::new(),
            appending: None,
            queued: VecDeque::new(),
            is_refused: false,
        }
    }

    /// Coordinates until told to go, or until it cannot go on. Whoever waits is told to look for the coordinator.
    pub(super) async fn run(mut self, vacate: CancellationToken) {
        let halted = tokio::select! {
            halted = self.coordinate() => halted,
            () = vacate.cancelled() => Halt::Deposed,
        };
        let (partition, term) = (self.view.place_of(self.group), self.term);
        match halted {
            Halt::Deposed => tracing::debug!(partition, %term, "no longer coordinating consumer groups"),
            Halt::Append(_) => tracing::info!(partition, %term, %halted, "the group coordinator begins anew"),
            Halt::Log(_) => tracing::error!(partition, %term, %halted, "the group coordinator cannot begin"),
        }
        let mut outputs = Vec::new();
        self.groups.follow(&mut outputs);
        self.answer(&mut outputs);
        // Dropping the inbox and all that still waits answers the rest.
    }

    async fn coordinate(&mut self) -> Halt {
        let begun = self.clock.monotonic();
        let entries = match self.load().await {
            Ok(records) => records,
            Err(halted) => return halted,
        };
        self.plan_move();
        let mut outputs = Vec::new();
        self.look_at_topics(&mut outputs);
        self.groups.lead(self.clock.now(), &mut outputs);
        self.perform(outputs);
        let took = Duration::from_micros(self.clock.monotonic().0.saturating_sub(begun.0));
        tracing::info!(partition = self.view.place_of(self.group), term = %self.term, records = entries, ?took, "coordinating consumer groups");
        loop {
            if let Err(halted) = self.step().await {
                return halted;
            }
        }
    }

    /// What has come while there is nothing to answer it with.
    fn put_off(&mut self) {
        while let Ok(asked) = self.inbox.try_recv() {
            // Whoever has gone meanwhile needs no answer.
            let _ = asked.answer.send(Err(GroupError::CoordinatorLoadInProgress));
        }
    }

    /// One thing that happens: a request, an acknowledgement, a deadline.
    async fn step(&mut self) -> Result<(), Halt> {
        let deadline = self.groups.next_deadline();
        let wait = deadline.map(|at| Duration::from_micros(at.0.saturating_sub(self.clock.monotonic().0)));
        let mut outputs = Vec::new();
        tokio::select! {
            asked = self.inbox.recv() => {
                let Some(Asked { request, answer }) = asked else { return Err(Halt::Deposed) };
                let id = RequestId(self.next_request);
                self.next_request += 1;
                self.waiting.insert(id, answer);
                self.groups.handle(self.clock.now(), id, request, &mut outputs);
            }
            appended = acknowledged(&mut self.appending) => match appended? {
                (appending, Appended::Done) => self.appended(&appending, &mut outputs),
                (_, Appended::Refused(why)) => self.refused(&why, &mut outputs),
            },
            changed = self.changes.changed() => {
                changed.map_err(|_| Halt::Deposed)?;
                self.look_at_topics(&mut outputs);
            }
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {
                self.groups.tick(self.clock.now(), &mut outputs);
            }
        }
        self.perform(outputs);
        Ok(())
    }

    /// Sends the answers among the outputs; the others stay.
    fn answer(&mut self, outputs: &mut Vec<Output>) {
        outputs.retain_mut(|output| {
            let Output::Respond { request, answer } = output else { return true };
            if let Some(sender) = self.waiting.remove(request) {
                let answer = std::mem::replace(answer, Err(GroupError::NotCoordinator));
                // The client may have gone.
                let _ = sender.send(answer);
            }
            false
        });
    }

    /// Tells the groups what topics there are, if that changed.
    fn look_at_topics(&mut self, outputs: &mut Vec<Output>) {
        let image = self.view.image();
        if self.image.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &image)) {
            return;
        }
        if let Some(seen) = &self.image
            && same_topics(seen, &image)
        {
            // Brokers came, or producer ids were given away: nothing that concerns groups.
            self.image = Some(image);
            return;
        }
        let topics = image.topics.values().map(|topic| {
            let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            (topic.name.clone(), TopicImage { partitions, id: topic.id.0 })
        });
        self.groups.topics_changed(self.clock.now(), &topics.collect(), outputs);
        self.image = Some(image);
    }
}

/// Whether two images have the same topics: a topic that did not change is shared by them.
fn same_topics(one: &MetadataImage, other: &MetadataImage) -> bool {
    one.topics.len() == other.topics.len()
        && one.topics.values().zip(other.topics.values()).all(|(one, other)| Arc::ptr_eq(one, other))
}
