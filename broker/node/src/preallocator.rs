//! One thread for what is slow and can wait: zero-filling segments ahead, and watching the free space.
//!
//! Space is looked at once a second, and whenever the shards have appended a good part of what was left above the
//! reserve: a fast writer fills a quarter of a gigabyte in less than a second.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};

use raftline_proto::ids::GroupId;
use raftline_shard::types::DiskSpace;
use raftline_storage::{Allocation, Disk};

use crate::engine::AbortOnPanic;
use crate::limits;

/// What the thread tells the shards.
pub enum Finding<D: Disk> {
    /// An allocation was run.
    Allocated {
        /// The shard that asked.
        shard: usize,
        /// The group.
        group: GroupId,
        /// What was asked.
        allocation: Allocation<D>,
        /// How it went.
        result: io::Result<()>,
    },
    /// Free space crossed the reserve.
    Space(DiskSpace),
}

/// The handle of the thread.
pub struct Preallocator<D: Disk> {
    allocations: Allocations<D>,
    thread: JoinHandle<()>,
}

/// How the shards reach the thread. There is at most one allocation a group and one look at once, so the queue is
/// bounded by what is open.
pub struct Allocations<D: Disk> {
    jobs: mpsc::Sender<Job<D>>,
    /// What may still be appended before free space is looked at again.
    until_look: Arc<AtomicI64>,
}

impl<D: Disk> Clone for Allocations<D> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), until_look: Arc::clone(&self.until_look) }
    }
}

enum Job<D: Disk> {
    Allocate { shard: usize, group: GroupId, allocation: Allocation<D> },
    Look,
}

impl<D: Disk> Preallocator<D> {
    /// Starts the thread. `reserve_bytes` are to be kept free where `dir` is.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        disk: D,
        dir: PathBuf,
        reserve_bytes: u64,
        tell: impl Fn(Finding<D>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let until_look = Arc::new(AtomicI64::new(0));
        let mut worker = Worker {
            disk,
            dir,
            queue,
            watch: SpaceWatch::new(reserve_bytes),
            until_look: Arc::clone(&until_look),
            tell,
        };
        let builder = Builder::new().name("preallocator".into()).stack_size(limits::SMALL_STACK_BYTES);
        let thread = builder.spawn(move || {
            let _guard = AbortOnPanic;
            worker.run();
        })?;
        Ok(Self { allocations: Allocations { jobs, until_look }, thread })
    }

    /// A way to the thread.
    #[must_use]
    pub fn allocations(&self) -> Allocations<D> {
        self.allocations.clone()
    }

    /// Waits for the thread to end, once every other [`Allocations`] is gone.
    pub fn stop(self) {
        drop(self.allocations);
        drop(self.thread.join());
    }
}

impl<D: Disk> Allocations<D> {
    /// Queues an allocation.
    pub fn submit(&self, shard: usize, group: GroupId, allocation: Allocation<D>) {
        self.send(Job::Allocate { shard, group, allocation });
    }

    /// So many bytes were appended.
    pub fn spent(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.until_look.fetch_sub(bytes, Ordering::Relaxed);
        // Only whoever crosses zero asks for a look.
        if before > 0 && before <= bytes {
            self.send(Job::Look);
        }
    }

    fn send(&self, job: Job<D>) {
        // When the thread has ended the process is stopping: then nothing has to be done.
        drop(self.jobs.send(job));
    }
}

/// What the thread works with.
struct Worker<D: Disk, F> {
    disk: D,
    dir: PathBuf,
    queue: mpsc::Receiver<Job<D>>,
    watch: SpaceWatch,
    until_look: Arc<AtomicI64>,
    tell: F,
}

impl<D: Disk, F: Fn(Finding<D>)> Worker<D, F> {
    fn run(&mut self) {
        loop {
            self.look();
            match self.queue.recv_timeout(limits::DISK_SPACE_INTERVAL) {
                Ok(Job::Allocate { shard, group, allocation }) => {
                    let result = allocation.run();
                    (self.tell)(Finding::Allocated { shard, group, allocation, result });
                }
                Ok(Job::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        match self.disk.free_bytes(&self.dir) {
            Ok(free_bytes) => {
                let until_look = self.watch.until_look(free_bytes);
                self.until_look.store(until_look, Ordering::Relaxed);
                if let Some(space) = self.watch.observe(free_bytes) {
                    (self.tell)(Finding::Space(space));
                }
            }
            Err(error) => tracing::warn!(dir = %self.dir.display(), %error, "free space is not known"),
        }
    }
}

/// Tells when free space crosses the reserve. There is a gap between the two thresholds, so that a disk that is just
/// full does not flicker.
#[derive(Debug)]
pub struct SpaceWatch {
    reserve_bytes: u64,
    low: bool,
}

impl SpaceWatch {
    /// A watch that starts out believing that there is enough.
    #[must_use]
    pub const fn new(reserve_bytes: u64) -> Self {
        Self { reserve_bytes, low: false }
    }

    /// Takes a reading; gives the news, if it is any.
    pub fn observe(&mut self, free_bytes: u64) -> Option<DiskSpace> {
        let reserve_bytes = self.reserve_bytes;
        if !self.low && free_bytes < reserve_bytes {
            self.low = true;
            return Some(DiskSpace::Low { free_bytes, reserve_bytes });
        }
        if self.low && free_bytes >= reserve_bytes.saturating_add(reserve_bytes / 8) {
            self.low = false;
            return Some(DiskSpace::Enough);
        }
        None
    }

    /// How much may be appended before the next look: a part of what is left, since segments grow by more than what
    /// is written into them.
    #[must_use]
    pub fn until_look(&self, free_bytes: u64) -> i64 {
        let left = free_bytes.saturating_sub(self.reserve_bytes) / 4;
        i64::try_from(left.max(limits::DISK_LOOK_BYTES_MIN)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_storage::SimDisk;

    #[test]
    fn crossings_are_told_once_and_do_not_flicker() {
        let mut watch = SpaceWatch::new(800);
        assert_eq!(watch.observe(801), None);
        assert_eq!(watch.observe(799), Some(DiskSpace::Low { free_bytes: 799, reserve_bytes: 800 }));
        assert_eq!(watch.observe(0), None);
        assert_eq!(watch.observe(800), None);
        assert_eq!(watch.observe(899), None);
        assert_eq!(watch.observe(900), Some(DiskSpace::Enough));
        assert_eq!(watch.observe(800), None);
    }

    #[test]
    fn a_fast_writer_is_looked_after_before_the_next_second() {
        const MIB: u64 = 1 << 20;
        let disk = SimDisk::new();
        disk.set_capacity(Some(100 * MIB));
        let (sender, findings) = mpsc::channel();
        let tell = move |finding| {
            if let Finding::Space(space) = finding {
                sender.send(space).unwrap();
            }
        };
        let preallocator = Preallocator::start(disk.clone(), "/".into(), 10 * MIB, tell).unwrap();
        let allocations = preallocator.allocations();
        // The first look is the thread's own.
        while allocations.until_look.load(Ordering::Relaxed) <= 0 {
            std::thread::yield_now();
        }
        assert_eq!(allocations.until_look.load(Ordering::Relaxed), 90 * (1 << 20) / 4);
        disk.set_capacity(Some(5 * MIB));
        allocations.spent(30 * MIB);
        let low = DiskSpace::Low { free_bytes: 5 * MIB, reserve_bytes: 10 * MIB };
        assert_eq!(findings.recv().unwrap(), low);
        drop(allocations);
        preallocator.stop();
    }
}
