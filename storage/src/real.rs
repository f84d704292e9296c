//! The disk of the operating system.

use crate::disk::{DirHold, Disk, DiskFile, SHORTAGE};
use crate::held::Held;
use crate::map::Map;
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::fs::FallocateFlags;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The real file system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    /// The data directory, open, if it has a file system of its own. Held open for the life of the process: `syncfs`
    /// reports an error of the past only to descriptors that were open when it happened.
    own_filesystem: Option<Arc<File>>,
    held: Held,
    /// Directories whose descriptor somebody holds.
    dirs: Arc<Mutex<BTreeMap<PathBuf, Weak<File>>>>,
}

impl RealDisk {
    /// The disk that holds `data_dir`, which must exist.
    ///
    /// # Errors
    /// If the directory cannot be opened.
    pub fn new(data_dir: &Path) -> io::Result<Self> {
        let directory = File::open(data_dir).map_err(|error| named(data_dir, &error))?;
        // Older kernels tell syncfs of no error of the past, so there it proves nothing.
        let own = syncfs_tells_errors() && has_own_filesystem(data_dir)?;
        let own_filesystem = own.then(|| Arc::new(directory));
        Ok(Self { own_filesystem, held: Held::default(), dirs: Arc::default() })
    }

    fn open_with(&self, path: &Path, options: &OpenOptions) -> io::Result<Arc<RealFile>> {
        let file = options.open(path).map_err(|error| named(path, &error))?;
        Ok(Arc::new(RealFile {
            file,
            path: path.to_path_buf(),
            map: Mutex::new(None),
            sliced_from: AtomicU64::new(u64::MAX),
            sliced_up_to: AtomicU64::new(0),
            held: self.held.clone(),
            sync_failed: AtomicBool::new(false),
            syncing: Mutex::new(()),
        }))
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir).map_err(|error| named(dir, &error))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|error| named(dir, &error))? {
            // A name that is not UTF-8 is not one of ours.
            if let Ok(name) = entry.map_err(|error| named(dir, &error))?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<RealFile>> {
        self.open_with(path, OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<RealFile>> {
        self.open_with(path, OpenOptions::new().read(true).write(true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to).map_err(|error| named(from, &error))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path).map_err(|error| named(path, &error))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(dir).map_err(|error| named(dir, &error))
    }

    fn hold_dir(&self, dir: &Path) -> io::Result<DirHold> {
        let mut dirs = self.dirs.lock();
        if let Some(directory) = dirs.get(dir).and_then(Weak::upgrade) {
            return Ok(directory);
        }
        let directory = Arc::new(File::open(dir).map_err(|error| named(dir, &error))?);
        dirs.retain(|_, held| held.strong_count() > 0);
        dirs.insert(dir.to_path_buf(), Arc::downgrade(&directory));
        Ok(directory)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let held = self.dirs.lock().get(dir).and_then(Weak::upgrade);
        let directory = held.map_or_else(|| File::open(dir).map(Arc::new), Ok);
        directory.and_then(|directory| directory.sync_all()).map_err(|error| named(dir, &error))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(dir).map_err(|error| named(dir, &error.into()))?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn sync_filesystem(&self) -> Option<io::Result<()>> {
        self.own_filesystem.as_ref().map(|directory| Ok(rustix::fs::syncfs(directory)?))
    }

    fn can_sync_filesystem(&self) -> bool {
        self.own_filesystem.is_some()
    }

    fn bytes_held(&self) -> u64 {
        self.held.bytes()
    }
}

/// An open file of a [`RealDisk`].
///
/// What is in the page cache is read through a map, without a copy; the rest by `pread`: a bad sector or a file that was
/// shortened is an error of that read then, where a map would end the process (SIGBUS).
pub struct RealFile {
    file: File,
    path: PathBuf,
    /// Covers the file as it was when last asked; made anew when it has grown past that.
    map: Mutex<Option<Arc<Map>>>,
    /// The range that holds all bytes ever handed out of the map: nothing is written there any more.
    sliced_from: AtomicU64,
    sliced_up_to: AtomicU64,
    held: Held,
    /// Set by the first failed sync, for good.
    sync_failed: AtomicBool,
    /// One sync at a time: the kernel tells an error once. Of two side by side one would come back as if all were well.
    syncing: Mutex<()>,
}

impl RealFile {
    /// The soundness of the map rests on this: see `map.rs`.
    fn assert_not_sliced(&self, from: u64, up_to: u64) {
        let sliced_from = self.sliced_from.load(Ordering::Acquire);
        let sliced_up_to = self.sliced_up_to.load(Ordering::Acquire);
        assert!(
            up_to <= sliced_from || from >= sliced_up_to,
            "{}: a write to {from}..{up_to} would change bytes handed out from {sliced_from}..{sliced_up_to}",
            self.path.display()
        );
    }

    /// The bytes out of the map, if all of them are in memory.
    fn mapped(&self, from: u64, up_to: u64) -> io::Result<Option<Bytes>> {
        let mut map = self.map.lock();
        if map.as_ref().is_none_or(|map| map.len() < up_to) {
            let len = self.len()?;
            if len < up_to {
                // Shortened: the read says so.
                return Ok(None);
            }
            *map = Some(Map::new(&self.file, len).map_err(|error| self.named(&error))?);
        }
        let (Some(map), Ok(first), Ok(end)) = (map.as_ref(), usize::try_from(from), usize::try_from(up_to))
        else {
            return Ok(None);
        };
        let bytes = map.resident(first, end);
        if bytes.is_some() {
            self.sliced_from.fetch_min(from, Ordering::AcqRel);
            self.sliced_up_to.fetch_max(up_to, Ordering::AcqRel);
        }
        Ok(bytes)
    }

    fn named(&self, error: &io::Error) -> io::Error {
        named(&self.path, error)
    }

    /// Takes room for a range that was never written, as unwritten extents, which read as zeros.
    fn take_room(&self, from: u64, up_to: u64) -> io::Result<Room> {
        if from >= up_to {
            return Ok(Room::Taken);
        }
        self.assert_not_sliced(from, up_to);
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, up_to - from) {
            Ok(()) => Ok(Room::Taken),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(Room::NotSupported),
            Err(error) => Err(self.named(&error.into())),
        }
    }

    fn fill_zeros(&self, from: u64, up_to: u64) -> io::Result<()> {
        let mut at = from;
        while at < up_to {
            let step = (up_to - at).min(ZEROS.len() as u64);
            let zeros = usize::try_from(step).map_or(&ZEROS[..], |step| &ZEROS[..step]);
            self.file.write_all_at(zeros, at).map_err(|error| self.named(&error))?;
            at += step;
        }
        Ok(())
    }

    fn write_some(&self, parts: &[IoSlice<'_>], mut at: u64) -> io::Result<()> {
        let mut rest: Vec<IoSlice<'_>> = parts.to_vec();
        let mut rest: &mut [IoSlice<'_>] = &mut rest;
        // Drops leading empty parts, so that a write of nothing is not taken for a failed one.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match rustix::io::pwritev(&self.file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.named(&error))?.len())
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut at: u64) -> io::Result<()> {
        self.assert_not_sliced(at, at + parts.iter().map(|part| part.len() as u64).sum::<u64>());
        for parts in parts.chunks(PARTS_MAX) {
            self.write_some(parts, at).map_err(|error| self.named(&error))?;
            at += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        }
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(into, at).map_err(|error| self.named(&error))
    }

    fn allocate(&self, from: u64, up_to: u64) -> io::Result<()> {
        // First the room, in as few extents as possible and with a clear "full"; then zeros, because the first write
        // into an unwritten extent costs a metadata update in the sync that follows (docs/benchmarks.md).
        self.take_room(from, up_to)?;
        self.fill_zeros(from, up_to)
    }

    fn reserve(&self, from: u64, up_to: u64) -> io::Result<()> {
        match self.take_room(from, up_to)? {
            Room::Taken => Ok(()),
            Room::NotSupported => self.fill_zeros(from, up_to),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock();
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(self.named(&io::Error::other("an earlier sync of this file failed")));
        }
        self.file.sync_data().map_err(|error| {
            self.sync_failed.store(true, Ordering::Release);
            self.named(&error)
        })
    }

    fn read(&self, from: u64, up_to: u64) -> io::Result<Bytes> {
        if from >= up_to {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = self.mapped(from, up_to)? {
            return Ok(bytes);
        }
        let count = usize::try_from(up_to.saturating_sub(from)).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count).map_err(io::Error::other)?;
        while bytes.len() < count {
            // The buffer may be larger than was asked for.
            let at = from + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => {
                    let error = format!("{} bytes long, but {up_to} were written", self.len()?);
                    return Err(self.named(&io::Error::new(io::ErrorKind::UnexpectedEof, error)));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.named(&error.into())),
            }
        }
        bytes.truncate(count);
        Ok(self.held.hold(bytes))
    }
}

/// What became of a call for room.
enum Room {
    Taken,
    /// The file system cannot do that without writing.
    NotSupported,
}

/// Linux takes at most this many parts in one `pwritev`.
const PARTS_MAX: usize = 1024;

static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Whether `dir` or its parent is a mount point other than the root: then the file system is taken to be Raftline's
/// own, and `syncfs` pays for nobody else's writes.
fn has_own_filesystem(dir: &Path) -> io::Result<bool> {
    let dir = dir.canonicalize().map_err(|error| named(dir, &error))?;
    let device = |path: &Path| std::fs::metadata(path).map(|facts| facts.dev()).map_err(|e| named(path, &e));
    let own = device(&dir)?;
    for path in dir.ancestors().take(2) {
        if let Some(parent) = path.parent()
            && device(parent)? != own
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `syncfs` tells of write-back errors: since Linux 5.8.
fn syncfs_tells_errors() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    is_since_5_8(&release)
}

fn is_since_5_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (5, 8),
        _ => false,
    }
}

/// The error with the file's name before it, and the same kind; one kind for all that say that no descriptor is left.
fn named(path: &Path, error: &io::Error) -> io::Error {
    let none_left = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    let is_short = error.raw_os_error().is_some_and(|code| none_left.contains(&code));
    let kind = if is_short { SHORTAGE } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncfs_is_believed_since_linux_5_8() {
        for (release, believed) in [
            ("5.8.0", true),
            ("5.7.19-generic", false),
            ("4.19", false),
            ("6.1.0-13-amd64", true),
            ("x", false),
        ] {
            assert_eq!(is_since_5_8(release), believed, "{release}");
        }
    }
}
