//! The offline commands over a compacted log.

use raftline_client::proto::batch::{Builder, Codec, stamped};
use raftline_client::proto::entry::{EntryHeader, EntryKind};
use raftline_client::proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use raftline_client::proto::time::Timestamp;
use raftline_storage::{CompactionRule, Log, LogOptions, RealDisk};
use raftline_tools::log::diff::compare;
use raftline_tools::log::place::find;
use raftline_tools::log::verify::check;
use std::path::Path;
use std::process::{Command, Stdio};

const GROUP: GroupId = GroupId(5);

/// A log of a no-op and ten batches, each with a record of its own key and one of a key that all have.
fn log_in(dir: &Path) -> Log<RealDisk> {
    let disk = RealDisk::new(dir).expect("there");
    let options = LogOptions { segment_bytes: 1 << 20, segment_ms: i64::MAX };
    let mut log = Log::open(disk, dir, GROUP, options, Position::ZERO).expect("opened");
    let mut header = EntryHeader {
        group: GROUP,
        id: EntryId::new(Term(1), Index(1)),
        kind: EntryKind::NoOp,
        base_offset: Offset(0),
        record_count: 0,
        payload_bytes: 0,
    };
    log.append(header, Default::default());
    for number in 0..10 {
        let mut builder = Builder::new(Codec::Lz4);
        let own = format!("own {number}");
        let key = if number % 3 == 0 { "all" } else { own.as_str() };
        builder.push(Timestamp(number), Some(key.as_bytes()), Some(b"value"), &[]).expect("fits");
        builder.push(Timestamp(number), Some(b"all"), Some(b"value"), &[]).expect("fits");
        let batch = builder.build();
        header = EntryHeader {
            id: EntryId::new(Term(1), header.id.index.next()),
            kind: EntryKind::Data,
            base_offset: header.next_offset(),
            record_count: 2,
            payload_bytes: u32::try_from(batch.len()).expect("small"),
            ..header
        };
        log.append(header, stamped(&batch, header.base_offset, Term(1)));
    }
    log.write().expect("written");
    let ticket = log.begin_sync().expect("something to sync");
    ticket.run().expect("synced");
    log.durable_through(ticket.through());
    log
}

fn raftline(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_compacted_log_is_shown_verified_and_compared() {
    let dirs = [tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made")];
    let [raw, compacted] = dirs.each_ref().map(tempfile::TempDir::path);
    drop(log_in(raw));
    let mut log = log_in(compacted);
    let rule =
        CompactionRule { through: Index(9), tombstones_before: Offset::ZERO, memory_bytes_max: 1 << 20 };
    let job = log.compaction(rule).expect("durable").expect("something to do");
    let done = job.run().expect("compacted");
    log.adopt(done).expect("adopted");
    drop(log);

    let places = [raw, compacted].map(|dir| find(dir, None).expect("a log").remove(0));
    let checked = places.each_ref().map(check);
    assert_eq!(checked.each_ref().map(|checked| checked.damage.clone()), [None, None]);
    // Of the eight batches through entry 9, five have a key of their own, and the last one has the common key's last
    // record.
    assert_eq!(checked.each_ref().map(|checked| (checked.entries, checked.records)), [(11, 20), (11, 10)]);

    let comparison = compare(&places.map(Some)).expect("readable");
    assert_eq!((comparison.compared, comparison.difference.clone()), (11, None));
    assert!(comparison.identical());

    let path = compacted.to_str().expect("text");
    let dump = raftline(&["log", "dump", path, "--records"]);
    assert!(dump.contains("entry 1.1 dropped by compaction\n"), "{dump}");
    assert!(dump.contains("entry 1.2 offsets 0 to 1 dropped by compaction\n"), "{dump}");
    assert!(dump.contains("entry 1.3 offsets 2 to 3 with 1 records left"), "{dump}");
    let json = raftline(&["log", "dump", path, "-o", "json"]);
    assert!(json.lines().next().is_some_and(|line| line.contains(r#""kind":"gap""#)), "{json}");
    let segments = raftline(&["log", "dump", path, "--segments"]);
    assert!(segments.contains("compacted through 9"), "{segments}");
}
