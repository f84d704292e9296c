//! Ballast: room that is kept for the next start, so that a broker starts on a disk without any.
//!
//! A start writes before it serves: its count of starts, its state files anew, where it listens. That is little, and most of
//! it takes the place of what was there. So a file of [`BALLAST_BYTES`] is kept in the data directory. A start that finds
//! less room than that removes it first, and puts one back once it is up: half of what there is then. The other half is for
//! what a cluster has to write to be of use on a full disk: votes, and each new leader's first entry.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
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
    if free_bytes(directory)? >= BALLAST_BYTES {
        return Ok(());
    }
    match std::fs::remove_file(directory.join(NAME)) {
        Ok(()) => {
            tracing::warn!(directory = %directory.display(), "the disk is full: using the room kept for a start");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Keeps room for the next start: half of what there is, at most [`BALLAST_BYTES`].
///
/// # Errors
/// There is hardly any.
pub fn keep(directory: &Path) -> io::Result<()> {
    let path = directory.join(NAME);
    let held = std::fs::metadata(&path).map_or(0, |held| held.len());
    let bytes = (free_bytes(directory)? / 2).min(BALLAST_BYTES);
    if held >= bytes.max(BALLAST_BYTES_MIN) {
        return Ok(());
    }
    if bytes < BALLAST_BYTES_MIN {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let made = made.and_then(|file| fill(&file, bytes));
    if made.is_err() {
        // What was made before it failed is given back.
        drop(std::fs::remove_file(&path));
    }
    made
}

/// Takes room for a file. Where the file system cannot reserve any, zeros are written.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 64 << 10];
            let mut left = bytes;
            let mut file = file;
            while left > 0 {
                let count = left.min(zeros.len() as u64);
                file.write_all(&zeros[..usize::try_from(count).unwrap_or(zeros.len())])?;
                left -= count;
            }
            Ok(())
        }
        reserved => Ok(reserved?),
    }
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(directory)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
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
