//! A disk that can only be read: what the offline commands give to storage, so that no mistake can change a file.

use bytes::Bytes;
use raftline_storage::{Disk, DiskFile};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The real file system, read-only.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnlyDisk;

/// A file open for reading.
#[derive(Debug)]
pub struct ReadOnlyFile(File);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "offline commands change nothing"))
}

impl Disk for ReadOnlyDisk {
    type File = ReadOnlyFile;

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, _: &Path) -> io::Result<Arc<ReadOnlyFile>> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<ReadOnlyFile>> {
        Ok(Arc::new(ReadOnlyFile(File::open(path)?)))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        refused()
    }
}

impl DiskFile for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        refused()
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        refused()
    }

    fn read(&self, from: u64, up_to: u64) -> io::Result<Bytes> {
        let length = usize::try_from(up_to - from).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, from)?;
        Ok(bytes.into())
    }
}
