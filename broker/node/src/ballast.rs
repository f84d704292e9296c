//! Ballast: room that is kept for the next start, so that a broker starts on a disk without any.
//!
//! A start writes before it serves: its count of starts, its state files anew, where it listens. That is little, and most of
//! it takes the place of what was there. So a file of [`BALLAST_BYTES`] is kept in the data directory. A start that finds
//! less room than that removes it first, and puts one back once it is up: half of what there is then. The other half is for
//! what a cluster has to write to be of use on a full disk: votes, and each new leader's first entry.

use raftline_storage::{Disk, DiskFile, RealDisk};
use std::io;
use std::path::Path;

/// How much is kept. State files are written anew beside the old ones: 64 bytes a group, and a page or two.
pub const BALLAST_BYTES: u64 = 8 << 20;

/// Less is of no use.
const BALLAST_BYTES_MIN: u64 = 64 << 10;

const NAME: &str = "ballast";

/// Gives the ballast up if there is less room than it takes.
///
/// # Errors
/// As the file system says.
pub fn drop_if_tight(directory: &Path) -> io::Result<()> {
    let (disk, path) = (RealDisk::new(directory)?, directory.join(NAME));
    if disk.free_bytes(directory)? < BALLAST_BYTES && path.exists() {
        tracing::warn!(directory = %directory.display(), "the disk is full: using the room kept for a start");
        disk.remove(&path)?;
    }
    Ok(())
}

/// Keeps room for the next start: half of what there is, at most [`BALLAST_BYTES`].
///
/// # Errors
/// There is hardly any.
pub fn keep(directory: &Path) -> io::Result<()> {
    let disk = RealDisk::new(directory)?;
    let path = directory.join(NAME);
    let held = std::fs::metadata(&path).map_or(0, |held| held.len());
    let bytes = (disk.free_bytes(directory)? / 2).min(BALLAST_BYTES);
    if held >= bytes.max(BALLAST_BYTES_MIN) {
        return Ok(());
    }
    if bytes < BALLAST_BYTES_MIN {
        return Err(io::ErrorKind::StorageFull.into());
    }
    disk.remove(&path).or_else(gone_is_as_good)?;
    let made = disk.create(&path).and_then(|file| file.reserve(0, bytes));
    if made.is_err() {
        // What was made before it failed is given back.
        drop(disk.remove(&path));
    }
    made
}

fn gone_is_as_good(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_once_and_goes_only_when_room_is_short() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join(NAME);
        keep(directory.path()).expect("there is room");
        keep(directory.path()).expect("it is there");
        assert_eq!(std::fs::metadata(&file).expect("it is there").len(), BALLAST_BYTES);
        drop_if_tight(directory.path()).expect("nothing to do");
        assert!(file.exists(), "this disk has room");
    }
}
