//! How many replicas this broker can hold, by what the machine gives it.

use std::fmt;
use std::io;
use std::path::Path;

/// What bounds it, and the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// So many replicas.
    pub replicas: u32,
    /// The scarcest of them all.
    pub bound: Bound,
}

/// What a replica takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Descriptors of this process (`ulimit -n`): half of them are for replicas, at least all but 8,192. One that is written
    /// to holds one.
    Descriptors(u64),
    /// Memory maps of this process (`vm.max_map_count`), less 1,024. One that is read holds one.
    Maps(u64),
    /// The data directory's disk, in bytes: 64 KiB for a replica that holds little.
    Disk(u64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptors(count) => write!(f, "{count} descriptors (ulimit -n)"),
            Self::Maps(count) => write!(f, "{count} memory maps (vm.max_map_count)"),
            Self::Disk(bytes) => write!(f, "a disk of {} MiB", bytes >> 20),
        }
    }
}

/// What this process has.
///
/// # Errors
/// The disk cannot be asked.
pub fn of_this_process(data_dir: &Path) -> io::Result<Capacity> {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    let maps = maps.ok().and_then(|text| text.trim().parse().ok());
    let disk = rustix::fs::statvfs(data_dir)?;
    Ok(least(descriptors, maps, disk.f_blocks.saturating_mul(disk.f_frsize)))
}

fn least(descriptors: Option<u64>, maps: Option<u64>, disk_bytes: u64) -> Capacity {
    let of_descriptors = |all: u64| (all - (all / 2).min(DESCRIPTORS_APART_MAX), Bound::Descriptors(all));
    let of_maps = |all: u64| (all.saturating_sub(MAPS_APART), Bound::Maps(all));
    let bounds = [
        descriptors.map(of_descriptors),
        maps.map(of_maps),
        Some((disk_bytes / REPLICA_BYTES_MIN, Bound::Disk(disk_bytes))),
    ];
    let least = bounds.into_iter().flatten().min_by_key(|(replicas, _)| *replicas);
    let (replicas, bound) = least.unwrap_or((u64::MAX, Bound::Disk(disk_bytes)));
    Capacity { replicas: u32::try_from(replicas.max(1)).unwrap_or(u32::MAX), bound }
}

/// Descriptors for connections and all else, where there are many.
const DESCRIPTORS_APART_MAX: u64 = 8192;

/// Maps of what is no log: libraries, stacks, the allocator.
const MAPS_APART: u64 = 1024;

/// The first step of a segment, its directory, and what the state file says of it; several times that.
const REPLICA_BYTES_MIN: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcest_counts_and_is_named() {
        let found = least(Some(256), Some(65_530), 1 << 40);
        assert_eq!(found, Capacity { replicas: 128, bound: Bound::Descriptors(256) });
        assert_eq!(least(Some(65_536), Some(65_530), 1 << 40).replicas, 57_344);
        let found = least(Some(1 << 20), Some(65_530), 1 << 40);
        assert_eq!(found, Capacity { replicas: 64_506, bound: Bound::Maps(65_530) });
        let found = least(None, None, 64 << 20);
        assert_eq!(found, Capacity { replicas: 1024, bound: Bound::Disk(64 << 20) });
        assert_eq!(least(Some(0), Some(0), 0).replicas, 1, "never unknown");
    }
}
