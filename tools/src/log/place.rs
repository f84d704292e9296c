//! Finding logs: a broker's data directory with many groups, or one group's directory of segment files.

use super::disk::ReadOnlyDisk;
use anyhow::{Context as _, bail};
use raftline_client::proto::ids::{GroupId, Position};
use raftline_storage::segment::{COMPACTED_HEADER_BYTES, SegmentHeader, sequence_of};
use raftline_storage::{Disk, DiskFile, Log, OpenError, StateFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// One group's log on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// Whose.
    pub group: GroupId,
    /// Where its segments are.
    pub dir: PathBuf,
    /// What was known to be durable; zero if nothing says so.
    pub floor: Position,
}

impl LogPlace {
    /// Opens the log for reading.
    ///
    /// # Errors
    /// It is damaged below its floor, or cannot be read.
    pub fn open(&self) -> Result<Log<ReadOnlyDisk>, OpenError> {
        Log::inspect(ReadOnlyDisk, &self.dir, self.group, self.floor)
    }
}

/// The logs in `path`, by group; only that of `wanted` if it is given.
///
/// # Errors
/// There are none.
pub fn find(path: &Path, wanted: Option<GroupId>) -> anyhow::Result<Vec<LogPlace>> {
    let groups = path.join("groups");
    let mut places = if groups.is_dir() { of_broker(path, &groups)? } else { of_group(path)? };
    if let Some(wanted) = wanted {
        let all: Vec<String> = places.iter().map(|place| place.group.to_string()).collect();
        places.retain(|place| place.group == wanted);
        if places.is_empty() {
            bail!("{} holds no group {wanted}, but groups {}", path.display(), all.join(", "));
        }
    }
    places.sort_unstable_by_key(|place| place.group);
    Ok(places)
}

fn of_broker(path: &Path, groups: &Path) -> anyhow::Result<Vec<LogPlace>> {
    let floors = floors(path)?;
    let mut places = Vec::new();
    for name in ReadOnlyDisk.list(groups).with_context(|| format!("cannot list {}", groups.display()))? {
        // Other names are deleted groups on their way out.
        if let Ok(group) = name.parse().map(GroupId) {
            let floor = floors.get(&group).copied().unwrap_or_default();
            places.push(LogPlace { group, dir: groups.join(name), floor });
        }
    }
    Ok(places)
}

/// What each shard's state file vouches for.
fn floors(path: &Path) -> anyhow::Result<BTreeMap<GroupId, Position>> {
    let mut floors = BTreeMap::new();
    for name in ReadOnlyDisk.list(path).with_context(|| format!("cannot list {}", path.display()))? {
        let Some(shard) = name.strip_prefix("shard-").and_then(|number| number.parse().ok()) else {
            continue;
        };
        let dir = path.join(&name);
        let states = StateFile::inspect(&ReadOnlyDisk, &dir, shard);
        let states = states.with_context(|| format!("the state file in {} cannot be read", dir.display()))?;
        floors.extend(states.into_iter().map(|(group, state)| (group, state.floor)));
    }
    Ok(floors)
}

/// A directory of segments names its group in the first header that can be read.
fn of_group(path: &Path) -> anyhow::Result<Vec<LogPlace>> {
    let names = ReadOnlyDisk.list(path).with_context(|| format!("cannot list {}", path.display()))?;
    let segments: Vec<String> = names.into_iter().filter(|name| sequence_of(name).is_some()).collect();
    if segments.is_empty() {
        bail!(
            "{} holds no logs: name a broker's data directory, or the directory of one group's segments in its `groups`",
            path.display()
        );
    }
    for name in &segments {
        if let Ok(Ok(header)) = head(&path.join(name)).map(|head| SegmentHeader::decode(&head)) {
            return Ok(vec![LogPlace { group: header.group, dir: path.to_owned(), floor: Position::ZERO }]);
        }
    }
    bail!("{}: none of the segment files has a header that can be read", path.display())
}

/// The bytes at the start of a file in which a segment's header stands.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let file = ReadOnlyDisk.open(path)?;
    let length = file.len()?.min(COMPACTED_HEADER_BYTES);
    let mut head = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_at(&mut head, 0)?;
    Ok(head)
}
