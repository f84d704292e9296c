//! One node: its shards, and a dumb but complete executor for their effects.

use crate::log::{Disk, GroupFiles, Payload, Stored, Text};
use crate::world::{PeerMessage, SHARDS};
use raftline_proto::ids::{BootId, EntryId, GroupId, HardState, Index, NodeId, Offset};
use raftline_proto::time::{Monotonic, Now, Timestamp};
use raftline_raft::types::{AppendResult, Message, ReplicateOutcome, Role};
use raftline_shard::pulse::{Beat, Pulse};
use raftline_shard::types::{
    CompactionRule, Effect, Event, FindBy, LogConfig, OpenedGroup, Reply, RequestId, ShardAlarm,
};
use raftline_shard::{Shard, ShardConfig};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a client is told: by the shard, or by the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Shard(Box<Reply>),
    Records { texts: Vec<(Offset, Text)>, high_watermark: Offset },
    Offset(Option<Offset>),
}

/// What leaves a node in a turn.
#[derive(Debug, Default)]
pub struct Outgoing {
    pub messages: Vec<(NodeId, PeerMessage)>,
    pub answers: Vec<(RequestId, Answer)>,
    pub alarms: Vec<(GroupId, ShardAlarm)>,
    pub drained: usize,
}

/// A running process.
pub struct Process {
    pub pulse: Pulse,
    pub shards: Vec<Shard>,
    pub inboxes: Vec<VecDeque<Event<Payload>>>,
    pub boot: BootId,
    pub leaders: BTreeMap<GroupId, (Role, Option<NodeId>)>,
    /// How each group's log was ordered to be stored.
    pub log_configs: BTreeMap<GroupId, LogConfig>,
    dirty: BTreeSet<GroupId>,
    saves: Vec<(GroupId, HardState)>,
    /// The sync under way.
    round: Option<Round>,
}

struct Round {
    began_at: Monotonic,
    done_at: Monotonic,
    files: BTreeMap<GroupId, GroupFiles>,
    saves: Vec<(GroupId, HardState)>,
}

pub struct Node {
    pub id: NodeId,
    pub disk: Disk,
    pub process: Option<Process>,
    /// How far its wall clock is ahead, in milliseconds.
    pub skew_ms: i64,
    /// Shards whose threads hang, and since when.
    pub hung: BTreeMap<usize, Monotonic>,
    /// Appends are refused: no space is left.
    pub full: bool,
    /// How long a sync takes, in microseconds.
    pub sync_us: u64,
    /// No segment is ever removed.
    pub keeps_files: bool,
    /// Compactions fail.
    pub cannot_compact: bool,
    /// The compactions that were ordered.
    pub compactions: Vec<(GroupId, CompactionRule)>,
    /// Effects of all kinds carried out, for economy tests.
    pub effects_done: usize,
}

fn shard_of(group: GroupId) -> usize {
    usize::try_from(group.get() % u64::from(SHARDS)).expect("few shards")
}

impl Node {
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            disk: Disk::default(),
            process: None,
            skew_ms: 0,
            hung: BTreeMap::new(),
            full: false,
            sync_us: 0,
            keeps_files: false,
            cannot_compact: false,
            compactions: Vec::new(),
            effects_done: 0,
        }
    }

    pub fn start(&mut self, config: impl Fn(u32) -> ShardConfig, now: Now) {
        assert!(self.process.is_none(), "runs already");
        let shards: Vec<Shard> = (0..SHARDS).map(|shard| Shard::new(config(shard))).collect();
        let first = config(0);
        let pulse = Pulse::new(first.node, SHARDS, first.timings, first.peers, now.monotonic);
        self.process = Some(Process {
            pulse,
            boot: config(0).boot,
            inboxes: shards.iter().map(|_| VecDeque::new()).collect(),
            shards,
            leaders: BTreeMap::new(),
            log_configs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            saves: Vec::new(),
            round: None,
        });
        for shard in 0..SHARDS as usize {
            let mut effects = Vec::new();
            let found: Vec<GroupId> =
                self.disk.live.keys().copied().filter(|group| shard_of(*group) == shard).collect();
            if let Some(process) = &mut self.process {
                process.shards[shard].found(found);
                process.shards[shard].start(&mut effects);
            }
            self.perform(effects, now, &mut Outgoing::default());
        }
    }

    /// Puts an event where it belongs.
    pub fn submit(&mut self, event: Event<Payload>) {
        let Some(process) = &mut self.process else { return };
        let shard = match &event {
            Event::Produce { group, .. }
            | Event::Fetch { group, .. }
            | Event::ListOffset { group, .. }
            | Event::Describe { group, .. }
            | Event::Peer { group, .. }
            | Event::Opened { group, .. }
            | Event::Replay { group, .. }
            | Event::Failed { group, .. }
            | Event::LogDurable { group, .. }
            | Event::HardStateDurable { group, .. }
            | Event::Replicated { group, .. }
            | Event::AppendFailed { group, .. }
            | Event::ReadShort { group, .. }
            | Event::Hurry { group, .. }
            | Event::Trimmed { group, .. }
            | Event::Appraised { group, .. }
            | Event::TrimHeld { group, .. }
            | Event::DeleteRecords { group, .. }
            | Event::Surveyed { group, .. }
            | Event::Compacted { group, .. }
            | Event::CompactionFailed { group, .. }
            | Event::Transfer { group: Some(group), .. } => shard_of(*group),
            Event::Image(_) | Event::Drain | Event::DiskSpace(_) | Event::Liveness { .. } => {
                for inbox in &mut process.inboxes {
                    inbox.push_back(event.clone());
                }
                return;
            }
            _ => 0,
        };
        process.inboxes[shard].push_back(event);
    }

    /// The world's clocks as they are here.
    pub fn clocks(&self, now: Now) -> Now {
        Now { wall: Timestamp(now.wall.get() + self.skew_ms), ..now }
    }

    /// What the pulse is told of.
    pub fn hear(&mut self, listen: impl FnOnce(&mut Pulse, &mut Vec<Beat>)) {
        let Some(process) = &mut self.process else { return };
        let mut beats = Vec::new();
        listen(&mut process.pulse, &mut beats);
        self.carry_out(beats, &mut Outgoing::default());
    }

    /// The pulse beats, if it is time: beside the shards.
    fn beat(&mut self, now: Now, out: &mut Outgoing) {
        let Some(process) = &mut self.process else { return };
        if process.pulse.deadline() > now.monotonic {
            return;
        }
        let syncs = process.round.as_ref().map(|round| round.began_at);
        let busy = (0..SHARDS as usize).map(|shard| self.hung.get(&shard).copied().or(syncs));
        let busy: Vec<Option<Monotonic>> = busy.collect();
        let mut beats = Vec::new();
        process.pulse.tick(now, &busy, self.full, &mut beats);
        self.carry_out(beats, out);
    }

    fn carry_out(&mut self, beats: Vec<Beat>, out: &mut Outgoing) {
        for beat in beats {
            match beat {
                Beat::Send { to, sign } => {
                    let Some(process) = &self.process else { return };
                    out.messages.push((to, PeerMessage::Alive { boot: process.boot, sign }));
                }
                Beat::Tell { peer, change } => self.submit(Event::Liveness { peer, change }),
            }
        }
    }

    /// When this node wants to run next.
    pub fn deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let process = self.process.as_ref()?;
        let goes_on = |shard: &usize| !self.hung.contains_key(shard);
        if (0..SHARDS as usize).filter(goes_on).any(|shard| !process.inboxes[shard].is_empty()) {
            return Some(now);
        }
        let shards = (0..SHARDS as usize).filter(goes_on);
        let shards = shards.filter_map(|shard| process.shards[shard].deadline());
        let round = process.round.as_ref().map(|round| round.done_at);
        shards.chain(round).chain([process.pulse.deadline()]).min().map(|at| at.max(now))
    }

    /// One turn of every shard that has something to do.
    pub fn turn(&mut self, now: Now, out: &mut Outgoing) {
        let now = self.clocks(now);
        self.finish_round(now);
        self.beat(now, out);
        for shard in 0..SHARDS as usize {
            if self.hung.contains_key(&shard) {
                continue;
            }
            let Some(process) = &mut self.process else { return };
            let due = process.shards[shard].deadline().is_some_and(|at| at <= now.monotonic);
            if process.inboxes[shard].is_empty() && !due {
                continue;
            }
            let mut effects = Vec::new();
            for event in std::mem::take(&mut process.inboxes[shard]) {
                process.shards[shard].handle(now, event, &mut effects);
            }
            if process.shards[shard].deadline().is_some_and(|at| at <= now.monotonic) {
                process.shards[shard].handle(now, Event::Tick, &mut effects);
            }
            process.shards[shard].end_turn(now, &mut effects);
            self.perform(effects, now, out);
        }
        self.begin_round(now);
        if self.sync_us == 0 {
            self.finish_round(now);
        }
    }

    fn begin_round(&mut self, now: Now) {
        let Some(process) = &mut self.process else { return };
        if process.round.is_some() || (process.dirty.is_empty() && process.saves.is_empty()) {
            return;
        }
        let groups: BTreeSet<GroupId> = std::mem::take(&mut process.dirty);
        let files =
            groups.iter().filter_map(|group| Some((*group, self.disk.live.get(group)?.clone()))).collect();
        let done_at = Monotonic(now.monotonic.0 + self.sync_us);
        process.round = Some(Round {
            began_at: now.monotonic,
            done_at,
            files,
            saves: std::mem::take(&mut process.saves),
        });
    }

    fn finish_round(&mut self, now: Now) {
        let Some(process) = &mut self.process else { return };
        let Some(round) = process.round.take_if(|round| round.done_at <= now.monotonic) else { return };
        let mut events = Vec::new();
        for (group, files) in round.files {
            let Some(live) = self.disk.live.get(&group) else { continue };
            events.push(Event::LogDurable { group, last: live.log.common_end(&files.log) });
            self.disk.durable.insert(group, files);
        }
        for (group, hard_state) in round.saves {
            events.push(Event::HardStateDurable { group, hard_state });
        }
        for event in events {
            self.submit(event);
        }
    }

    fn perform(&mut self, effects: Vec<Effect<Payload>>, now: Now, out: &mut Outgoing) {
        let mut failed: BTreeSet<GroupId> = BTreeSet::new();
        for effect in effects {
            self.effects_done += 1;
            self.perform_one(effect, now, out, &mut failed);
        }
        for group in failed {
            let log = &self.disk.live[&group].log;
            let (last, next_offset) = (log.last(), log.next_offset());
            self.submit(Event::AppendFailed { group, last, next_offset });
        }
    }

    fn perform_one(
        &mut self,
        effect: Effect<Payload>,
        now: Now,
        out: &mut Outgoing,
        failed: &mut BTreeSet<GroupId>,
    ) {
        let Some(process) = &mut self.process else { return };
        match effect {
            Effect::Open { group, config } => {
                process.log_configs.insert(group, config);
                self.open(group);
            }
            Effect::Configure { group, config } => {
                process.log_configs.insert(group, config);
            }
            Effect::Delete { group } => {
                self.disk.live.remove(&group);
                self.disk.durable.remove(&group);
                process.leaders.remove(&group);
            }
            Effect::SaveHardState { group, hard_state } => {
                self.disk.live.entry(group).or_default().hard_state = hard_state;
                process.dirty.insert(group);
                process.saves.push((group, hard_state));
            }
            Effect::NoteCommit { group, commit } => {
                self.disk.live.entry(group).or_default().commit_hint = commit;
            }
            Effect::Append { entry, payload } => {
                let group = entry.header.group;
                let text = payload.map(|payload| match payload {
                    Payload::Batch(text) => text,
                    Payload::Entries(_) => panic!("a leader appends batches"),
                });
                self.append(group, [Stored { info: entry, text }], failed);
            }
            Effect::Accept { group, entries, skip_bytes, payload } => {
                let Payload::Entries(stored) = payload else { panic!("followers accept entries") };
                let mut skipped = 0;
                let mut rest = stored.into_iter().peekable();
                while skipped < skip_bytes {
                    skipped += rest.next().expect("enough to skip").info.header.entry_bytes();
                }
                assert_eq!(skipped, skip_bytes, "whole entries are skipped");
                let rest: Vec<Stored> = rest.collect();
                let headers: Vec<_> = rest.iter().map(|stored| stored.info.header).collect();
                assert_eq!(headers, entries, "the headers name what is appended");
                self.append(group, rest, failed);
            }
            Effect::Truncate { group, from } => {
                self.disk.live.entry(group).or_default().log.truncate(from);
                process.dirty.insert(group);
            }
            Effect::Reset { group, start } => {
                self.disk.live.entry(group).or_default().log.entries.clear();
                self.disk.live.entry(group).or_default().log.start = start;
                process.dirty.insert(group);
            }
            Effect::Replicate { group, to, from, up_to, bytes_max, message } => {
                self.replicate(group, to, (from.get(), up_to.get()), bytes_max, message, out);
            }
            // It would vouch for what the disk refused.
            Effect::Send {
                group,
                message: Message::AppendReply { result: AppendResult::Matched { .. }, .. },
                ..
            } if failed.contains(&group) => {}
            Effect::Send { group, to, message } => {
                let message = PeerMessage::Raft { group, message, entries: Vec::new() };
                out.messages.push((to, message));
            }
            Effect::PublishImage(image) => {
                for inbox in process.inboxes.iter_mut().skip(1) {
                    inbox.push_back(Event::Image(image.clone()));
                }
            }
            Effect::Reply { request, reply } => out.answers.push((request, Answer::Shard(Box::new(reply)))),
            Effect::Read { request, group, from, up_to, bytes_min, bytes_max, force, deadline, .. } => {
                assert!(from < up_to, "a read has something to read");
                let log = &self.disk.live[&group].log;
                let (mut texts, mut bytes) = (Vec::new(), 0);
                for stored in &log.entries {
                    let header = &stored.info.header;
                    let inside = header.next_offset() > from && header.next_offset() <= up_to;
                    let fits = texts.is_empty() || bytes + u64::from(header.payload_bytes) <= bytes_max;
                    if let (Some(text), true, true) = (&stored.text, inside, fits) {
                        texts.push((header.base_offset, text.clone()));
                        bytes += u64::from(header.payload_bytes);
                    }
                }
                if bytes < bytes_min && !force {
                    let event = Event::ReadShort {
                        request,
                        group,
                        from,
                        up_to,
                        bytes_min,
                        bytes_max,
                        deadline,
                        bytes,
                    };
                    self.submit(event);
                } else {
                    out.answers.push((request, Answer::Records { texts, high_watermark: up_to }));
                }
            }
            Effect::FindOffset { request, group, by, from, up_to } => {
                let time = |stored: &Stored| match &stored.info.body {
                    raftline_proto::entry::EntryBody::Data(batch) => Some(batch.max_timestamp),
                    _ => None,
                };
                let entries = &self.disk.live[&group].log.entries;
                let timestamp = match by {
                    FindBy::AtOrAfter(timestamp) => Some(timestamp),
                    FindBy::EndOfTerm(term) => {
                        let within = |stored: &&Stored| stored.info.header.id.term <= term;
                        let end = entries.iter().rfind(within).map(|last| last.info.header.next_offset());
                        out.answers.push((request, Answer::Offset(end.map(|end| end.min(up_to)))));
                        return;
                    }
                    FindBy::MaxTimestamp => entries.iter().filter_map(time).max(),
                };
                let find = |stored: &&Stored| {
                    stored.info.header.base_offset >= from
                        && time(stored).is_some_and(|time| Some(time) >= timestamp)
                };
                let offset = entries.iter().find(find).map(|stored| stored.info.header.base_offset);
                out.answers.push((request, Answer::Offset(offset.filter(|offset| *offset < up_to))));
            }
            Effect::Appraise { group, older_than, bytes_max, up_to } => {
                let outlived =
                    self.disk.live.entry(group).or_default().log.outlived(older_than, bytes_max, up_to);
                self.submit(Event::Appraised { group, outlived });
            }
            Effect::Trim { group, below, up_to, kept_from, .. } => {
                self.trim(group, below, kept_from.map_or(up_to, |kept_from| kept_from.min(up_to)));
                self.tell_if_held(group, below, up_to);
            }
            Effect::Survey { group } => {
                let facts = self.disk.live[&group].log.compaction_facts();
                self.submit(Event::Surveyed { group, facts });
            }
            Effect::Compact { group, rule } => self.compact(group, rule),
            Effect::LeaderChanged { group, leader, role, .. } => {
                process.leaders.insert(group, (role, leader));
            }
            // For clients and operators.
            Effect::Closed { .. } | Effect::InSync { .. } => {}
            Effect::Alarm { group, alarm } => out.alarms.push((group, alarm)),
            Effect::Drained => out.drained += 1,
        }
        let _ = now;
    }

    fn open(&mut self, group: GroupId) {
        let files = self.disk.live.entry(group).or_default().clone();
        for entries in files.log.entries.chunks(3) {
            let entries = entries.iter().map(|stored| stored.info.clone()).collect();
            self.submit(Event::Replay { group, commit_hint: files.commit_hint, entries });
        }
        let recovered = OpenedGroup {
            hard_state: files.hard_state,
            commit_hint: files.commit_hint,
            start: files.log.start,
            last: files.log.last(),
            term_starts: files.log.term_starts(),
        };
        self.submit(Event::Opened { group, recovered });
    }

    fn append(
        &mut self,
        group: GroupId,
        entries: impl IntoIterator<Item = Stored>,
        failed: &mut BTreeSet<GroupId>,
    ) {
        if self.full || failed.contains(&group) {
            failed.insert(group);
            return;
        }
        let files = self.disk.live.entry(group).or_default();
        for stored in entries {
            assert_eq!(stored.info.header.group, group, "an entry says whose it is");
            files.log.push(stored);
        }
        if let Some(process) = &mut self.process {
            process.dirty.insert(group);
        }
    }

    fn replicate(
        &mut self,
        group: GroupId,
        to: NodeId,
        (from, up_to): (u64, u64),
        bytes_max: u64,
        message: Message,
        out: &mut Outgoing,
    ) {
        let Message::Append { term, .. } = message else { panic!("appends replicate") };
        let log = &self.disk.live[&group].log;
        let mut event_up_to = from;
        let mut bytes = 0;
        let mut entries = Vec::new();
        let mut outcome = ReplicateOutcome::Sent;
        if from <= log.start.previous.index.get() && from < up_to {
            outcome = ReplicateOutcome::Trimmed;
        } else {
            for stored in log.entries_from(raftline_proto::ids::Index(from)) {
                let header = &stored.info.header;
                let fits = entries.is_empty() || bytes + header.entry_bytes() <= bytes_max;
                if header.id.index.get() >= up_to || !fits {
                    break;
                }
                bytes += header.entry_bytes();
                event_up_to = header.id.index.get() + 1;
                entries.push(stored.clone());
            }
            out.messages.push((to, PeerMessage::Raft { group, message, entries }));
        }
        let (from, up_to) = (raftline_proto::ids::Index(from), raftline_proto::ids::Index(event_up_to));
        self.submit(Event::Replicated { group, to, term, from, up_to, bytes, outcome });
    }

    fn trim(&mut self, group: GroupId, below: Offset, up_to: Index) {
        if self.keeps_files {
            return;
        }
        let log = &mut self.disk.live.entry(group).or_default().log;
        if let Some(start) = log.trim(below, up_to) {
            self.submit(Event::Trimmed { group, start });
        }
    }

    /// Says so if more records would go were `up_to` the only limit.
    fn tell_if_held(&mut self, group: GroupId, below: Offset, up_to: Index) {
        if self.keeps_files {
            return;
        }
        let mut log = self.disk.live.entry(group).or_default().log.clone();
        let before = log.start.offset;
        if let Some(start) = log.trim(below, up_to)
            && start.offset > before
        {
            self.submit(Event::TrimHeld { group, up_to: start.previous.index.next() });
        }
    }

    fn compact(&mut self, group: GroupId, rule: CompactionRule) {
        self.compactions.push((group, rule));
        if self.cannot_compact {
            self.submit(Event::CompactionFailed { group });
            return;
        }
        let durable = self.disk.durable[&group].log.last().index;
        assert!(rule.through <= durable, "only what is durable is compacted");
        self.disk.live.entry(group).or_default().log.compact(rule);
        self.disk.durable.entry(group).or_default().log.compact(rule);
        self.submit(Event::Compacted { group, rule });
    }

    pub fn last(&self, group: GroupId) -> EntryId {
        self.disk.live.get(&group).map(|files| files.log.last()).unwrap_or_default()
    }
}
