//! The open files of one log: few, opened when needed, so that an idle log holds no descriptor and no map.

use crate::disk::Disk;
use crate::segment::file_name;
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A log's directory with its most recently used files held open.
pub(crate) struct OpenFiles<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    /// The most recently used last. At most [`OPEN_FILES_MAX`].
    open: Mutex<Vec<(u64, Arc<D::File>)>>,
    /// Files to be removed by whoever asks; `None`: they are removed here.
    removed: Mutex<Option<Vec<PathBuf>>>,
}

/// The segment being written, and those that a few readers are in.
const OPEN_FILES_MAX: usize = 4;

impl<D: Disk> OpenFiles<D> {
    pub(crate) fn new(disk: D, dir: PathBuf) -> Self {
        Self { disk, dir, open: Mutex::new(Vec::new()), removed: Mutex::new(None) }
    }

    pub(crate) fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(file_name(sequence))
    }

    /// The file of segment `sequence`, opened if it is not open.
    pub(crate) fn get(&self, sequence: u64) -> io::Result<Arc<D::File>> {
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|(held, _)| *held == sequence) {
            let last = open.len() - 1;
            if at != last {
                open[at..].rotate_left(1);
            }
            return Ok(Arc::clone(&open[last].1));
        }
        let file = self.disk.open(&self.path(sequence))?;
        Self::push(&mut open, sequence, &file);
        Ok(file)
    }

    /// Creates the file of segment `sequence`.
    pub(crate) fn create(&self, sequence: u64) -> io::Result<Arc<D::File>> {
        let file = self.disk.create(&self.path(sequence))?;
        Self::push(&mut self.open.lock(), sequence, &file);
        Ok(file)
    }

    /// Removes the file of segment `sequence`. One that is gone already is as good.
    pub(crate) fn remove(&self, sequence: u64) -> io::Result<()> {
        self.open.lock().retain(|(held, _)| *held != sequence);
        if let Some(removed) = &mut *self.removed.lock() {
            removed.push(self.path(sequence));
            return Ok(());
        }
        match self.disk.remove(&self.path(sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// From now on files are not removed here, but given out.
    pub(crate) fn remove_later(&self) {
        self.removed.lock().get_or_insert_default();
    }

    /// The files that are to be removed.
    pub(crate) fn take_removed(&self) -> Vec<PathBuf> {
        self.removed.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Closes the file of segment `sequence`, whose name is another file's now.
    pub(crate) fn forget(&self, sequence: u64) {
        self.open.lock().retain(|(held, _)| *held != sequence);
    }

    /// Closes all.
    pub(crate) fn close(&self) {
        self.open.lock().clear();
    }

    fn push(open: &mut Vec<(u64, Arc<D::File>)>, sequence: u64, file: &Arc<D::File>) {
        if open.len() >= OPEN_FILES_MAX {
            open.remove(0);
        }
        open.push((sequence, Arc::clone(file)));
    }
}
