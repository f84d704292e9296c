//! What a log needs of a disk: two traits with two implementations, [`crate::RealDisk`] and [`crate::SimDisk`].
//!
//! A directory operation (create, rename, remove) survives a power cut only after [`Disk::sync_dir`] on the directory
//! that holds the name; written bytes only after [`DiskFile::sync_data`]. The simulated disk takes both literally.

use bytes::Bytes;
use std::any::Any;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Keeps a directory's descriptor open: see [`Disk::hold_dir`].
pub type DirHold = Arc<dyn Any + Send + Sync>;

/// The kind of the error that says that there is no descriptor left.
pub(crate) const SHORTAGE: io::ErrorKind = io::ErrorKind::ResourceBusy;

/// Whether something could not be opened for want of a descriptor. It is no failed sync, and no damage: it may be tried
/// again.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    error.kind() == SHORTAGE
}

/// A file system, or a part of one.
pub trait Disk: Clone + Send + Sync + 'static {
    /// Its open files.
    type File: DiskFile;

    /// Creates a directory and those above it, where they are missing.
    ///
    /// # Errors
    /// As the file system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates an empty file, open for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<Self::File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<Self::File>>;

    /// Gives a file another name, in place of whatever has that name.
    ///
    /// # Errors
    /// As the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Open files of it stay valid.
    ///
    /// # Errors
    /// As the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Takes a descriptor of a directory, for [`Disk::sync_dir`] to use as long as this is held: before a name in it changes
    /// that must be made durable. Later there may be none left, and a name that cannot be made durable is a failed sync.
    ///
    /// # Errors
    /// [`is_shortage`] if the process has no descriptor left. Nothing has happened: try again later.
    fn hold_dir(&self, dir: &Path) -> io::Result<DirHold> {
        let _ = dir;
        Ok(Arc::new(()))
    }

    /// Makes the names in a directory durable as they are now.
    ///
    /// # Errors
    /// The names may or may not be durable then.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How many bytes are free where `dir` is.
    ///
    /// # Errors
    /// As the file system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Makes everything on the file system durable, files and names, in one call; `None` where that is not
    /// possible, or would pay for the writes of strangers.
    fn sync_filesystem(&self) -> Option<io::Result<()>> {
        None
    }

    /// Whether [`Disk::sync_filesystem`] does something.
    fn can_sync_filesystem(&self) -> bool {
        false
    }

    /// How many bytes that [`DiskFile::read`] gave are in memory still: what waits for clients that take it slowly.
    fn bytes_held(&self) -> u64 {
        0
    }
}

/// An open file. Methods take `&self`: a sync may run beside writes, and covers those that came before it.
pub trait DiskFile: Send + Sync + 'static {
    /// Its size in bytes.
    ///
    /// # Errors
    /// As the file system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Writes all parts, back to back, from byte `at` on.
    ///
    /// # Errors
    /// Any part of the bytes may be in the file then.
    fn write_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()>;

    /// Fills `into` from byte `at` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;

    /// Makes `[from, up_to)` zeros that the file system has room for, and the file at least `up_to` long.
    ///
    /// # Errors
    /// `StorageFull` if there is no room. A part may have been made then.
    fn allocate(&self, from: u64, up_to: u64) -> io::Result<()>;

    /// Makes room for `[from, up_to)`, which reads as zeros, and the file at least `up_to` long. Quicker now than
    /// [`DiskFile::allocate`], and slower at the sync after the first write into it: for large writes, which would
    /// otherwise be paid for twice.
    ///
    /// # Errors
    /// As [`DiskFile::allocate`].
    fn reserve(&self, from: u64, up_to: u64) -> io::Result<()> {
        self.allocate(from, up_to)
    }

    /// Makes durable what was written so far, and the size with it. After one failure every later call fails too: the
    /// kernel drops pages that it could not write, so that a second "success" would mean nothing.
    ///
    /// # Errors
    /// What was written since the last success may be lost. Never try again: stop the process.
    fn sync_data(&self) -> io::Result<()>;

    /// The bytes `[from, up_to)`, read into memory.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before `up_to`.
    fn read(&self, from: u64, up_to: u64) -> io::Result<Bytes>;
}
