//! Whether the directory's state files are those of the shards that are about to start.
//!
//! A group's vote and durable floor stand in its shard's state file. Started with another number of shards, a group
//! would find an empty file:
//! 1. group 1 votes in term 5; the vote is in `shard-0/state`;
//! 2. the broker restarts with two shards, and group 1 now looks into `shard-1/state`;
//! 3. it votes in term 5 again, for somebody else: two leaders.

use raftline_storage::Disk;
use std::io;
use std::path::{Path, PathBuf};

/// Why the shards must not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardDirsError {
    /// The groups were kept by another number of shards.
    #[error(
        "{data_dir} was written by {found} shard(s), and {configured} are configured: start it with --shards {found}"
    )]
    Count {
        /// The data directory.
        data_dir: PathBuf,
        /// How many shards it was written by.
        found: usize,
        /// How many are to start.
        configured: usize,
    },
    /// The votes of one shard's groups are gone.
    #[error(
        "{file} is missing, and with it the votes of this directory's groups: put it back, or set the directory aside \
         and let the node join as a new one; it must not vote without them"
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The directory cannot be listed.
    #[error("the data directory cannot be listed: {0}")]
    Io(#[from] io::Error),
}

/// Checks a directory that holds groups; one without any fits every number of shards.
///
/// # Errors
/// See [`ShardDirsError`].
pub fn check<D: Disk>(disk: &D, data_dir: &Path, configured: usize) -> Result<(), ShardDirsError> {
    let is_group = |name: &String| name.parse::<u64>().is_ok();
    if !list(disk, &data_dir.join("groups"))?.iter().any(is_group) {
        return Ok(());
    }
    let number = |name: String| name.strip_prefix("shard-").and_then(|number| number.parse::<usize>().ok());
    let numbers: Vec<usize> = list(disk, data_dir)?.into_iter().filter_map(number).collect();
    let found = numbers.iter().max().map_or(0, |last| last + 1);
    for shard in 0..found.max(1) {
        let folder = data_dir.join(format!("shard-{shard}"));
        if !list(disk, &folder)?.iter().any(|name| name == "state") {
            return Err(ShardDirsError::Missing { file: folder.join("state") });
        }
    }
    if found != configured {
        return Err(ShardDirsError::Count { data_dir: data_dir.to_owned(), found, configured });
    }
    Ok(())
}

fn list<D: Disk>(disk: &D, folder: &Path) -> io::Result<Vec<String>> {
    match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_storage::RealDisk;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            std::fs::write(path, b"").expect("it can be written");
        }
        folder
    }

    fn verdict(files: &[&str], configured: usize) -> Result<(), ShardDirsError> {
        let folder = folder(files);
        let disk = RealDisk::new(folder.path()).expect("the folder is there");
        check(&disk, folder.path(), configured)
    }

    #[test]
    fn a_directory_without_groups_fits_any_number() {
        assert!(verdict(&[], 2).is_ok());
        assert!(verdict(&["shard-0/state"], 2).is_ok());
    }

    #[test]
    fn another_number_of_shards_is_refused_with_the_right_one() {
        let files = ["shard-0/state", "groups/7/x"];
        assert!(verdict(&files, 1).is_ok());
        let error = verdict(&files, 2).expect_err("the votes of group 7 would be forgotten");
        assert!(error.to_string().contains("--shards 1"), "{error}");
        let error = verdict(&["shard-0/state", "shard-1/state", "groups/7/x"], 1).expect_err("likewise");
        assert!(error.to_string().contains("--shards 2"), "{error}");
    }

    #[test]
    fn a_lost_state_file_is_named() {
        for files in [&["groups/7/x"][..], &["shard-1/state", "groups/7/x"], &["shard-0/other", "groups/7/x"]]
        {
            let error = verdict(files, 1).expect_err("the votes are gone");
            assert!(error.to_string().contains("shard-0/state is missing"), "{error}");
        }
    }
}
