//! The threads that make files durable, so that shard threads never wait for a disk.
//!
//! A round's files are shared out over the lanes: a few files side by side cost about as much as the slowest of them,
//! one after the other they add up. Lanes are started when they are first needed: an idle broker has one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use parking_lot::{Condvar, Mutex};
use raftline_storage::{Disk, SyncPart};

use crate::engine::AbortOnPanic;
use crate::executor::SyncRound;
use crate::limits;

/// Called, on a lane, with each round that came to its end: the shard's number, the round, how it went.
pub type RoundDone<D> = dyn Fn(usize, SyncRound<D>, io::Result<()>) + Send + Sync;

/// The sync threads of a node, shared by its shards. There is at most one round a shard, so the queue is bounded.
pub struct SyncPool<D: Disk> {
    shared: Arc<Shared<D>>,
}

impl<D: Disk> SyncPool<D> {
    /// Starts a pool of at most `lanes` threads.
    ///
    /// # Errors
    /// If not even one thread can be started.
    pub fn start(lanes: usize, done: Arc<RoundDone<D>>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            lanes_max: lanes.max(1),
            done,
            state: Mutex::new(State { jobs: VecDeque::new(), idle: 0, stopping: false, lanes: Vec::new() }),
            more: Condvar::new(),
        });
        shared.start_lane(&mut shared.state.lock())?;
        Ok(Self { shared })
    }

    /// Runs a shard's round; returns at once.
    pub fn submit(&self, shard: usize, round: SyncRound<D>) {
        let parts = round.split(self.shared.lanes_max);
        let parts_left = parts.len();
        let flight = Arc::new(Flight {
            shard,
            parts_left: AtomicUsize::new(parts_left),
            error: Mutex::new(None),
            round: Mutex::new(Some(round)),
        });
        if parts_left == 0 {
            self.shared.land(&flight);
            return;
        }
        let mut state = self.shared.state.lock();
        state.jobs.extend(parts.into_iter().map(|part| Job { part, flight: Arc::clone(&flight) }));
        while state.idle < state.jobs.len() && state.lanes.len() < self.shared.lanes_max {
            if let Err(error) = self.shared.start_lane(&mut state) {
                tracing::warn!(%error, "a sync thread could not be started: the others do its work");
                break;
            }
        }
        drop(state);
        for _ in 0..parts_left {
            self.shared.more.notify_one();
        }
    }

    /// Lets the lanes finish what is queued, and waits for them.
    pub fn stop(self) {
        let lanes = {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            std::mem::take(&mut state.lanes)
        };
        self.shared.more.notify_all();
        for lane in lanes {
            // A lane that panics aborts the process.
            drop(lane.join());
        }
    }

    /// How many threads there are now.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.shared.state.lock().lanes.len()
    }
}

struct Shared<D: Disk> {
    lanes_max: usize,
    done: Arc<RoundDone<D>>,
    state: Mutex<State<D>>,
    more: Condvar,
}

struct State<D: Disk> {
    jobs: VecDeque<Job<D>>,
    /// Lanes that wait for a job, counting those just started.
    idle: usize,
    stopping: bool,
    lanes: Vec<JoinHandle<()>>,
}

struct Job<D: Disk> {
    part: SyncPart<D>,
    flight: Arc<Flight<D>>,
}

/// A round that is under way.
struct Flight<D: Disk> {
    shard: usize,
    parts_left: AtomicUsize,
    /// The first error of any part.
    error: Mutex<Option<io::Error>>,
    /// The round, for whoever finishes last.
    round: Mutex<Option<SyncRound<D>>>,
}

impl<D: Disk> Shared<D> {
    fn start_lane(self: &Arc<Self>, state: &mut State<D>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let name = format!("sync-{}", state.lanes.len());
        let lane = Builder::new().name(name).stack_size(limits::SMALL_STACK_BYTES).spawn(move || {
            let _guard = AbortOnPanic;
            while let Some(job) = shared.next_job() {
                shared.run(&job);
                shared.state.lock().idle += 1;
            }
        })?;
        state.lanes.push(lane);
        state.idle += 1;
        Ok(())
    }

    /// Waits for a job; `None` once the pool stops and nothing is queued.
    fn next_job(&self) -> Option<Job<D>> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.idle -= 1;
                return Some(job);
            }
            if state.stopping {
                return None;
            }
            self.more.wait(&mut state);
        }
    }

    fn run(&self, job: &Job<D>) {
        if let Err(error) = job.part.run() {
            job.flight.error.lock().get_or_insert(error);
        }
        if job.flight.parts_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.land(&job.flight);
        }
    }

    fn land(&self, flight: &Flight<D>) {
        if let Some(round) = flight.round.lock().take() {
            let result = flight.error.lock().take().map_or(Ok(()), Err);
            (self.done)(flight.shard, round, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::rounds;
    use std::sync::mpsc;

    #[test]
    fn every_round_comes_back_once_with_its_shard() {
        let (sender, receiver) = mpsc::channel();
        let done = move |shard, round: SyncRound<_>, result: io::Result<()>| {
            sender.send((shard, round.groups().count(), result.is_ok())).unwrap();
        };
        let pool = SyncPool::start(3, Arc::new(done)).unwrap();
        assert_eq!(pool.lanes(), 1, "one lane until more are needed");
        let disk = raftline_storage::SimDisk::new();
        for (shard, groups) in [(0, 1), (1, 5), (2, 20)] {
            pool.submit(shard, rounds(&disk, shard, groups));
        }
        let mut back: Vec<_> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        back.sort_unstable();
        assert_eq!(back, [(0, 1, true), (1, 5, true), (2, 20, true)]);
        assert!(pool.lanes() <= 3);
        let round = rounds(&disk, 7, 4);
        disk.fail_next_sync();
        pool.submit(7, round);
        assert_eq!(receiver.recv().unwrap(), (7, 4, false));
        pool.stop();
        assert!(receiver.recv().is_err(), "the lanes have ended");
    }
}
