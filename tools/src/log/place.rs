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
    /// What was known to be durable. `None` where no state file says so: then a log that lost its end looks like one
    /// that never had it.
    pub floor: Option<Position>,
}

impl LogPlace {
    /// Opens the log for reading.
    ///
    /// # Errors
    /// It is damaged below its floor, or cannot be read.
    pub fn open(&self) -> Result<Log<ReadOnlyDisk>, OpenError> {
        Log::inspect(ReadOnlyDisk, &self.dir, self.group, self.floor.unwrap_or_default())
    }
}

/// The logs in `path`, by group; only that of `wanted` if it is given.
///
/// # Errors
/// There are none.
pub fn find(path: &Path, wanted: Option<GroupId>) -> anyhow::Result<Vec<LogPlace>> {
    let groups = path.join("groups");
    let mut places = if groups.is_dir() { of_broker(path, &groups)? } else { vec![of_group(path)?] };
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
    let mut vouched = Vouched::read(path)?;
    let mut places = Vec::new();
    for name in ReadOnlyDisk.list(groups).with_context(|| format!("cannot list {}", groups.display()))? {
        // Other names are deleted groups on their way out.
        if let Ok(group) = name.parse().map(GroupId) {
            let floor = vouched.take(group);
            places.push(LogPlace { group, dir: groups.join(name), floor });
        }
    }
    // A group whose directory is gone has lost all that was durable of it. Of a group that was deleted nothing is kept.
    let gone = vouched.floors.into_iter().filter(|(_, floor)| *floor > Position::ZERO);
    places.extend(gone.map(|(group, floor)| {
        let dir = groups.join(group.to_string());
        LogPlace { group, dir, floor: Some(floor) }
    }));
    Ok(places)
}

/// What a broker's state files say was durable.
struct Vouched {
    floors: BTreeMap<GroupId, Position>,
    /// Whether each shard's file is there. Otherwise a group that none of them names may stand in one that is not.
    complete: bool,
}

impl Vouched {
    /// Reads the state file of each shard.
    fn read(path: &Path) -> anyhow::Result<Self> {
        let names = ReadOnlyDisk.list(path).with_context(|| format!("cannot list {}", path.display()))?;
        let number = |name: &String| name.strip_prefix("shard-").and_then(|number| number.parse().ok());
        let shards: Vec<u32> = names.iter().filter_map(number).collect();
        let count = shards.iter().max().map_or(0, |last| last + 1);
        let mut vouched = Self { floors: BTreeMap::new(), complete: count > 0 };
        for shard in 0..count {
            let dir = path.join(format!("shard-{shard}"));
            let unreadable = || format!("the state file in {} cannot be read", dir.display());
            let there = StateFile::generation_of(&ReadOnlyDisk, &dir, shard).with_context(unreadable)?;
            vouched.complete &= there.is_some();
            let states = StateFile::inspect(&ReadOnlyDisk, &dir, shard).with_context(unreadable)?;
            vouched.floors.extend(states.into_iter().map(|(group, state)| (group, state.floor)));
        }
        Ok(vouched)
    }

    /// What was durable of a group: nothing, if all files are there and none names it.
    fn take(&mut self, group: GroupId) -> Option<Position> {
        self.floors.remove(&group).or_else(|| self.complete.then_some(Position::ZERO))
    }
}

/// One group's directory. Where it lies in a broker's data directory, its shard's state file says what was durable, and
/// its own name whose it is: a directory that has lost its segments has lost those, too.
fn of_group(path: &Path) -> anyhow::Result<LogPlace> {
    let names = ReadOnlyDisk.list(path).with_context(|| format!("cannot list {}", path.display()))?;
    let segments: Vec<String> = names.into_iter().filter(|name| sequence_of(name).is_some()).collect();
    if let Some((data_dir, group)) = home(path) {
        let mut vouched = Vouched::read(&data_dir)?;
        // With neither segments nor a floor there is nothing that could be wrong, or looked at.
        if let Some(floor) =
            vouched.take(group).filter(|floor| !segments.is_empty() || *floor > Position::ZERO)
        {
            return Ok(LogPlace { group, dir: path.to_owned(), floor: Some(floor) });
        }
    }
    if segments.is_empty() {
        bail!(
            "{} holds no logs: name a broker's data directory, or the directory of one group's segments in its `groups`",
            path.display()
        );
    }
    for name in &segments {
        if let Ok(Ok(header)) = head(&path.join(name)).map(|head| SegmentHeader::decode(&head)) {
            return Ok(LogPlace { group: header.group, dir: path.to_owned(), floor: None });
        }
    }
    bail!("{}: none of the segment files has a header that can be read", path.display())
}

/// The data directory in whose `groups` this directory lies, and the group whose it is by its name.
fn home(path: &Path) -> Option<(PathBuf, GroupId)> {
    let path = path.canonicalize().ok()?;
    let group = path.file_name()?.to_str()?.parse().map(GroupId).ok()?;
    let groups = path.parent()?;
    (groups.file_name()? == "groups").then_some((groups.parent()?.to_owned(), group))
}

/// The bytes at the start of a file in which a segment's header stands.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let file = ReadOnlyDisk.open(path)?;
    let length = file.len()?.min(COMPACTED_HEADER_BYTES);
    let mut head = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_at(&mut head, 0)?;
    Ok(head)
}
