//! A scrub comes by every byte, and finds what has gone bad where nobody reads.

use crate::common::{GROUP, chance, fill, fresh, retain, segment_files, sync};
use raftline_proto::ids::Index;
use raftline_storage::sim::Rot;
use raftline_storage::{Disk, Log, Scrub, SimDisk};
use rand::Rng;

/// One pass over everything: how much was read, and whether the log misses something at a place that was suspected.
fn pass(disk: &SimDisk, log: &Log<SimDisk>, bytes_max: u64) -> (u64, bool) {
    let mut scrub = Scrub::new(disk.clone(), "/data/groups".into());
    let (mut read, mut found) = (0, false);
    for _ in 0..100_000 {
        let seen = scrub.step(bytes_max).unwrap();
        read += seen.bytes;
        if let Some(suspect) = seen.suspect {
            assert_eq!(suspect.group, GROUP);
            found |= log.examine(suspect.sequence, suspect.at).is_err_and(|error| error.is_damage());
        }
        if seen.is_end {
            return (read, found);
        }
    }
    panic!("a pass does not end");
}

#[test]
fn a_sound_log_is_passed_over_whatever_was_cut_and_trimmed() {
    let (disk, mut log) = fresh(3000);
    fill(&mut log, 1, 100, 100);
    log.truncate(Index(60)).unwrap();
    fill(&mut log, 2, 30, 900);
    sync(&mut log);
    retain(&mut log, None, Some(0), Index(20)).unwrap();
    for bytes_max in [1, 700, 1 << 20] {
        let (read, found) = pass(&disk, &log, bytes_max);
        assert!(read >= log.bytes() && !found, "{read} of {}, {found}", log.bytes());
    }
}

#[test]
fn rot_of_any_kind_is_found_wherever_it_is() {
    for seed in 0..300 {
        let mut chance = chance(seed);
        let (disk, mut log) = fresh(3000);
        fill(&mut log, 1, 100, 100);
        log.truncate(Index(60)).unwrap();
        fill(&mut log, 2, 30, 200);
        sync(&mut log);
        let files = segment_files(&disk);
        let file = &files[chance.random_range(0..files.len())];
        let used = disk.read(file).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
        let at = chance.random_range(0..used);
        let rot = match seed % 3 {
            0 => Rot::Flip { at, bit: chance.random_range(0..8) },
            1 => Rot::Lost { at },
            _ => Rot::Shortened { len: at },
        };
        let before = log.replay(Index(0)).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(disk.rot(file, rot).unwrap());
        let again = log.replay(Index(0)).collect::<Result<Vec<_>, _>>();
        let is_hurt = again.is_err() || at < 64;
        assert!(is_hurt || again.is_ok_and(|again| again == before), "seed {seed}");
        let (_, found) = pass(&disk, &log, 600);
        assert_eq!(found, is_hurt, "seed {seed}: {rot:?} of {}", file.display());
    }
}

#[test]
fn groups_that_come_and_go_do_not_stop_it() {
    let disk = SimDisk::new();
    let mut scrub = Scrub::new(disk.clone(), "/data/groups".into());
    assert!(scrub.step(100).unwrap().is_end, "there is nothing yet");
    disk.create_dir_all(std::path::Path::new("/data/groups/7")).unwrap();
    disk.create_dir_all(std::path::Path::new("/data/groups/8.deleted")).unwrap();
    assert!(scrub.step(100).unwrap().is_end);
}
