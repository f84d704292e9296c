//! Opening groups, a bounded bit a turn.

use std::io;
use std::path::PathBuf;

use raftline_proto::command::TrimReason;
use raftline_proto::entry::EntryInfo;
use raftline_proto::ids::{GroupId, Index, Position};
use raftline_proto::time::Monotonic;
use raftline_raft::types::LogStart;
use raftline_shard::types::{Event, LogConfig, OpenedGroup};
use raftline_storage::{Disk, Log, LogOptions, OpenError, is_shortage};

use super::{Executor, Group, Outside, log_options};
use crate::limits;
use crate::payload::Payload;

/// What a deleted group's directory is called until it is gone. Not a number, so no group's name.
const TRASH_SUFFIX: &str = ".deleted";

impl<D: Disk> Executor<D> {
    /// Has the log opened, elsewhere if the world can do that.
    pub(super) fn open(
        &mut self,
        group: GroupId,
        config: LogConfig,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        self.being_opened.insert(group, config);
        let job = OpenJob {
            disk: self.disk.clone(),
            dir: self.group_dir(group),
            group,
            options: log_options(config),
            floor: self.state.get(group).floor,
        };
        if let Some(job) = outside.open_log(job) {
            self.log_opened(job.run(), outside, answers);
        }
    }

    /// An [`OpenJob`] came back. The log's entries follow turn by turn.
    pub fn log_opened(
        &mut self,
        opened: OpenedLog<D>,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        let OpenedLog { group, dir, result } = opened;
        // Deleted meanwhile, or all is over.
        let Some(config) = self.being_opened.remove(&group) else { return };
        match result {
            Ok(mut log) => {
                log.configure(log_options(config));
                log.remove_later();
                let recovery = log.recovery();
                if recovery.bytes_cut > 0 || recovery.bytes_settled > 0 {
                    tracing::info!(
                        partition = (self.names)(group), dir = %dir.display(), last = %log.last(), bytes_cut = recovery.bytes_cut,
                        bytes_settled = recovery.bytes_settled,
                        "log recovered: a torn tail that was never acknowledged is cut, the rest synced again"
                    );
                }
                tracing::debug!(partition = (self.names)(group), ?recovery, "log opened");
                // All that was found is durable now, and may be vouched for.
                if log.durable_position() > self.state.get(group).floor {
                    self.state.note_floor(group, log.durable_position());
                    self.note_lazy();
                    self.write_floors();
                }
                let first = log.start().0.index.next();
                let open = Group {
                    log,
                    staged: false,
                    refused: false,
                    full: false,
                    trim_reason: TrimReason::Asked,
                    allocating: false,
                    awake: false,
                };
                self.groups.insert(group, open);
                self.opening.push_back((group, first));
                self.touch(group);
            }
            // Others may let go of theirs. Nothing is wrong with the log.
            Err(OpenError::Io { source, .. }) if is_shortage(&source) => {
                tracing::warn!(partition = (self.names)(group), error = %source, "a log waits for a descriptor");
                self.being_opened.insert(group, config);
                self.short.push(group);
            }
            Err(error) => self.fail(group, error.to_string(), outside, answers),
        }
    }

    /// Tries again what could not be done for want of a descriptor, or of room: logs that are to be opened, and those that
    /// were cut and are to go on.
    pub(super) fn try_again(
        &mut self,
        now: Monotonic,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        match self.short_until {
            None if self.short.is_empty() && self.owing.is_empty() => {}
            None => self.short_until = Some(now + limits::SHORTAGE_INTERVAL),
            Some(until) if now < until => {}
            Some(_) => {
                self.short_until = None;
                for group in std::mem::take(&mut self.short) {
                    if let Some(config) = self.being_opened.get(&group).copied() {
                        self.open(group, config, outside, answers);
                    }
                }
                self.pay();
            }
        }
    }

    /// Has cut logs go on, where there is room now.
    fn pay(&mut self) {
        for group in std::mem::take(&mut self.owing) {
            let Some(open) = self.groups.get_mut(&group) else { continue };
            match open.log.pay() {
                Ok(()) => {
                    self.dirty.insert(group);
                }
                Err(_) => {
                    self.owing.insert(group);
                }
            }
        }
    }

    /// Replays a bounded count of entries of the groups that are being opened: a log of many gigabytes must not
    /// become as many entries in memory at once.
    pub(super) fn replay_some(&mut self, outside: &mut impl Outside<D>, answers: &mut Vec<Event<Payload>>) {
        let mut budget = Budget { entries: limits::REPLAY_ENTRIES_MAX, bytes: limits::REPLAY_BYTES_MAX };
        while !budget.is_spent()
            && let Some((group, from)) = self.opening.pop_front()
        {
            // Deleted or failed while it was being opened.
            let Some(open) = self.groups.get(&group) else { continue };
            let state = self.state.get(group);
            let last = open.log.last();
            let commit_hint = state.commit_hint.min(last.index);
            match replay_chunk(&open.log, from, &mut budget) {
                Ok(entries) => {
                    let next = entries.last().map_or(from, |entry| entry.header.id.index.next());
                    if !entries.is_empty() {
                        answers.push(Event::Replay { group, commit_hint, entries });
                    }
                    if next <= last.index {
                        self.opening.push_front((group, next));
                        continue;
                    }
                    let (previous, offset) = open.log.start();
                    let recovered = OpenedGroup {
                        hard_state: state.hard_state,
                        commit_hint,
                        start: LogStart { previous, offset },
                        last,
                        term_starts: open.log.term_starts(),
                    };
                    answers.push(Event::Opened { group, recovered });
                }
                Err(reason) => self.fail(group, reason, outside, answers),
            }
        }
    }

    /// Removes what a crash left of earlier deletions.
    ///
    /// # Errors
    /// A failed sync: nothing may be opened on this disk.
    pub(super) fn find_trash(&mut self) -> io::Result<()> {
        let names = self.disk.list(&self.groups_dir).unwrap_or_default();
        let trash = names.iter().filter(|name| name.ends_with(TRASH_SUFFIX));
        self.trash.extend(trash.map(|name| self.groups_dir.join(name)));
        match self.next_removal() {
            Some(removal) => removal.run().into_synced(),
            None => Ok(()),
        }
    }

    /// The groups that have a directory, of all shards: what the shards are to be told before their start.
    ///
    /// # Errors
    /// If the directory that holds them cannot be listed.
    pub fn groups_found(&self) -> io::Result<Vec<GroupId>> {
        match self.disk.list(&self.groups_dir) {
            Ok(names) => Ok(names.iter().filter_map(|name| name.parse().ok().map(GroupId)).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn group_dir(&self, group: GroupId) -> PathBuf {
        self.groups_dir.join(group.to_string())
    }

    pub(super) fn trash_dir(&self, group: GroupId) -> PathBuf {
        self.groups_dir.join(format!("{group}{TRASH_SUFFIX}"))
    }
}

/// A log to be opened. That reads all of it, so it is best done on another thread.
pub struct OpenJob<D: Disk> {
    disk: D,
    dir: PathBuf,
    group: GroupId,
    options: LogOptions,
    floor: Position,
}

impl<D: Disk> OpenJob<D> {
    /// Opens the log.
    #[must_use]
    pub fn run(self) -> OpenedLog<D> {
        let Self { disk, dir, group, options, floor } = self;
        let result = Log::open(disk, &dir, group, options, floor);
        OpenedLog { group, dir, result }
    }
}

/// What became of an [`OpenJob`]; for [`Executor::log_opened`].
pub struct OpenedLog<D: Disk> {
    group: GroupId,
    dir: PathBuf,
    result: Result<Log<D>, OpenError>,
}

/// What may still be replayed this turn.
struct Budget {
    entries: usize,
    bytes: u64,
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }
}

/// The next entries of a log from `from` on, until the budget is spent.
fn replay_chunk<D: Disk>(log: &Log<D>, from: Index, budget: &mut Budget) -> Result<Vec<EntryInfo>, String> {
    let mut entries = Vec::new();
    for next in log.replay(from) {
        let (header, payload) = next.map_err(|error| error.to_string())?;
        let entry = EntryInfo::decode(header, &payload).map_err(|error| {
            format!("entry {} has a valid checksum and cannot be understood: {error}", header.id)
        })?;
        entries.push(entry);
        budget.entries -= 1;
        budget.bytes = budget.bytes.saturating_sub(header.entry_bytes());
        if budget.is_spent() {
            break;
        }
    }
    Ok(entries)
}
