//! Faults that the simulator found, each told again in its smallest form.

use std::path::Path;

use bytes::Bytes;
use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use raftline_storage::{Log, LogOptions, SimDisk};

const GROUP: GroupId = GroupId(1);
const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, segment_ms: i64::MAX };

fn open(disk: &SimDisk) -> Log<SimDisk> {
    Log::open(disk.clone(), Path::new("/log"), GROUP, OPTIONS, Position::ZERO).expect("the log opens")
}

/// An entry of the given index, with a filler for a payload.
fn append(log: &mut Log<SimDisk>, index: u64, bytes: u32) {
    let header = EntryHeader {
        group: GROUP,
        id: EntryId::new(Term(1), Index(index)),
        kind: EntryKind::Metadata,
        base_offset: Offset(0),
        record_count: 0,
        payload_bytes: bytes,
    };
    log.append(header, [vec![7; bytes as usize].into(), Bytes::new()]);
    log.write().expect("there is room");
}

fn sync(log: &mut Log<SimDisk>) -> EntryId {
    let ticket = log.begin_sync().expect("something was written");
    ticket.run().expect("the disk works");
    log.durable_through(ticket.through())
}

/// Simulator seed 619. A segment that is dead because the entry before it was lost in a power cut must not come back
/// to life in the next one, when that entry is there again: it would cut what was acknowledged after it.
#[test]
fn a_dead_segment_stays_dead_over_the_next_power_cut() {
    let mut tried = 0;
    for seed in 0..200 {
        let disk = SimDisk::new();
        let mut log = open(&disk);
        append(&mut log, 1, 1000);
        sync(&mut log);
        append(&mut log, 2, 2500);
        // Does not fit any more: a second segment, which goes on after entry 2.
        append(&mut log, 3, 1000);
        let disk = disk.crash(seed);
        let mut log = open(&disk);
        if log.last().index != Index(1) {
            continue;
        }
        tried += 1;
        append(&mut log, 2, 2500);
        append(&mut log, 3, 100);
        assert_eq!(sync(&mut log).index, Index(3));
        for second in 0..20 {
            let found = open(&disk.crash(second)).last().index;
            assert_eq!(found, Index(3), "seeds {seed} and {second}: what was durable is gone");
        }
        assert_eq!(open(&disk.durable()).last().index, Index(3), "seed {seed}");
    }
    assert!(tried > 20, "only {tried} seeds lost entry 2");
}
