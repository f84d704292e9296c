use super::*;
use crate::sim::{Rng, Rot, SimDisk};
use raftline_proto::ids::{NodeId, Term};

const SHARD: u32 = 3;

fn dir() -> PathBuf {
    PathBuf::from("/data/shard-3")
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn open(disk: &SimDisk) -> StateFile<SimDisk> {
    StateFile::open(disk.clone(), &dir(), SHARD).unwrap()
}

fn vote(term: u64, node: u32) -> HardState {
    HardState { term: Term(term), voted_for: Some(NodeId(node)) }
}

fn flush(state: &mut StateFile<SimDisk>, lazy: Lazy) -> bool {
    let Some(ticket) = state.begin_sync(lazy).unwrap() else { return false };
    ticket.run().unwrap();
    state.done(ticket);
    true
}

fn groups(state: &StateFile<SimDisk>) -> Vec<(GroupId, GroupState)> {
    state.groups().collect()
}

#[test]
fn an_election_storm_costs_one_sync() {
    let disk = disk();
    let mut state = open(&disk);
    assert!(state.recovery().created);
    let before = disk.counters();
    for group in 0..1000 {
        state.set_hard_state(GroupId(group), vote(5, 2));
    }
    let ticket = state.begin_sync(Lazy::Hold).unwrap().unwrap();
    assert_eq!(ticket.hard_states().len(), 1000);
    assert_eq!(StateFile::inspect(&disk.durable(), &dir(), SHARD).unwrap().len(), 0);
    ticket.run().unwrap();
    state.done(ticket);
    let after = disk.counters();
    assert_eq!((after.file_syncs - before.file_syncs, after.writes - before.writes), (1, 1));
    let kept = StateFile::inspect(&disk.durable(), &dir(), SHARD).unwrap();
    assert!(kept.len() == 1000 && kept.values().all(|kept| kept.hard_state == vote(5, 2)));
    let state = open(&disk.durable());
    assert_eq!(state.get(GroupId(999)).hard_state, vote(5, 2));
    assert!(!state.recovery().created);
}

#[test]
fn hints_and_floors_wait_for_company_or_a_flush() {
    let disk = disk();
    let mut state = open(&disk);
    state.note_commit(GroupId(1), Index(10));
    state.note_floor(GroupId(1), Position(500));
    state.note_floor(GroupId(2), Position(700));
    assert!(!flush(&mut state, Lazy::Hold));
    state.set_hard_state(GroupId(1), vote(1, 1));
    assert!(flush(&mut state, Lazy::Hold));
    let kept = open(&disk.durable());
    assert_eq!(
        kept.get(GroupId(1)),
        GroupState { hard_state: vote(1, 1), commit_hint: Index(10), floor: Position(500) }
    );
    assert_eq!(kept.get(GroupId(2)), GroupState::default());
    assert!(flush(&mut state, Lazy::Flush));
    assert_eq!(open(&disk.durable()).get(GroupId(2)).floor, Position(700));
    // They never fall.
    state.note_floor(GroupId(2), Position(600));
    state.note_commit(GroupId(1), Index(9));
    assert!(!flush(&mut state, Lazy::Flush));
}

#[test]
fn an_idle_shard_comes_to_rest() {
    let disk = disk();
    let mut state = open(&disk);
    assert!(!flush(&mut state, Lazy::Flush), "a new file needs nothing");
    state.set_hard_state(GroupId(1), vote(1, 1));
    assert!(flush(&mut state, Lazy::Hold));
    // One record more, which vouches for the vote; then nothing.
    assert!(flush(&mut state, Lazy::Flush));
    assert!(!flush(&mut state, Lazy::Flush) && !state.is_due(Lazy::Flush));
    // A floor noted after the vote was synced vouches for it as well.
    state.set_hard_state(GroupId(1), vote(2, 1));
    assert!(flush(&mut state, Lazy::Hold));
    state.note_floor(GroupId(1), Position(5));
    assert!(flush(&mut state, Lazy::Flush));
    assert!(!flush(&mut state, Lazy::Flush));
}

#[test]
fn damage_below_what_was_synced_is_refused_by_name() {
    let disk = disk();
    let mut state = open(&disk);
    for term in 1..=5 {
        state.set_hard_state(GroupId(7), vote(term, 1));
        assert!(flush(&mut state, Lazy::Hold));
    }
    assert!(flush(&mut state, Lazy::Flush));
    // Slot 0 is the header, 1 to 5 the votes, 6 the mark that vouches for the last.
    for slot in 0..6 {
        for damage in [&[0xff; 8][..], &[0; 64]] {
            let disk = disk.kill();
            disk.damage(&dir().join("state"), slot * 64 + if damage.len() == 8 { 30 } else { 0 }, damage)
                .unwrap();
            let Err(error) = StateFile::open(disk.clone(), &dir(), SHARD) else {
                panic!("slot {slot} was opened")
            };
            let StateError::Damaged { file, at, .. } = &error else { panic!("{error}") };
            assert_eq!((file, *at), (&dir().join("state"), slot * 64));
            assert!(error.to_string().contains("may hold a vote"), "{error}");
        }
    }
    // The mark itself was never acted on.
    disk.damage(&dir().join("state"), 6 * 64, &[0xff; 64]).unwrap();
    let state = open(&disk);
    assert_eq!((state.get(GroupId(7)).hard_state, state.recovery().records_cut), (vote(5, 1), 1));
}

#[test]
fn a_torn_tail_is_cut() {
    for seed in 0..200 {
        let disk = disk();
        let mut state = open(&disk);
        let mut rng = Rng::new(seed);
        state.set_hard_state(GroupId(1), vote(1, 1));
        assert!(flush(&mut state, Lazy::Hold));
        let durable = groups(&state);
        // Not synced: each of these may be there or not.
        for term in 2..2 + rng.below(20) {
            state.set_hard_state(GroupId(rng.below(9)), vote(term, 2));
            drop(state.begin_sync(Lazy::Hold).unwrap());
        }
        let found = open(&disk.crash(seed));
        assert!(found.get(GroupId(1)).hard_state.term >= durable[0].1.hard_state.term, "seed {seed}");
        // What was found is durable now, whatever comes.
        let again = open(&found.journal.disk().crash(seed));
        assert_eq!(groups(&again), groups(&found), "seed {seed}");
    }
}

#[test]
fn random_lives_lose_no_synced_state() {
    for seed in 0..150 {
        let passed = std::panic::catch_unwind(|| random_life(seed));
        assert!(passed.is_ok(), "seed {seed}");
    }
}

/// Groups' states as they were confirmed, and as they are now: a restart finds each in between.
fn random_life(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut disk = disk();
    let mut state = open(&disk);
    let mut confirmed: BTreeMap<GroupId, GroupState> = BTreeMap::new();
    for _ in 0..400 {
        let group = GroupId(rng.below(6));
        let term = state.get(group).hard_state.term;
        match rng.below(40) {
            0..16 => state.set_hard_state(group, vote(term.0 + 1, 1)),
            16..20 => state.note_floor(group, Position(rng.below(10_000))),
            20..22 => {
                // Many at once, so that the file is written anew now and then.
                for group in 0..500 {
                    state.note_commit(GroupId(1000 + group), Index(rng.below(1000)));
                }
            }
            22..36 => {
                let lazy = if rng.coin() { Lazy::Flush } else { Lazy::Hold };
                if flush(&mut state, lazy) {
                    for (group, now) in state.groups() {
                        let kept = confirmed.entry(group).or_default();
                        kept.hard_state = now.hard_state;
                        if lazy == Lazy::Flush {
                            *kept = now;
                        }
                    }
                }
            }
            36 => drop(state.begin_sync(Lazy::Flush).unwrap()),
            fate => {
                let now: BTreeMap<GroupId, GroupState> = state.groups().collect();
                if fate == 37 {
                    disk.fail_next_sync();
                    drop(state.begin_sync(Lazy::Flush).ok().flatten().map(|ticket| ticket.run()));
                }
                disk = if fate == 39 { disk.crash(seed) } else { disk.kill() };
                state = open(&disk);
                for (group, now) in &now {
                    let (found, before) =
                        (state.get(*group), confirmed.get(group).copied().unwrap_or_default());
                    let terms = before.hard_state.term..=now.hard_state.term;
                    assert!(
                        terms.contains(&found.hard_state.term),
                        "{group}: {found:?} of {before:?} to {now:?}"
                    );
                    assert!((before.floor..=now.floor).contains(&found.floor));
                    assert!((before.commit_hint..=now.commit_hint).contains(&found.commit_hint));
                }
                // All that a restart finds is durable.
                confirmed = state.groups().collect();
                assert_eq!(StateFile::inspect(&disk.durable(), &dir(), SHARD).unwrap(), confirmed);
            }
        }
    }
}

#[test]
fn the_file_is_written_anew_when_it_is_mostly_old() {
    let disk = disk();
    let mut state = open(&disk);
    let mut largest = 0;
    for term in 1..=5000 {
        state.set_hard_state(GroupId(term % 3), vote(term, 1));
        assert!(flush(&mut state, Lazy::Hold));
        largest = largest.max(disk.read(&dir().join("state")).unwrap().len());
    }
    assert!(largest <= 160 << 10, "{largest} bytes for three groups");
    assert_eq!(disk.list(&dir()).unwrap(), ["floors", "state"]);
    assert_eq!(groups(&open(&disk.durable())), groups(&state));
}

#[test]
fn a_removed_group_is_forgotten() {
    let disk = disk();
    let mut state = open(&disk);
    state.set_hard_state(GroupId(1), vote(1, 1));
    state.note_floor(GroupId(2), Position(5));
    assert!(flush(&mut state, Lazy::Flush));
    state.remove(GroupId(1));
    state.remove(GroupId(9));
    assert!(flush(&mut state, Lazy::Hold));
    assert_eq!(groups(&open(&disk.durable())).len(), 1);
}

#[test]
fn a_full_disk_keeps_everything_due() {
    let disk = disk();
    let mut state = open(&disk);
    disk.set_capacity(Some(disk.used_bytes()));
    let mut term = 0;
    let error = loop {
        term += 1;
        state.set_hard_state(GroupId(1), vote(term, 1));
        match state.begin_sync(Lazy::Hold) {
            Ok(ticket) => state.done(ticket.inspect(|ticket| ticket.run().unwrap()).unwrap()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StateWriteError::Refused(error) if error.kind() == io::ErrorKind::StorageFull));
    assert!(term > 500, "room for votes is made ahead");
    disk.set_capacity(None);
    assert!(flush(&mut state, Lazy::Hold));
    assert_eq!(open(&disk.durable()).get(GroupId(1)).hard_state, vote(term, 1));
}

#[test]
fn files_of_others_and_of_the_future_are_refused() {
    let disk = disk();
    drop(open(&disk));
    let error = StateFile::open(disk.clone(), &dir(), 4).err().unwrap();
    assert!(matches!(error, StateError::WrongShard { expected: 4, found: 3, .. }));
    assert!(error.to_string().contains("mixed up"));
    let mut header = disk.read(&dir().join("state")).unwrap()[..64].to_vec();
    header[8] = 2;
    let crc = crc32fast::hash(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    disk.damage(&dir().join("state"), 0, &header).unwrap();
    let error = StateFile::open(disk, &dir(), SHARD).err().unwrap();
    assert!(matches!(error, StateError::NewerVersion { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("run a newer Raftline"));
}

#[test]
#[should_panic(expected = "the vote in term 4 changes")]
fn a_second_vote_in_a_term_is_a_bug() {
    let mut state = open(&disk());
    state.set_hard_state(GroupId(1), vote(4, 1));
    state.set_hard_state(GroupId(1), vote(4, 2));
}

#[test]
#[should_panic(expected = "the term falls from 4 to 3")]
fn a_falling_term_is_a_bug() {
    let mut state = open(&disk());
    state.set_hard_state(GroupId(1), vote(4, 1));
    state.set_hard_state(GroupId(1), vote(3, 1));
}

#[test]
fn what_a_failed_write_left_never_takes_the_place_of_a_later_vote() {
    let disk = disk();
    let mut state = open(&disk);
    let (first, second) = (GroupId(1), GroupId(2));
    state.note_commit(first, Index(7));
    state.set_hard_state(second, vote(5, 2));
    // Both records get through but for a zero at the end, and the write fails: the second one holds term 5.
    disk.fail_next_write(2 * 64 - 1);
    assert!(state.begin_sync(Lazy::Flush).is_err());
    // The retry holds one record, with a newer vote.
    state.set_hard_state(second, vote(6, 3));
    assert!(flush(&mut state, Lazy::Hold));
    let kept = StateFile::inspect(&disk.durable(), &dir(), SHARD).unwrap();
    assert_eq!(kept[&second].hard_state, vote(6, 3));
}

/// Votes in terms 1 to `count`, each synced, and none of them vouched for by a later record.
fn voted(count: u64) -> SimDisk {
    let disk = disk();
    let mut state = open(&disk);
    for term in 1..=count {
        state.set_hard_state(GroupId(7), vote(term, 1));
        assert!(flush(&mut state, Lazy::Hold));
        state.write_floors().unwrap();
    }
    disk
}

#[test]
fn a_state_file_that_lost_its_end_is_refused_though_no_record_vouches_for_it() {
    let disk = voted(20);
    for at in 1..=20 {
        let disk = disk.kill();
        disk.damage(&dir().join("state"), at * 64, &[0; 20 * 64][..usize::try_from(21 - at).unwrap() * 64])
            .unwrap();
        let error = StateFile::open(disk.clone(), &dir(), SHARD).err();
        assert!(
            matches!(&error, Some(StateError::Damaged { at: found, .. }) if *found == at * 64),
            "{error:?}"
        );
    }
    for used in [1, 2, 3] {
        let disk = disk.kill();
        assert!(disk.rot(&dir().join("state"), Rot::Shortened { len: 21 * 64 * used / 4 }).unwrap());
        let error = StateFile::open(disk, &dir(), SHARD).err().expect("votes are gone");
        assert!(matches!(error, StateError::Shortened { .. }), "{error}");
    }
    assert_eq!(open(&disk.kill()).get(GroupId(7)).hard_state, vote(20, 1));
}

#[test]
fn a_record_of_an_older_file_is_no_record_of_this_one() {
    let disk = voted(5);
    let old = disk.read(&dir().join("state")).unwrap();
    let mut state = open(&disk);
    state.set_hard_state(GroupId(7), vote(6, 2));
    assert!(flush(&mut state, Lazy::Hold));
    state.write_floors().unwrap();
    // The write of the last vote was lost, and the sector is one that held record 2 of the file before.
    disk.damage(&dir().join("state"), 128, &old[128..192]).unwrap();
    let error = StateFile::open(disk.kill(), &dir(), SHARD).err().expect("a vote is gone");
    assert!(error.to_string().contains("generation"), "{error}");
}

#[test]
fn floors_of_the_last_second_are_there_after_a_kill_and_true_after_a_power_cut() {
    let disk = disk();
    let mut state = open(&disk);
    for group in 0..50 {
        state.set_hard_state(GroupId(group), vote(1, 1));
    }
    assert!(flush(&mut state, Lazy::Hold));
    for round in 1..20 {
        for group in 0..50 {
            state.note_floor(GroupId(group), Position(round * 1000 + group));
        }
        state.remove(GroupId(round));
        state.write_floors().unwrap();
    }
    let next = open(&disk.kill());
    for group in 20..50 {
        assert_eq!(next.get(GroupId(group)).floor, Position(19_000 + group));
    }
    for seed in 0..50 {
        let next = open(&disk.crash(seed));
        for (group, state) in groups(&next) {
            assert!(state.floor <= Position(19_000 + group.0), "seed {seed}: {state:?}");
        }
    }
}
