//! The world of the executor's tests: a simulated disk, and a notebook in place of everything outside.

use super::*;
use crate::payload::{OutReply, SendOutcome};
use crate::payload::{PeerBody, PeerMessage};
use bytes::{Bytes, BytesMut};
use raftline_raft::types::Role;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{OpenedGroup, ShardAlarm};
use std::sync::Arc;

/// The group that most tests are about.
pub const GROUP: GroupId = GroupId(7);

/// The follower that entries go to.
pub const PEER: NodeId = NodeId(2);

/// What was asked of the world.
#[derive(Default)]
pub struct World {
    pub sent: Vec<PeerMessage>,
    pub replies: Vec<(RequestId, OutReply)>,
    pub rounds: Vec<SyncRound<SimDisk>>,
    pub allocations: Vec<(GroupId, Allocation<SimDisk>)>,
    pub failed: Vec<GroupId>,
    pub deleted: Vec<GroupId>,
    pub syncs_failed: usize,
    pub peers_are_busy: bool,
    pub opens_elsewhere: bool,
    pub opens: Vec<OpenJob<SimDisk>>,
    pub compactions: Vec<CompactionJob<SimDisk>>,
}

impl Outside<SimDisk> for World {
    fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome {
        assert_eq!(to, PEER);
        if self.peers_are_busy {
            return SendOutcome::Busy;
        }
        self.sent.push(message);
        SendOutcome::Sent
    }

    fn reply(&mut self, request: RequestId, reply: OutReply) {
        self.replies.push((request, reply));
    }

    fn start_sync(&mut self, round: SyncRound<SimDisk>) {
        self.rounds.push(round);
    }

    fn open_log(&mut self, job: OpenJob<SimDisk>) -> Option<OpenJob<SimDisk>> {
        if !self.opens_elsewhere {
            return Some(job);
        }
        self.opens.push(job);
        None
    }

    fn compact(&mut self, job: CompactionJob<SimDisk>) {
        self.compactions.push(job);
    }

    fn sync_failed(&mut self, _: &io::Error) {
        self.syncs_failed += 1;
    }

    fn allocate(&mut self, group: GroupId, allocation: Allocation<SimDisk>) {
        self.allocations.push((group, allocation));
    }

    fn publish_image(&mut self, _: Arc<MetadataImage>) {}

    fn leader_changed(&mut self, _: GroupId, _: Term, _: Option<NodeId>, _: Role) {}

    fn alarm(&mut self, group: GroupId, alarm: ShardAlarm) {
        panic!("group {group}: {alarm:?}");
    }

    fn group_failed(&mut self, group: GroupId, _: &str) {
        self.failed.push(group);
    }

    fn group_deleted(&mut self, group: GroupId) {
        self.deleted.push(group);
    }

    fn drained(&mut self) {}
}

/// A machine with one executor.
pub struct Machine {
    pub disk: SimDisk,
    pub executor: Executor<SimDisk>,
    pub world: World,
    pub effects: Vec<Effect<Payload>>,
    pub now: Now,
    /// The next entry of [`GROUP`].
    pub next: (Index, Offset),
}

impl Machine {
    pub fn new() -> Self {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self::on(disk)
    }

    fn on(disk: SimDisk) -> Self {
        Self::on_shard(disk, 0)
    }

    pub fn on_shard(disk: SimDisk, shard: u32) -> Self {
        disk.create_dir_all(Path::new("/data")).unwrap();
        let executor = Executor::new(disk.clone(), Path::new("/data"), shard).unwrap();
        Self {
            disk,
            executor,
            world: World::default(),
            effects: Vec::new(),
            now: Now::default(),
            next: (Index(1), Offset(0)),
        }
    }

    /// Another process on the disk as a power cut leaves it.
    pub fn after_power_cut(&self, seed: u64) -> Self {
        Self::on(self.disk.crash(seed))
    }

    /// Another process on the disk as a `kill -9` leaves it.
    pub fn after_kill(&self) -> Self {
        Self::on(self.disk.kill())
    }

    /// Opens a group through to the end, and gives what was found.
    pub fn open(&mut self, group: GroupId) -> (Vec<EntryInfo>, OpenedGroup) {
        self.effects.push(open_effect(group));
        let mut found = Vec::new();
        loop {
            for answer in self.turn() {
                match answer {
                    Event::Replay { entries, .. } => found.extend(entries),
                    Event::Opened { recovered, .. } => return (found, recovered),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// Orders the next entries, one a batch with so many records.
    pub fn append(&mut self, term: u64, batches: &[u32]) {
        let (index, offset) = self.next;
        self.append_from(index.0, offset, term, batches);
    }

    pub fn append_from(&mut self, index: u64, offset: Offset, term: u64, batches: &[u32]) {
        self.next = self.order(GROUP, (Index(index), offset), term, batches);
    }

    pub fn append_to(&mut self, group: GroupId, term: u64, batches: &[u32]) {
        self.order(group, (Index(1), Offset(0)), term, batches);
    }

    /// One more entry of another group, with one record a batch so far.
    pub fn append_to_at(&mut self, group: GroupId, index: u64, term: u64) {
        self.order(group, (Index(index), Offset(index - 1)), term, &[1]);
    }

    fn order(
        &mut self,
        group: GroupId,
        (mut index, mut offset): (Index, Offset),
        term: u64,
        batches: &[u32],
    ) -> (Index, Offset) {
        for records in batches {
            let batch = batch_of(*records);
            let body = EntryBody::Data(batch::validate(&batch).unwrap());
            let entry = EntryInfo::new(group, EntryId::new(Term(term), index), offset, body);
            (index, offset) = (index.next(), entry.header.next_offset());
            self.effects.push(Effect::Append { entry, payload: Some(Payload::Batch(batch)) });
        }
        (index, offset)
    }

    pub fn accept(&mut self, run: &[EntryInfo], skip: usize, bytes: &Bytes) {
        let skipped: u64 = run[..skip].iter().map(|entry| entry.header.entry_bytes()).sum();
        let entries: Vec<EntryHeader> = run[skip..].iter().map(|entry| entry.header).collect();
        let payload = Payload::Entries(bytes.clone());
        self.effects.push(Effect::Accept { group: GROUP, entries, skip_bytes: skipped, payload });
    }

    /// A repeated append of which nothing is new.
    pub fn accept_again(&mut self, run: &[EntryInfo], skip: usize, bytes: &Bytes) {
        self.accept(run, skip, bytes);
        self.turn();
    }

    /// A turn: performs what was ordered and gives the answers.
    pub fn turn(&mut self) -> Vec<Event<Payload>> {
        let mut answers = Vec::new();
        self.executor.perform(&mut self.effects, &mut self.world, &mut answers);
        self.executor.end_turn(self.now, &mut self.world, &mut answers);
        answers
    }

    /// Runs the round in flight and gives the answers.
    pub fn finish_sync(&mut self) -> Vec<Event<Payload>> {
        let mut answers = Vec::new();
        let round = self.world.rounds.pop().expect("a round is in flight");
        let result = round.run();
        self.executor.sync_done(round, &result, &mut self.world, &mut answers);
        answers
    }

    pub fn wait_for_deadline(&mut self) {
        let deadline = self.executor.deadline().expect("there is a deadline");
        self.now.monotonic = self.now.monotonic.max(deadline);
    }

    /// Sends entries, without ending the turn: outcome, the end of what was sent, and its bytes.
    pub fn replicate(
        &mut self,
        from: u64,
        up_to: u64,
        bytes_max: u64,
        term: u64,
    ) -> (ReplicateOutcome, u64, Bytes) {
        let message = Message::Append {
            term: Term(term),
            previous: EntryId::ZERO,
            commit: Index::ZERO,
            ack: AckWanted::Durable,
            round: Round(0),
        };
        self.effects.push(Effect::Replicate {
            group: GROUP,
            to: PEER,
            from: Index(from),
            up_to: Index(up_to),
            bytes_max,
            message,
        });
        let mut answers = Vec::new();
        self.executor.perform(&mut self.effects, &mut self.world, &mut answers);
        let outcome = answers.iter().find_map(|answer| match answer {
            Event::Replicated { outcome, up_to, .. } => Some((*outcome, *up_to)),
            _ => None,
        });
        let (outcome, up_to) = outcome.unwrap_or_else(|| panic!("{answers:?}"));
        let mut all = BytesMut::new();
        if let Some(PeerMessage { body: PeerBody::Raft { entries, .. }, .. }) = self.world.sent.pop() {
            entries.iter().for_each(|part| all.extend_from_slice(part));
        }
        (outcome, up_to.0, all.freeze())
    }

    /// Fetches: the batches, or that there was too little.
    pub fn read(&mut self, from: u64, up_to: u64, bytes_min: u64, bytes_max: u64) -> (Vec<Bytes>, bool) {
        self.effects.push(read_effect(from, up_to, bytes_min, bytes_max));
        let mut answers = Vec::new();
        self.executor.perform(&mut self.effects, &mut self.world, &mut answers);
        let short = matches!(answers[..], [Event::ReadShort { .. }]);
        match self.world.replies.pop() {
            Some((_, OutReply::Fetched(fetched))) => {
                assert_eq!(fetched.high_watermark, Offset(up_to));
                (fetched.batches, short)
            }
            None => (Vec::new(), short),
            Some(other) => panic!("{other:?}"),
        }
    }
}

pub fn open_effect(group: GroupId) -> Effect<Payload> {
    Effect::Open { group, config: LogConfig { segment_bytes: 64 << 20, segment_ms: i64::MAX } }
}

pub fn read_effect(from: u64, up_to: u64, bytes_min: u64, bytes_max: u64) -> Effect<Payload> {
    Effect::Read {
        request: RequestId(1),
        group: GROUP,
        from: Offset(from),
        up_to: Offset(up_to),
        bytes_min,
        bytes_max,
        force: false,
        deadline: Monotonic::ZERO,
        start_offset: Offset::ZERO,
    }
}

/// A batch of so many records.
pub fn batch_of(records: u32) -> Bytes {
    let mut builder = Builder::new(Codec::None);
    for number in 0..records {
        let value = vec![b'v'; 100];
        builder.push(Timestamp(i64::from(number)), None, Some(&value), &[]).unwrap();
    }
    builder.build()
}
