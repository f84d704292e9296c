//! What only the real disk can show: file sizes, descriptors, files that somebody shortened.

use crate::common::{Entry, GROUP, Writer, contents, fill, options, sync};
use raftline_proto::ids::{Index, Position};
use raftline_storage::{Disk, DiskFile, Log, ReadError, RealDisk};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

fn open(root: &Path, segment_bytes: u64) -> Log<RealDisk> {
    let disk = RealDisk::new(root).unwrap();
    Log::open(disk, &root.join("groups/7"), GROUP, options(segment_bytes), Position::ZERO).unwrap()
}

/// The open descriptors of this process below `root`.
fn held(root: &Path) -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let root = root.to_str().unwrap();
    open.filter(|path| path.to_string_lossy().contains(root)).count()
}

fn segment_sizes(root: &Path) -> Vec<u64> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root.join("groups/7")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| file.metadata().unwrap().len()).collect()
}

#[test]
fn an_idle_partition_is_small_and_holds_nothing_open() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open(root.path(), 64 << 20);
    assert_eq!(held(root.path()), 0);
    let entries = fill(&mut log, 1, 3, 100);
    sync(&mut log);
    assert_eq!(contents(&log), entries);
    assert_eq!(segment_sizes(root.path()), [16 << 10]);
    assert_ne!(held(root.path()), 0);
    log.rest();
    assert_eq!(held(root.path()), 0);
    assert_eq!(contents(&log), entries);
    drop(log);
    let log = open(root.path(), 64 << 20);
    assert_eq!(held(root.path()), 0, "nothing stays open after a start");
    assert_eq!(contents(&log), entries);
}

#[test]
fn segments_grow_in_doubling_steps() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open(root.path(), 1 << 20);
    let mut sizes = Vec::new();
    while log.segment_count() < 2 {
        fill(&mut log, 1, 1, 1000);
        let size = segment_sizes(root.path())[0] >> 10;
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    assert_eq!(sizes, [16, 32, 64, 128, 256, 512, 1024]);
}

#[test]
fn slices_outlive_truncation_retention_and_rest() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open(root.path(), 1 << 20);
    let entries = fill(&mut log, 1, 100, 1000);
    let slices: Vec<Entry> = contents(&log);
    log.truncate(Index(1)).unwrap();
    fill(&mut log, 2, 100, 1000);
    sync(&mut log);
    assert_eq!(segment_sizes(root.path()).len(), 1, "the old segment is gone");
    log.rest();
    drop(log);
    assert_eq!(slices, entries);
}

/// A map of the file would end the process here (SIGBUS).
#[test]
fn a_file_that_was_shortened_is_an_error_of_the_read() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open(root.path(), 1 << 20);
    let entries = fill(&mut log, 1, 100, 1000);
    assert_eq!(contents(&log), entries);
    let file = root.path().join("groups/7/0000000000000001.segment");
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(4096).unwrap();
    let error = log.read_entries(Index(50), Index(60), 1).unwrap_err();
    assert!(matches!(error, ReadError::Unreadable { .. }), "{error}");
    assert!(error.is_damage() && error.to_string().contains("4096 bytes long"), "{error}");
    assert!(log.replay(Index(1)).any(|next| next.is_err()));
    std::fs::remove_file(&file).unwrap();
    log.rest();
    let error = log.read_entries(Index(1), Index(2), 1).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("0000000000000001.segment"), "{error}");
}

#[test]
fn what_is_in_memory_is_not_copied_and_the_rest_counts_until_nobody_holds_it() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(root.path()).unwrap();
    let dir = root.path().join("groups/7");
    let mut log = Log::open(disk.clone(), &dir, GROUP, options(1 << 20), Position::ZERO).unwrap();
    fill(&mut log, 1, 100, 1000);
    let read = log.read_entries(Index(1), Index(101), u64::MAX).unwrap();
    assert!(read.bytes > 100_000);
    assert_eq!(disk.bytes_held(), 0, "it has just been written: it is in the page cache");
    // Room that nobody has touched is in nobody's memory.
    let file = disk.create(&root.path().join("cold")).unwrap();
    file.reserve(0, 1 << 20).unwrap();
    let zeros = file.read(1000, 101_000).unwrap();
    assert_eq!(zeros, vec![0; 100_000]);
    assert_eq!(disk.bytes_held(), 100_000);
    drop(zeros);
    assert_eq!(disk.bytes_held(), 0);
}

#[test]
fn room_is_made_on_another_thread_while_writes_go_on() {
    let root = tempfile::tempdir().unwrap();
    let mut log = open(root.path(), 8 << 20);
    let mut entries = Vec::new();
    let mut writer = Writer::of(&log);
    let mut fillers = Vec::new();
    for _ in 0..200 {
        entries.push(writer.data(&mut log, 1, 30_000));
        log.write().unwrap();
        if let Some(allocation) = log.allocation_wanted() {
            let run = move || {
                let result = allocation.run();
                (allocation, result)
            };
            fillers.push(std::thread::Builder::new().spawn(run).unwrap());
        }
        if fillers.last().is_some_and(std::thread::JoinHandle::is_finished) {
            let (allocation, result) = fillers.pop().unwrap().join().unwrap();
            log.allocated(allocation, result);
        }
    }
    for filler in fillers {
        let (allocation, result) = filler.join().unwrap();
        log.allocated(allocation, result);
    }
    sync(&mut log);
    assert_eq!(contents(&log), entries);
    drop(log);
    assert_eq!(contents(&open(root.path(), 8 << 20)), entries);
}

#[test]
fn errors_name_the_file() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(root.path()).unwrap();
    let path = root.path().join("none");
    for error in [
        disk.open(&path).err().unwrap(),
        disk.list(&path).err().unwrap(),
        disk.remove(&path).err().unwrap(),
        disk.sync_dir(&path).err().unwrap(),
        RealDisk::new(&path).err().unwrap(),
    ] {
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
    let file = disk.create(&path).unwrap();
    file.write_at(&[IoSlice::new(b"four")], 0).unwrap();
    assert!(disk.create(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists));
    assert!(file.read(0, 5).unwrap_err().to_string().contains("4 bytes long, but 5 were written"));
    assert!(disk.free_bytes(root.path()).unwrap() > 0);
}

#[test]
fn a_write_of_many_parts_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(root.path()).unwrap();
    let file = disk.create(&root.path().join("file")).unwrap();
    let parts: Vec<Vec<u8>> =
        (0..5000_u32).map(|nth| nth.to_le_bytes()[..nth as usize % 5].to_vec()).collect();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_at(&slices, 3).unwrap();
    let expected = parts.concat();
    assert_eq!(file.len().unwrap(), 3 + expected.len() as u64);
    assert_eq!(file.read(3, file.len().unwrap()).unwrap(), expected);
}
