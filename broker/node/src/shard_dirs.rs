//! Whether the directory's state files are those of the shards that are about to start.
//!
//! A group's vote and durable floor stand in its shard's state file. Started with another number of shards, a group
//! would find an empty file:
//! 1. group 1 votes in term 5; the vote is in `shard-0/state`;
//! 2. the broker restarts with two shards, and group 1 now looks into `shard-1/state`;
//! 3. it votes in term 5 again, for somebody else: two leaders.

use raftline_storage::{Disk, StateError, StateFile};
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
        "{file} is missing, and with it the votes of this directory's groups: put it back as it was. The \
         node must not vote without them: one that has lost them cannot take part any more, and nothing replaces it yet"
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A state file is older than the directory's identity knows.
    #[error(
        "{file} is an old copy: it was opened {found} times, and the directory's identity knows of {promised}. Votes of \
         this node are missing in it: put the right file back; it must not vote without them"
    )]
    Older {
        /// The file.
        file: PathBuf,
        /// Its generation.
        found: u64,
        /// The generation that was opened last.
        promised: u64,
    },
    /// A state file cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The directory cannot be listed.
    #[error("the data directory cannot be listed: {0}")]
    Io(#[from] io::Error),
}

/// Checks that the state files are there that the directory's identity promises, and none is an older one: for each
/// shard, `promised` has the generation that was opened last. Whoever removes `groups` and `shard-0` and keeps the identity
/// would else get a node that votes as its former self, and has forgotten all.
///
/// # Errors
/// See [`ShardDirsError`].
pub fn check_promised<D: Disk>(disk: &D, data_dir: &Path, promised: &[u64]) -> Result<(), ShardDirsError> {
    for (shard, promised) in (0..).zip(promised.iter().copied()) {
        let folder = data_dir.join(format!("shard-{shard}"));
        let file = folder.join("state");
        match StateFile::generation_of(disk, &folder, shard)? {
            None => return Err(ShardDirsError::Missing { file }),
            Some(found) if found < promised => return Err(ShardDirsError::Older { file, found, promised }),
            Some(_) => {}
        }
    }
    Ok(())
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
    fn what_the_identity_promises_must_be_there_and_no_older() {
        let folder = folder(&[]);
        let disk = RealDisk::new(folder.path()).expect("the folder is there");
        assert!(check_promised(&disk, folder.path(), &[]).is_ok());
        let shard = folder.path().join("shard-0");
        let open = || drop(StateFile::open(disk.clone(), &shard, 0).expect("it can be made"));
        open();
        let old = std::fs::read(shard.join("state")).expect("it is there");
        open();
        assert!(check_promised(&disk, folder.path(), &[2]).is_ok());
        std::fs::write(shard.join("state"), old).expect("it can be written");
        let error = check_promised(&disk, folder.path(), &[2]).expect_err("votes are missing");
        assert!(error.to_string().contains("shard-0/state is an old copy"), "{error}");
        std::fs::remove_dir_all(&shard).expect("it can be removed");
        let error = check_promised(&disk, folder.path(), &[2]).expect_err("all votes are gone");
        assert!(error.to_string().contains("shard-0/state is missing"), "{error}");
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
