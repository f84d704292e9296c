//! One thread for what is slow and can wait: zero-filling segments ahead, and watching the free space.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};

use raftline_proto::ids::GroupId;
use raftline_shard::types::DiskSpace;
use raftline_storage::{Allocation, Disk};

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
    jobs: mpsc::Sender<Job<D>>,
    thread: JoinHandle<()>,
}

/// Where jobs are put in. There is at most one a group, so the queue is bounded by what is open.
pub struct Allocations<D: Disk>(mpsc::Sender<Job<D>>);

type Job<D> = (usize, GroupId, Allocation<D>);

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
        let (jobs, queue) = mpsc::channel::<Job<D>>();
        let mut watch = SpaceWatch::new(reserve_bytes);
        let run = move || {
            let _guard = crate::engine::AbortOnPanic;
            loop {
                match disk.free_bytes(&dir) {
                    Ok(free_bytes) => {
                        if let Some(space) = watch.observe(free_bytes) {
                            tell(Finding::Space(space));
                        }
                    }
                    Err(error) => tracing::warn!(dir = %dir.display(), %error, "free space is not known"),
                }
                // Space is looked at again after every allocation: that is when it goes fastest.
                match queue.recv_timeout(limits::DISK_SPACE_INTERVAL) {
                    Ok((shard, group, allocation)) => {
                        let result = allocation.run();
                        tell(Finding::Allocated { shard, group, allocation, result });
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let builder = Builder::new().name("preallocator".into()).stack_size(limits::SMALL_STACK_BYTES);
        Ok(Self { jobs, thread: builder.spawn(run)? })
    }

    /// A way to put jobs in.
    #[must_use]
    pub fn allocations(&self) -> Allocations<D> {
        Allocations(self.jobs.clone())
    }

    /// Waits for the thread to end, once every [`Allocations`] is gone.
    pub fn stop(self) {
        drop(self.jobs);
        drop(self.thread.join());
    }
}

impl<D: Disk> Allocations<D> {
    /// Queues an allocation. When the thread has ended the process is stopping: then nothing has to be allocated.
    pub fn submit(&self, shard: usize, group: GroupId, allocation: Allocation<D>) {
        drop(self.0.send((shard, group, allocation)));
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
