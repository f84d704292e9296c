//! The threads that make files durable, so that shard threads never wait for a disk.
//!
//! A round's files are shared out over the lanes: a few files side by side cost about as much as the slowest of them,
//! one after the other they add up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use raftline_storage::{Disk, SyncPart};

use crate::executor::SyncRound;
use crate::lanes::{Lanes, Queued};

/// The sync threads of a node, shared by its shards. There is at most one round a shard, so the queue is bounded.
pub struct SyncPool<D: Disk> {
    lanes: Lanes<Job<D>>,
    done: Arc<RoundDone<D>>,
}

/// Called, on a lane, with each round that came to its end: the shard's number, the round, how it went.
pub type RoundDone<D> = dyn Fn(usize, SyncRound<D>, io::Result<()>) + Send + Sync;

impl<D: Disk> SyncPool<D> {
    /// Starts a pool of at most `lanes` threads.
    ///
    /// # Errors
    /// If not even one thread can be started.
    pub fn start(lanes: usize, done: Arc<RoundDone<D>>) -> io::Result<Self> {
        let land = Arc::clone(&done);
        let lanes = Lanes::start("sync", lanes, move |job: Job<D>| job.run(&*land))?;
        Ok(Self { lanes, done })
    }

    /// Runs a shard's round; returns at once.
    pub fn submit(&self, shard: usize, round: SyncRound<D>) {
        let parts = round.split(self.lanes.lanes_max());
        if parts.is_empty() {
            (self.done)(shard, round, Ok(()));
            return;
        }
        let flight = Arc::new(Flight {
            shard,
            parts_left: AtomicUsize::new(parts.len()),
            error: Mutex::new(None),
            round: Mutex::new(Some(round)),
        });
        self.lanes.submit(parts.into_iter().map(|part| Job { part, flight: Arc::clone(&flight) }));
    }

    /// Lets the lanes finish what is queued, and waits for them.
    pub fn stop(self) {
        self.lanes.stop(Queued::Finish);
    }
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

impl<D: Disk> Job<D> {
    fn run(&self, done: &RoundDone<D>) {
        let flight = &self.flight;
        if let Err(error) = self.part.run() {
            flight.error.lock().get_or_insert(error);
        }
        if flight.parts_left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(round) = flight.round.lock().take()
        {
            let result = flight.error.lock().take().map_or(Ok(()), Err);
            done(flight.shard, round, result);
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
        let disk = raftline_storage::SimDisk::new();
        for (shard, groups) in [(0, 1), (1, 5), (2, 20)] {
            pool.submit(shard, rounds(&disk, shard, groups));
        }
        let mut back: Vec<_> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        back.sort_unstable();
        assert_eq!(back, [(0, 1, true), (1, 5, true), (2, 20, true)]);
        let round = rounds(&disk, 7, 4);
        disk.fail_next_sync();
        pool.submit(7, round);
        assert_eq!(receiver.recv().unwrap(), (7, 4, false));
        pool.stop();
        assert!(receiver.recv().is_err(), "the lanes have ended");
    }
}
