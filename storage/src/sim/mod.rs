//! A disk in memory that keeps two states of everything apart: what a process sees (live), and what a power cut
//! leaves (durable). For tests and the simulator; deterministic, without threads of its own.
//!
//! It is as unkind as a disk may be: of what was not synced, any subset of 512-byte sectors survives a crash, in any
//! of the contents they went through; names survive in any combination; a failed sync forgets what it should have
//! written and lets the next one "succeed".

mod file;
mod tree;

use crate::disk::{DirHold, Disk, DiskFile, SHORTAGE};
use crate::held::Held;
use bytes::Bytes;
use file::FileBytes;
pub use file::Rot;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use tree::{Node, Survival, Tree};

/// A simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    tree: Arc<Mutex<Tree>>,
    shared: Arc<Mutex<Shared>>,
    held: Held,
}

/// How often the disk was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    /// File syncs asked for.
    pub file_syncs: u64,
    /// Directory syncs asked for.
    pub dir_syncs: u64,
    /// Write calls.
    pub writes: u64,
    /// Bytes written, zero-filling not counted.
    pub bytes_written: u64,
    /// Files opened or created.
    pub opens: u64,
}

#[derive(Default)]
struct Shared {
    capacity: Option<u64>,
    used: u64,
    counters: SimCounters,
    syncs_to_fail: u32,
    /// How many bytes of the next write get through before it fails.
    next_write_keeps: Option<u64>,
    /// Whether there are too few descriptors.
    opens_fail: bool,
    /// Directories whose descriptors are held.
    holds: Vec<(PathBuf, Weak<()>)>,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk without end.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Tree::default(), None)
    }

    fn with(tree: Tree, capacity: Option<u64>) -> Self {
        let shared = Shared { capacity, used: tree.bytes(), ..Shared::default() };
        Self { tree: Arc::new(Mutex::new(tree)), shared: Arc::new(Mutex::new(shared)), held: Held::default() }
    }

    /// The disk as it may be found after a power cut now: what was synced, and of the rest what the seed says.
    /// Handles of the old disk do not reach the new one.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        self.rebuilt(&mut Survival::Random(Rng::new(seed)))
    }

    /// The disk as the next process finds it after this one was killed: nothing is lost, nothing more is durable.
    /// Handles of the old disk do not reach the new one.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.rebuilt(&mut Survival::Live)
    }

    /// What is durable for certain at this moment: the disk after a power cut that keeps nothing else.
    #[must_use]
    pub fn durable(&self) -> Self {
        self.rebuilt(&mut Survival::Durable)
    }

    fn rebuilt(&self, survival: &mut Survival) -> Self {
        let tree = self.tree.lock().rebuilt(survival);
        let disk = Self::with(tree, self.shared.lock().capacity);
        disk.shared.lock().counters = self.counters();
        disk
    }

    /// Makes the disk full beyond this many bytes of file content.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes;
    }

    /// How many bytes the files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().used
    }

    /// Makes the next file sync fail. What it should have made durable is forgotten, as kernels do: a later sync
    /// succeeds without it.
    pub fn fail_next_sync(&self) {
        self.shared.lock().syncs_to_fail += 1;
    }

    /// Makes the next write fail after so many bytes, or after all of them if it is shorter.
    pub fn fail_next_write(&self, bytes_kept: u64) {
        self.shared.lock().next_write_keeps = Some(bytes_kept);
    }

    /// As if the process had no descriptor left: nothing can be opened, created or listed.
    pub fn fail_opens(&self, fail: bool) {
        self.shared.lock().opens_fail = fail;
    }

    fn take_descriptor(&self, path: &Path) -> io::Result<()> {
        if self.shared.lock().opens_fail {
            let error = format!("{}: too many open files", path.display());
            return Err(io::Error::new(SHORTAGE, error));
        }
        Ok(())
    }

    /// How often the disk was used, over crashes too.
    #[must_use]
    pub fn counters(&self) -> SimCounters {
        self.shared.lock().counters
    }

    /// Rot: changes bytes of a file, live and durable.
    ///
    /// # Errors
    /// If there is no such file, or it is shorter.
    pub fn damage(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.tree.lock().file(path)?.lock().damage(at, bytes)
    }

    /// Rot that a power cut heals: what a process reads changes, what is durable does not. Says whether it was done; what
    /// is still to be synced is spared.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn rot(&self, path: &Path, rot: Rot) -> io::Result<bool> {
        Ok(self.tree.lock().file(path)?.lock().rot(rot))
    }

    /// A whole file's live content.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.tree.lock().file(path)?.lock().live().to_vec())
    }

    fn handle(&self, path: &Path, bytes: Arc<Mutex<FileBytes>>) -> Arc<SimFile> {
        self.shared.lock().counters.opens += 1;
        Arc::new(SimFile {
            path: path.to_path_buf(),
            bytes,
            shared: Arc::clone(&self.shared),
            held: self.held.clone(),
            sync_failed: AtomicBool::new(false),
        })
    }

    fn give_back(&self, gone: Option<Node>) {
        let bytes = gone.map_or(0, |node| node.bytes());
        let mut shared = self.shared.lock();
        shared.used = shared.used.saturating_sub(bytes);
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.tree.lock().create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.take_descriptor(dir)?;
        self.tree.lock().list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<SimFile>> {
        self.take_descriptor(path)?;
        let bytes = self.tree.lock().create(path)?;
        Ok(self.handle(path, bytes))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<SimFile>> {
        self.take_descriptor(path)?;
        let bytes = self.tree.lock().file(path)?;
        Ok(self.handle(path, bytes))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = self.tree.lock().rename(from, to)?;
        self.give_back(replaced);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let gone = self.tree.lock().remove_file(path)?;
        self.give_back(Some(gone));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let gone = self.tree.lock().remove_dir(dir)?;
        self.give_back(Some(gone));
        Ok(())
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<DirHold> {
        self.take_descriptor(dir)?;
        self.tree.lock().list(dir)?;
        self.shared.lock().holds.retain(|(_, held)| held.strong_count() > 0);
        let held = Arc::new(());
        self.shared.lock().holds.push((dir.to_path_buf(), Arc::downgrade(&held)));
        Ok(held)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let is_held = |(held, by): &(PathBuf, Weak<()>)| held == dir && by.strong_count() > 0;
        if !self.shared.lock().holds.iter().any(is_held) {
            self.take_descriptor(dir)?;
        }
        self.shared.lock().counters.dir_syncs += 1;
        self.tree.lock().sync_dir(dir)
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let shared = self.shared.lock();
        Ok(shared.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(shared.used)))
    }

    fn bytes_held(&self) -> u64 {
        self.held.bytes()
    }
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    path: PathBuf,
    bytes: Arc<Mutex<FileBytes>>,
    shared: Arc<Mutex<Shared>>,
    held: Held,
    sync_failed: AtomicBool,
}

impl SimFile {
    /// Takes room for a file that grows to `up_to`.
    fn take_room(&self, bytes: &FileBytes, up_to: u64) -> io::Result<()> {
        let more = up_to.saturating_sub(bytes.len());
        let mut shared = self.shared.lock();
        if more > 0 && shared.capacity.is_some_and(|capacity| shared.used + more > capacity) {
            return Err(self.error(io::ErrorKind::StorageFull, "no space left"));
        }
        shared.used += more;
        Ok(())
    }

    fn error(&self, kind: io::ErrorKind, text: &str) -> io::Error {
        io::Error::new(kind, format!("{}: {text}", self.path.display()))
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let mut keep = self.shared.lock().next_write_keeps.take();
        let mut bytes = self.bytes.lock();
        self.take_room(&bytes, at + total)?;
        let mut at = at;
        for part in parts {
            let kept =
                keep.map_or(part.len(), |keep| part.len().min(usize::try_from(keep).unwrap_or(usize::MAX)));
            bytes.write(at, &part[..kept]);
            at += kept as u64;
            keep = keep.map(|keep| keep - kept as u64);
            if kept < part.len() {
                break;
            }
        }
        if keep.is_some() {
            return Err(self.error(io::ErrorKind::Other, "the write failed half-way"));
        }
        let mut shared = self.shared.lock();
        shared.counters.writes += 1;
        shared.counters.bytes_written += total;
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let bytes = self.bytes.lock();
        let up_to = at + into.len() as u64;
        let found =
            bytes.range(at, up_to).ok_or_else(|| self.error(io::ErrorKind::UnexpectedEof, "too short"))?;
        into.copy_from_slice(found);
        Ok(())
    }

    fn allocate(&self, from: u64, up_to: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock();
        self.take_room(&bytes, up_to)?;
        bytes.zero(from, up_to);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut shared = self.shared.lock();
        shared.counters.file_syncs += 1;
        if self.sync_failed.load(Ordering::Relaxed) {
            return Err(self.error(io::ErrorKind::Other, "an earlier sync of this file failed"));
        }
        if shared.syncs_to_fail > 0 {
            shared.syncs_to_fail -= 1;
            self.sync_failed.store(true, Ordering::Relaxed);
            self.bytes.lock().forget_unsynced();
            return Err(self.error(io::ErrorKind::Other, "the sync failed"));
        }
        self.bytes.lock().sync();
        Ok(())
    }

    fn read(&self, from: u64, up_to: u64) -> io::Result<Bytes> {
        let bytes = self.bytes.lock();
        let found =
            bytes.range(from, up_to).ok_or_else(|| self.error(io::ErrorKind::UnexpectedEof, "too short"))?;
        Ok(self.held.hold(found.to_vec()))
    }
}

/// SplitMix64: small, and the same for ever, so that a seed means the same crash in every version.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[cfg(test)]
mod tests;
