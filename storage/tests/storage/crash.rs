//! Random operations with power cuts, kills and failing disks between them.
//!
//! The rule that is checked after each restart: the log is a prefix of a state that it went through since the last
//! confirmed sync, and nothing that was confirmed is missing, unless it was truncated or trimmed on purpose.

use crate::common::{Chance, Entry, Writer, chance, contents, fresh, id, open, sync};
use raftline_proto::ids::{EntryId, Index, Offset, Position};
use raftline_storage::{CompactionRule, Log, SimDisk};
use rand::Rng;

const ROUNDS: u64 = 300;
const LIVES: u32 = 6;

/// One state that the log went through.
#[derive(Clone, Debug)]
struct State {
    start: EntryId,
    entries: Vec<Entry>,
}

struct World {
    chance: Chance,
    disk: SimDisk,
    segment_bytes: u64,
    log: Log<SimDisk>,
    /// The states since the last confirmed sync, that of the sync first, the present one last.
    states: Vec<State>,
    /// What was confirmed and not taken away since: entries of the first state up to here.
    kept_up_to: Index,
    /// As the state file would have it.
    floor: Position,
    /// What the log would hold, had the last writes not failed.
    refused: Vec<State>,
    term: u64,
    /// The disk has little room, or none.
    full: bool,
}

#[test]
fn nothing_durable_is_lost_and_nothing_false_appears() {
    for seed in 0..ROUNDS {
        let passed = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..LIVES {
                world.live();
                world.die_and_return();
            }
        });
        assert!(passed.is_ok(), "seed {seed}");
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = chance(seed);
        let segment_bytes = chance.random_range(300..5000);
        let (disk, log) = fresh(segment_bytes);
        let states = vec![State { start: EntryId::ZERO, entries: Vec::new() }];
        Self {
            chance,
            disk,
            segment_bytes,
            log,
            states,
            kept_up_to: Index(1),
            floor: Position::ZERO,
            refused: Vec::new(),
            term: 1,
            full: false,
        }
    }

    fn now(&self) -> State {
        self.states.last().unwrap().clone()
    }

    fn live(&mut self) {
        for _ in 0..self.chance.random_range(0..15) {
            match self.chance.random_range(0..23) {
                20..22 => self.compact(),
                22 => self.make_room(),
                0..10 => self.append(),
                10..12 => self.truncate(),
                12..17 => self.sync(),
                17 => self.retain(),
                19 => self.fill_disk(),
                18 => {
                    if self.chance.random_range(0..8) == 0 {
                        self.reset();
                    }
                }
                _ => self.term += 1,
            }
        }
    }

    fn append(&mut self) {
        let mut state = self.now();
        let mut writer = Writer::of(&self.log);
        for _ in 0..self.chance.random_range(1..8) {
            let bytes = self.chance.random_range(0..700);
            state.entries.push(writer.data(&mut self.log, self.term, bytes));
        }
        if self.chance.random_range(0..15) == 0 && !self.full {
            self.disk.fail_next_write(self.chance.random_range(0..3000));
        }
        match self.log.write() {
            Ok(()) => {
                self.states.append(&mut self.refused);
                self.states.push(state);
            }
            Err(error) => {
                // Entries that were refused may be whole in the file, and come back until others take their place.
                self.refused.push(state.clone());
                state.entries.retain(|(header, _)| header.id.index <= error.last.index);
                self.states.push(state);
            }
        }
        assert_eq!(
            self.log.last().index,
            self.now().entries.last().map_or(self.now().start, |e| e.0.id).index
        );
    }

    fn truncate(&mut self) {
        let mut state = self.now();
        if state.entries.is_empty() {
            return;
        }
        let from = state.start.index + 1 + self.chance.random_range(0..state.entries.len() as u64);
        // What is compacted is committed.
        let from = from.max(self.log.compaction_facts().clean_through.next());
        // What a log is to begin with is, too.
        let from = if state.start.index == Index::ZERO { from } else { from.max(state.start.index + 2) };
        if from > self.log.last().index {
            return;
        }
        self.log.truncate(from).unwrap();
        state.entries.retain(|(header, _)| header.id.index < from);
        self.states.push(state);
        self.kept_up_to = self.kept_up_to.min(from);
        self.term += 1;
    }

    fn sync(&mut self) {
        if self.log.owes_segment() {
            // Until then nothing of a cut is durable.
            self.make_room();
            while self.log.pay().is_err() {}
        }
        let last = sync(&mut self.log);
        let state = self.now();
        assert_eq!(last, state.entries.last().map_or(state.start, |(header, _)| header.id));
        self.kept_up_to = last.index.next();
        self.states = vec![state];
        if self.chance.random() {
            self.floor = self.log.durable_position();
        }
    }

    /// Nothing new fits on the disk for a while.
    fn fill_disk(&mut self) {
        self.full = true;
        self.disk.set_capacity(Some(self.disk.used_bytes() + self.chance.random_range(0..3000)));
    }

    fn make_room(&mut self) {
        self.full = false;
        self.disk.set_capacity(None);
    }

    fn retain(&mut self) {
        // Only what is committed is trimmed, and so durable.
        self.sync();
        let bytes_max = self.chance.random_range(0..self.log.bytes() + 1);
        let up_to = self.kept_up_to.previous().unwrap_or(self.kept_up_to);
        let Some(outlived) = self.log.outlived(None, Some(bytes_max), up_to) else { return };
        let Some(first_left) = self.log.first_left(outlived.below, up_to) else { return };
        assert!(self.log.trim(outlived.below, up_to).unwrap());
        let mut state = self.now();
        state.start =
            state.entries.iter().find(|(header, _)| header.id.index.next() == first_left).unwrap().0.id;
        state.entries.retain(|(header, _)| header.id.index > state.start.index);
        match self.chance.random_range(0..3) {
            // It dies before that is durable, or after more has happened.
            0 => self.states.push(state),
            _ => {
                self.states.push(state.clone());
                sync(&mut self.log);
                assert_eq!(self.log.start().0, state.start);
                self.states = vec![state];
            }
        }
    }

    /// Files are rewritten and merged, but the entries here are none that compaction drops: nothing changes.
    fn compact(&mut self) {
        self.sync();
        let state = self.now();
        if state.entries.is_empty() {
            return;
        }
        let through = state.start.index + 1 + self.chance.random_range(0..state.entries.len() as u64);
        let rule = CompactionRule { through, tombstones_before: Offset(0), memory_bytes_max: 0 };
        // One at a time, and one may never end.
        let Ok(Some(job)) = self.log.compaction(rule) else { return };
        if self.chance.random() {
            self.append();
        }
        let Ok(done) = job.run() else { return };
        match self.chance.random_range(0..6) {
            0 => return,
            // It is killed with the job's files in place.
            1 => std::mem::forget(done),
            _ => drop(self.log.adopt(done).unwrap()),
        }
        let now: Vec<Entry> = contents(&self.log);
        assert_eq!(now, self.now().entries);
    }

    fn reset(&mut self) {
        let state = self.now();
        let end = state.entries.last().map_or(state.start, |(header, _)| header.id);
        let previous = id(self.term, end.index.0 + self.chance.random_range(0..50));
        self.log.reset(previous, self.log.next_offset() + 10).unwrap();
        self.states.push(State { start: previous, entries: Vec::new() });
        self.kept_up_to = Index::ZERO;
        self.term += 1;
    }

    fn die_and_return(&mut self) {
        let seed = self.chance.random();
        self.disk = match self.chance.random_range(0..5) {
            0 => self.disk.kill(),
            1 => {
                // A sync fails, the process stops at once, and the next one trusts nothing that it finds.
                self.disk.fail_next_sync();
                if let Some(ticket) = self.log.begin_sync() {
                    assert!(ticket.run().is_err());
                    assert!(ticket.run().is_err(), "a second sync must not succeed");
                }
                self.disk.kill()
            }
            2 => self.disk.durable(),
            _ => self.disk.crash(seed),
        };
        // A second power cut, before or after the first recovery's work.
        if self.chance.random() {
            let log = self.reopen();
            self.found(&log);
            self.disk = self.disk.crash(seed ^ 1);
        }
        self.log = self.reopen();
        let state = self.found(&self.log);
        self.kept_up_to = state.entries.last().map_or(state.start, |(header, _)| header.id).index.next();
        self.states = vec![state];
        self.refused.clear();
        self.term += 1;
        if self.chance.random() {
            self.floor = self.log.durable_position();
        }
    }

    fn reopen(&self) -> Log<SimDisk> {
        open(&self.disk, self.segment_bytes, self.floor).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Checks what a restart found.
    fn found(&self, log: &Log<SimDisk>) -> State {
        let found = State { start: log.start().0, entries: contents(log) };
        let states = self.states.iter().chain(&self.refused);
        let possible = states.clone().any(|state| state.start == found.start)
            && states.clone().any(|state| {
                // A trim may have been undone by the crash, or come true beside an older state: so entries are
                // compared from the found start on, those before the state's own start taken from before the trim.
                let before = self.states[0].entries.iter();
                let trimmed = before.filter(|(header, _)| header.id.index <= state.start.index);
                let whole = trimmed.chain(&state.entries);
                let whole = whole.filter(|(header, _)| header.id.index > found.start.index);
                whole.cloned().collect::<Vec<_>>().starts_with(&found.entries)
            });
        assert!(
            possible,
            "found {}\nof {:#?}",
            summary(&found),
            self.states.iter().map(summary).collect::<Vec<_>>()
        );
        let kept = self.states[0].entries.iter().filter(|(header, _)| header.id.index < self.kept_up_to);
        for (header, payload) in kept.filter(|(header, _)| header.id.index > found.start.index) {
            let there = found.entries.iter().find(|(other, _)| other.id == header.id);
            assert_eq!(there.map(|(_, bytes)| bytes), Some(payload), "entry {} was durable", header.id);
        }
        found
    }
}

/// The runs of terms in a state, for people.
fn summary(state: &State) -> String {
    let mut runs = format!("after {}:", state.start);
    for pair in state.entries.chunk_by(|(a, _), (b, _)| a.id.term == b.id.term) {
        runs += &format!(" {}..={}", pair[0].0.id, pair[pair.len() - 1].0.id.index);
    }
    runs
}
