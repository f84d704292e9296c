use super::*;

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// A file whose name and first content are durable.
fn durable_file(disk: &SimDisk, name: &str, content: &[u8]) -> Arc<SimFile> {
    let file = disk.create(&path(name)).unwrap();
    file.write_at(&[IoSlice::new(content)], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    file
}

#[test]
fn unsynced_sectors_survive_in_any_combination() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[b'0'; 2048]);
    file.write_at(&[IoSlice::new(&[b'1'; 2048])], 0).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..2000 {
        let found = disk.crash(seed).read(&path("a")).unwrap();
        for sector in found.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
        }
        outcomes.insert(found.iter().step_by(512).copied().collect::<Vec<u8>>());
    }
    assert_eq!(outcomes.len(), 16, "all subsets of four sectors");
    assert_eq!(disk.durable().read(&path("a")).unwrap(), [b'0'; 2048]);
    assert_eq!(disk.kill().read(&path("a")).unwrap(), [b'1'; 2048]);
    file.sync_data().unwrap();
    for seed in 0..50 {
        assert_eq!(disk.crash(seed).read(&path("a")).unwrap(), [b'1'; 2048]);
    }
}

#[test]
fn a_sector_may_survive_as_it_was_in_between() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[b'0'; 512]);
    for byte in [b'1', b'2', b'3'] {
        file.write_at(&[IoSlice::new(&[byte; 512])], 0).unwrap();
    }
    let found = (0..500).map(|seed| disk.crash(seed).read(&path("a")).unwrap()[0]);
    assert_eq!(found.collect::<std::collections::BTreeSet<u8>>().len(), 4);
}

#[test]
fn the_size_may_survive_without_the_bytes_and_the_other_way_round() {
    let disk = disk();
    let file = durable_file(&disk, "a", b"four");
    file.write_at(&[IoSlice::new(&[1; 1020])], 4).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let found = disk.crash(seed).read(&path("a")).unwrap();
        assert!(found.starts_with(b"four"));
        outcomes.insert((found.len(), found.get(4).copied(), found.get(600).copied()));
    }
    assert!(outcomes.contains(&(4, None, None)));
    assert!(outcomes.contains(&(1024, Some(0), Some(0))) && outcomes.contains(&(1024, Some(1), Some(1))));
    assert!(outcomes.contains(&(1024, Some(0), Some(1))) && outcomes.contains(&(1024, Some(1), Some(0))));
}

#[test]
fn names_survive_only_by_luck_until_the_directory_is_synced() {
    let disk = disk();
    durable_file(&disk, "old", b"1");
    disk.remove(&path("old")).unwrap();
    let new = disk.create(&path("new")).unwrap();
    new.write_at(&[IoSlice::new(b"2")], 0).unwrap();
    new.sync_data().unwrap();
    let outcomes: std::collections::BTreeSet<Vec<String>> =
        (0..100).map(|seed| disk.crash(seed).list(Path::new("/data")).unwrap()).collect();
    assert_eq!(outcomes.len(), 4);
    assert_eq!(disk.durable().list(Path::new("/data")).unwrap(), ["old"]);
    disk.sync_dir(Path::new("/data")).unwrap();
    assert_eq!(disk.crash(1).list(Path::new("/data")).unwrap(), ["new"]);
}

#[test]
fn a_rename_happens_or_does_not() {
    let disk = disk();
    durable_file(&disk, "state", b"old");
    let aside = disk.create(&path("aside")).unwrap();
    aside.write_at(&[IoSlice::new(b"new")], 0).unwrap();
    aside.sync_data().unwrap();
    disk.rename(&path("aside"), &path("state")).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..100 {
        outcomes.insert(disk.crash(seed).read(&path("state")).unwrap());
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [b"new", b"old"]);
}

#[test]
fn a_directory_takes_what_is_in_it_along() {
    let disk = disk();
    disk.create_dir_all(&path("groups/7")).unwrap();
    let file = disk.create(&path("groups/7/a")).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&path("groups/7")).unwrap();
    disk.sync_dir(&path("groups")).unwrap();
    assert!(disk.durable().list(&path("groups")).is_err(), "the name in /data was not synced");
    disk.sync_dir(Path::new("/data")).unwrap();
    assert_eq!(disk.durable().list(&path("groups/7")).unwrap(), ["a"]);
    disk.remove_dir_all(&path("groups/7")).unwrap();
    assert!(disk.open(&path("groups/7/a")).is_err());
    assert_eq!(disk.durable().list(&path("groups/7")).unwrap(), ["a"], "nor was its removal");
}

#[test]
fn a_failed_sync_forgets_and_the_handle_stays_failed() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[0; 512]);
    file.write_at(&[IoSlice::new(&[1; 512])], 0).unwrap();
    disk.fail_next_sync();
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_err());
    // Another handle sees a clean file, and its sync "succeeds".
    let other = disk.open(&path("a")).unwrap();
    other.sync_data().unwrap();
    assert_eq!(disk.read(&path("a")).unwrap(), [1; 512]);
    assert_eq!(disk.crash(1).read(&path("a")).unwrap(), [0; 512]);
    other.write_at(&[IoSlice::new(&[1; 512])], 0).unwrap();
    other.sync_data().unwrap();
    assert_eq!(disk.crash(1).read(&path("a")).unwrap(), [1; 512]);
}

#[test]
fn a_full_disk_takes_no_more_and_removal_gives_room() {
    let disk = disk();
    disk.set_capacity(Some(1000));
    let file = disk.create(&path("a")).unwrap();
    file.allocate(0, 900).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/data")).unwrap(), 100);
    assert_eq!(file.allocate(900, 1001).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(
        file.write_at(&[IoSlice::new(&[1; 101])], 900).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    file.write_at(&[IoSlice::new(&[1; 900])], 0).unwrap();
    assert_eq!((disk.used_bytes(), file.len().unwrap()), (900, 900));
    assert_eq!(disk.crash(3).shared.lock().capacity, Some(1000));
    disk.remove(&path("a")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn handles_of_a_dead_process_do_not_reach_the_next() {
    let disk = disk();
    let file = durable_file(&disk, "a", b"1");
    let next = disk.kill();
    file.write_at(&[IoSlice::new(b"2")], 0).unwrap();
    assert_eq!(next.read(&path("a")).unwrap(), b"1");
    assert_eq!(next.counters(), disk.counters().clone_without_write());
}

impl SimCounters {
    fn clone_without_write(self) -> Self {
        Self { writes: self.writes - 1, bytes_written: self.bytes_written - 1, ..self }
    }
}

#[test]
fn the_same_seed_is_the_same_crash() {
    let disk = disk();
    let file = durable_file(&disk, "a", &[0; 4096]);
    for byte in 1..9 {
        file.write_at(&[IoSlice::new(&[byte; 2000])], u64::from(byte) * 200).unwrap();
    }
    for seed in 0..20 {
        assert_eq!(disk.crash(seed).read(&path("a")).unwrap(), disk.crash(seed).read(&path("a")).unwrap());
    }
}
