//! For tests of what surrounds an executor.

use super::tests::world::Machine;
use super::{GroupId, SyncRound};
use raftline_storage::SimDisk;

/// A sync round over so many freshly written groups of a shard.
pub fn rounds(disk: &SimDisk, shard: usize, groups: u64) -> SyncRound<SimDisk> {
    let mut machine = Machine::on_shard(disk.clone(), u32::try_from(shard).unwrap());
    let groups = (0..groups).map(|group| GroupId(1000 * shard as u64 + group));
    groups.clone().for_each(|group| drop(machine.open(group)));
    groups.for_each(|group| machine.append_to(group, 1, &[1]));
    machine.turn();
    machine.world.rounds.pop().expect("something was written")
}
