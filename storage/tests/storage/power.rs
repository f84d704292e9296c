//! A disk whose power goes after so many operations: each one from then on fails.

use bytes::Bytes;
use raftline_storage::sim::SimFile;
use raftline_storage::{DirHold, Disk, DiskFile, SimDisk};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones share the power.
#[derive(Clone)]
pub struct PowerDisk {
    pub disk: SimDisk,
    left: Arc<AtomicU64>,
}

pub struct PowerFile {
    file: Arc<SimFile>,
    left: Arc<AtomicU64>,
}

impl PowerDisk {
    pub fn new(disk: SimDisk) -> Self {
        Self { disk, left: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// So many operations that change something still work.
    pub fn cut_after(&self, operations: u64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    /// How many of them are left.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    fn file(&self, file: Arc<SimFile>) -> Arc<PowerFile> {
        Arc::new(PowerFile { file, left: Arc::clone(&self.left) })
    }
}

/// Takes one operation of what is left.
fn spend(left: &AtomicU64) -> io::Result<()> {
    let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    spent.map(drop).map_err(|_| io::Error::other("the power is off"))
}

/// Whether there is power to read.
fn powered(left: &AtomicU64) -> io::Result<()> {
    if left.load(Ordering::Relaxed) > 0 { Ok(()) } else { Err(io::Error::other("the power is off")) }
}

impl Disk for PowerDisk {
    type File = PowerFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.disk.create_dir_all(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        powered(&self.left).and_then(|()| self.disk.list(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<PowerFile>> {
        spend(&self.left).and_then(|()| self.disk.create(path)).map(|file| self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<PowerFile>> {
        powered(&self.left).and_then(|()| self.disk.open(path)).map(|file| self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.disk.remove(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.disk.remove_dir_all(dir))
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<DirHold> {
        powered(&self.left).and_then(|()| self.disk.hold_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.disk.sync_dir(dir))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

impl DiskFile for PowerFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.file.write_at(parts, at))
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        powered(&self.left).and_then(|()| self.file.read_at(into, at))
    }

    fn allocate(&self, from: u64, up_to: u64) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.file.allocate(from, up_to))
    }

    fn sync_data(&self) -> io::Result<()> {
        spend(&self.left).and_then(|()| self.file.sync_data())
    }

    fn read(&self, from: u64, up_to: u64) -> io::Result<Bytes> {
        self.file.read(from, up_to)
    }
}
