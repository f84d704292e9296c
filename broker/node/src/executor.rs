//! The executor: performs a shard's effects on disk and hands the rest to the world.
//!
//! It runs on the shard's thread, takes effects in order and decides nothing. There is no thread, no socket and no
//! clock in here: those are behind [`Outside`], so the simulator drives this very code. A turn goes like this:
//!
//! 1. [`Executor::perform`] takes the turn's effects. Appends are staged, and written (one write a group) before
//!    anything reads, replaces or vouches for what they wrote: a group's `Replicate`, `Read`, `Truncate`, `Send`.
//! 2. [`Executor::end_turn`] writes what is staged still, opens a little more of the groups that are being opened,
//!    and starts one sync round if none is in flight. Rounds follow each other without a timer: while one runs, the
//!    turns gather for the next.
//! 3. Both give answers: events that belong *before* all others into the next turn.
//!
//! Nothing is told "durable" before its round came back through [`Executor::sync_done`]. The durable floors are noted
//! after that and flushed lazily: they may lag behind, never lead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftline_proto::command::TrimReason;
use raftline_proto::ids::{GroupId, Index};
use raftline_proto::time::{Monotonic, Now};
use raftline_raft::types::LogStart;
use raftline_shard::types::{Effect, Event, LogConfig};
use raftline_storage::{
    Allocation, Disk, Lazy, Log, LogOptions, StateError, StateFile, StateTicket, StateWriteError,
};

use crate::limits;
use crate::payload::{OutReply, Payload};

mod appending;
mod compacting;
mod opening;
mod outside;
mod removing;
mod resting;
mod round;
mod serving;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use compacting::Compactions;
pub use compacting::{CompactionDone, CompactionJob};
pub use opening::{OpenJob, OpenedLog};
pub use outside::Outside;
pub use removing::{Removal, Removed};
use resting::Resting;
pub use round::SyncRound;
use serving::{Read, Replicate};

/// Performs one shard's effects. See the module's description.
pub struct Executor<D: Disk> {
    disk: D,
    groups_dir: PathBuf,
    state: StateFile<D>,
    groups: BTreeMap<GroupId, Group<D>>,
    /// Groups whose logs are being opened elsewhere, with their latest settings.
    being_opened: BTreeMap<GroupId, LogConfig>,
    /// Groups whose logs are open, with the next entry to replay.
    opening: VecDeque<(GroupId, Index)>,
    /// Groups with entries staged and not yet written, once each.
    staged: Vec<GroupId>,
    /// Groups that refused an append this turn, once each.
    refused: Vec<GroupId>,
    /// Groups with something written that no round covers yet.
    dirty: BTreeSet<GroupId>,
    /// Deleted groups whose directories are still where they were.
    doomed: Vec<GroupId>,
    /// Groups whose logs could not be opened for want of a descriptor, and when to try again.
    short: Vec<GroupId>,
    short_until: Option<Monotonic>,
    /// Groups whose logs were cut and wait for room to go on.
    owing: BTreeSet<GroupId>,
    /// Directories of deleted groups, renamed, to be removed.
    trash: Vec<PathBuf>,
    /// Files of segments that are no part of their logs any more.
    old_files: Vec<PathBuf>,
    /// Whether something is being removed elsewhere.
    removing: bool,
    resting: Resting,
    compactions: Compactions,
    sync: SyncState,
    lazy: LazyState,
    names: Names,
    bytes_appended: u64,
}

/// An open group.
struct Group<D: Disk> {
    log: Log<D>,
    /// Invariant: in `Executor::staged` exactly if this is set.
    staged: bool,
    /// The disk refused an append this turn: later ones of the same turn would leave a gap, so they are dropped.
    refused: bool,
    /// The disk refused the last write.
    full: bool,
    /// Why records went last.
    trim_reason: TrimReason,
    /// An allocation is under way.
    allocating: bool,
    /// Read or written since resting groups were looked for last.
    awake: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyncState {
    Idle,
    InFlight,
    /// A sync failed: nothing is performed any more.
    Failed,
}

/// Whether durable floors or commit hints have changed since they were flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LazyState {
    Clean,
    /// They have, in this turn.
    Changed,
    ChangedSince(Monotonic),
}

/// What people call a group: topic and partition.
pub type Names = Arc<dyn Fn(GroupId) -> String + Send + Sync>;

impl<D: Disk> Executor<D> {
    /// An executor for one shard of the broker at `data_dir`, which exists.
    ///
    /// # Errors
    /// If the shard's state file cannot be read, or a sync fails: then nothing here may vote or lead.
    pub fn new(disk: D, data_dir: &Path, shard: u32) -> Result<Self, StateError> {
        let state = StateFile::open(disk.clone(), &data_dir.join(format!("shard-{shard}")), shard)?;
        let mut executor = Self {
            disk,
            groups_dir: data_dir.join("groups"),
            state,
            groups: BTreeMap::new(),
            being_opened: BTreeMap::new(),
            opening: VecDeque::new(),
            staged: Vec::new(),
            refused: Vec::new(),
            dirty: BTreeSet::new(),
            doomed: Vec::new(),
            short: Vec::new(),
            short_until: None,
            owing: BTreeSet::new(),
            trash: Vec::new(),
            old_files: Vec::new(),
            removing: false,
            resting: Resting::default(),
            compactions: Compactions::default(),
            sync: SyncState::Idle,
            lazy: LazyState::Clean,
            bytes_appended: 0,
            names: Arc::new(|group| format!("group {group}")),
        };
        if shard == 0 {
            let file = executor.groups_dir.clone();
            executor.find_trash().map_err(|source| StateError::Io { file, source })?;
        }
        Ok(executor)
    }

    /// What people call a group, for the log.
    #[must_use]
    pub fn named_by(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Performs `effects` in order. Answers that are there at once are appended to `answers`.
    pub fn perform(
        &mut self,
        effects: &mut Vec<Effect<Payload>>,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        for effect in effects.drain(..) {
            if self.sync != SyncState::Failed {
                self.perform_one(effect, outside, answers);
            }
        }
    }

    /// Ends the turn: writes what is staged, goes on with groups that are being opened, removes what was deleted and
    /// starts a sync round if none is in flight.
    pub fn end_turn(&mut self, now: Now, outside: &mut impl Outside<D>, answers: &mut Vec<Event<Payload>>) {
        if self.sync == SyncState::Failed {
            return;
        }
        self.write_all();
        self.tell_refused(answers);
        self.try_again(now.monotonic, outside, answers);
        self.replay_some(outside, answers);
        self.begin_compaction(outside, answers);
        if self.sync == SyncState::Idle {
            self.put_away(outside, answers);
        }
        if self.lazy == LazyState::Changed {
            self.lazy = LazyState::ChangedSince(now.monotonic);
        }
        if self.sync == SyncState::Idle
            && let Some(round) = self.begin_round(now.monotonic, self.lazy_due(now.monotonic), outside)
        {
            self.sync = SyncState::InFlight;
            outside.start_sync(round);
        }
        self.rest_some(now.monotonic);
    }

    /// A round came back.
    pub fn sync_done(
        &mut self,
        round: SyncRound<D>,
        result: &io::Result<()>,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        if self.sync == SyncState::Failed {
            // Another sync failed meanwhile: nothing that this one says counts.
            return;
        }
        assert!(self.sync == SyncState::InFlight, "a round came back that was not in flight");
        if let Err(error) = result {
            self.sync = SyncState::Failed;
            outside.sync_failed(error);
            return;
        }
        self.sync = SyncState::Idle;
        for (group, ticket) in round.logs {
            // It may have been deleted, or have failed, meanwhile.
            if let Some(open) = self.groups.get_mut(&group) {
                let last = open.log.durable_through(ticket.through());
                self.state.note_floor(group, open.log.durable_position());
                if let Some(let_go) = open.log.take_let_go() {
                    let offsets = (let_go.before.1, let_go.start.1);
                    outside.let_go(group, offsets, let_go.bytes, open.trim_reason);
                    let start = LogStart { previous: let_go.start.0, offset: let_go.start.1 };
                    answers.push(Event::Trimmed { group, start });
                }
                self.note_lazy();
                answers.push(Event::LogDurable { group, last });
                self.gather(group);
            }
        }
        if let Some(ticket) = round.state {
            for &(group, hard_state) in ticket.hard_states() {
                if self.groups.contains_key(&group) {
                    answers.push(Event::HardStateDurable { group, hard_state });
                }
            }
            self.state.done(ticket);
            if self.state.is_due(Lazy::Flush) {
                // No record says yet that these hard states are synced: if nothing else is flushed, one has to be
                // written for that alone, or damage to the last of them would look like a torn tail.
                self.note_lazy();
            }
        }
        self.write_floors();
    }

    /// An allocation came back.
    pub fn allocated(
        &mut self,
        group: GroupId,
        allocation: Allocation<D>,
        result: io::Result<()>,
        outside: &mut impl Outside<D>,
    ) {
        // It covered entries, too, and the kernel tells an error once.
        if let Err(error) = &result
            && allocation.sync_failed()
        {
            self.sync = SyncState::Failed;
            outside.sync_failed(error);
            return;
        }
        if let Some(open) = self.groups.get_mut(&group) {
            open.allocating = false;
            open.log.allocated(allocation, result);
        }
    }

    /// The generation of the shard's state file: what a directory promises to hold.
    #[must_use]
    pub fn state_generation(&self) -> u64 {
        self.state.generation()
    }

    /// When [`Executor::end_turn`] has something to do although nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        let flush = match (self.sync, self.lazy) {
            (SyncState::Failed, _) => return None,
            (SyncState::Idle, LazyState::ChangedSince(since)) => Some(since + limits::LAZY_FLUSH_INTERVAL),
            // A round that comes back makes a turn of its own.
            (SyncState::Idle | SyncState::InFlight, _) => None,
        };
        flush.into_iter().chain(self.resting.deadline()).chain(self.short_until).min()
    }

    /// A group's log, to look at: what a checker or an offline comparison reads. `None` if the group is not open.
    #[must_use]
    pub fn log(&self, group: GroupId) -> Option<&Log<D>> {
        self.groups.get(&group).map(|open| &open.log)
    }

    /// How many bytes of entries were appended since this was last asked.
    pub fn take_bytes_appended(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_appended)
    }

    /// Whether a sync round is in flight.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.sync == SyncState::InFlight
    }

    /// Writes and syncs all there is, floors included, on this thread: the last act of a graceful stop, once no
    /// round is in flight.
    ///
    /// # Errors
    /// Whatever the disk said.
    pub fn shutdown(&mut self, outside: &mut impl Outside<D>) -> io::Result<()> {
        if self.sync == SyncState::Failed {
            return Ok(());
        }
        assert!(self.sync == SyncState::Idle, "the last round has come back");
        self.cancel_compaction();
        self.write_all();
        // What is under way elsewhere ends there, or at the next start.
        if let Some(removal) = self.next_removal() {
            self.removed(removal.run(), outside, &mut Vec::new());
        }
        if self.sync == SyncState::Failed {
            return Ok(());
        }
        // Twice: the first round's success is what the second one notes.
        for _ in 0..2 {
            let Some(round) = self.begin_round(Monotonic::ZERO, Lazy::Flush, outside) else { break };
            self.sync = SyncState::InFlight;
            let result = round.run();
            self.sync_done(round, &result, outside, &mut Vec::new());
            result?;
        }
        Ok(())
    }

    fn perform_one(
        &mut self,
        effect: Effect<Payload>,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        match effect {
            Effect::Open { group, config } => self.open(group, config, outside, answers),
            Effect::Configure { group, config } => {
                if let Some(latest) = self.being_opened.get_mut(&group) {
                    *latest = config;
                }
                if let Some(open) = self.groups.get_mut(&group) {
                    open.log.configure(log_options(config));
                }
            }
            Effect::Delete { group } => self.delete(group),
            Effect::SaveHardState { group, hard_state } => {
                self.state.set_hard_state(group, hard_state);
            }
            Effect::NoteCommit { group, commit } => {
                self.state.note_commit(group, commit);
                self.note_lazy();
            }
            Effect::Append { entry, payload } => self.append(&entry, payload),
            Effect::Accept { group, entries, skip_bytes, payload } => {
                self.accept(group, &entries, skip_bytes, &payload);
            }
            Effect::Truncate { group, from } => {
                self.change(group, outside, answers, |log| log.truncate(from));
            }
            Effect::Reset { group, start } => {
                self.change(group, outside, answers, |log| log.reset(start.previous, start.offset));
            }
            Effect::Replicate { group, to, from, up_to, bytes_max, message } => {
                self.replicate(Replicate { group, to, from, up_to, bytes_max, message }, outside, answers);
            }
            Effect::Send { group, to, message } => self.say(group, to, message, outside),
            Effect::Reply { request, reply } => {
                let reply: OutReply = self.completed(reply);
                outside.reply(request, reply);
            }
            Effect::Read {
                request,
                group,
                from,
                up_to,
                bytes_min,
                bytes_max,
                force,
                deadline,
                start_offset,
            } => {
                let order =
                    Read { request, group, from, up_to, bytes_min, bytes_max, force, deadline, start_offset };
                self.read(&order, outside, answers);
            }
            Effect::FindOffset { request, group, by, from, up_to } => {
                self.find_offset(request, group, by, (from, up_to), outside, answers);
            }
            Effect::Survey { group } => self.survey(group, answers),
            Effect::Compact { group, rule } => self.compact(group, rule),
            Effect::Appraise { group, older_than, bytes_max, up_to } => {
                self.appraise(group, (older_than, bytes_max), up_to, answers);
            }
            Effect::Trim { group, below, reason, up_to, kept_from } => {
                self.trim(group, (below, reason), (up_to, kept_from), answers);
            }
            Effect::PublishImage(image) => outside.publish_image(image),
            Effect::LeaderChanged { group, term, leader, role } => {
                outside.leader_changed(group, term, leader, role);
            }
            Effect::Closed { group, reason } => outside.replica_closed(group, &reason),
            Effect::InSync { group, term, nodes } => outside.in_sync(group, term, nodes),
            Effect::Alarm { group, alarm } => outside.alarm(group, alarm),
            Effect::Drained => outside.drained(),
        }
    }

    /// Closes a group for good (until a restart) and says why.
    fn fail(
        &mut self,
        group: GroupId,
        reason: String,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        self.groups.remove(&group);
        self.dirty.remove(&group);
        outside.group_failed(group, &reason);
        answers.push(Event::Failed { group, reason });
    }

    /// Before anything is acknowledged for what is durable now.
    fn write_floors(&mut self) {
        if let Err(error) = self.state.write_floors() {
            tracing::debug!(%error, "the floors wait for their next flush");
        }
    }

    fn note_lazy(&mut self) {
        if self.lazy == LazyState::Clean {
            self.lazy = LazyState::Changed;
        }
    }

    fn lazy_due(&self, now: Monotonic) -> Lazy {
        match self.lazy {
            LazyState::ChangedSince(since) if now >= since + limits::LAZY_FLUSH_INTERVAL => Lazy::Flush,
            _ => Lazy::Hold,
        }
    }

    /// Everything written and not yet covered, as one round; `None` if there is nothing.
    fn begin_round(
        &mut self,
        now: Monotonic,
        lazy: Lazy,
        outside: &mut impl Outside<D>,
    ) -> Option<SyncRound<D>> {
        let state = match self.begin_state(now, lazy) {
            Ok(state) => state,
            Err(error) => {
                self.sync = SyncState::Failed;
                outside.sync_failed(&error);
                return None;
            }
        };
        let mut logs = Vec::new();
        for group in std::mem::take(&mut self.dirty) {
            let Some(open) = self.groups.get_mut(&group) else { continue };
            if let Some(ticket) = open.log.begin_sync() {
                logs.push((group, ticket));
            }
            if !open.allocating
                && let Some(allocation) = open.log.allocation_wanted()
            {
                open.allocating = true;
                outside.allocate(group, allocation);
            }
        }
        (state.is_some() || !logs.is_empty()).then(|| SyncRound { disk: self.disk.clone(), logs, state })
    }

    /// Writes what is due of the state file.
    fn begin_state(&mut self, now: Monotonic, lazy: Lazy) -> io::Result<Option<StateTicket<D>>> {
        match self.state.begin_sync(lazy) {
            // All of it stays due: the votes among it are withheld until there is room, or a descriptor, again.
            Err(StateWriteError::Refused(error)) => {
                tracing::warn!(%error, "the state file cannot be written now: votes and terms wait");
                self.lazy = LazyState::ChangedSince(now);
                Ok(None)
            }
            Ok(ticket) => {
                if lazy == Lazy::Flush {
                    self.lazy = LazyState::Clean;
                }
                Ok(ticket)
            }
            Err(StateWriteError::SyncFailed(error)) => Err(error),
        }
    }
}

fn log_options(config: LogConfig) -> LogOptions {
    LogOptions { segment_bytes: config.segment_bytes, segment_ms: config.segment_ms }
}
