use super::*;

const DISK: Incarnation = Incarnation(0xd15c);
const START: (u64, BootId) = (3, BootId(0xb0));

fn claim(directory: &Path) -> Result<Identity, IdentityError> {
    Identity::claim(directory, NodeId(1), "test", DISK)
}

fn refusal(result: Result<Identity, IdentityError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_was_learnt_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not/there/yet");
    let identity = claim(&path).unwrap();
    assert!(identity.formatted());
    assert_eq!(identity.meet(NodeId(2), Incarnation(7), START).unwrap(), Meeting::First);
    identity.learn_cluster(ClusterId(9)).unwrap();
    drop(identity);

    let identity = Identity::claim(&path, NodeId(1), "test", Incarnation(5)).unwrap();
    assert!(!identity.formatted());
    assert_eq!(identity.incarnation(), DISK);
    assert_eq!(identity.cluster_id(), Some(ClusterId(9)));
    assert_eq!(identity.peer(NodeId(2)), Some(Incarnation(7)));
    assert_eq!(identity.meet(NodeId(2), Incarnation(7), START).unwrap(), Meeting::Known);
    let other = identity.meet(NodeId(2), Incarnation(8), START).unwrap();
    assert_eq!(other, Meeting::Other { known: Incarnation(7) });
    assert!(matches!(
        identity.learn_cluster(ClusterId(10)),
        Err(IdentityError::OtherCluster { known: ClusterId(9), found: ClusterId(10) })
    ));
}

#[test]
fn a_second_process_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let _identity = claim(directory.path()).unwrap();
    let text = refusal(claim(directory.path()));
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert!(text.contains(directory.path().to_str().unwrap()), "{text}");
}

#[test]
fn a_released_directory_is_free_and_is_not_written_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let identity = claim(directory.path()).unwrap();
    identity.release();
    let next = claim(directory.path()).unwrap();
    assert!(matches!(identity.meet(NodeId(2), Incarnation(7), START), Err(IdentityError::Released)));
    assert_eq!(next.peer(NodeId(2)), None);
}

#[test]
fn another_nodes_or_clusters_directory_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(claim(directory.path()).unwrap());
    let text = refusal(Identity::claim(directory.path(), NodeId(2), "test", DISK));
    assert!(text.contains("belongs to node 1") && text.contains("configured as node 2"), "{text}");
    let text = refusal(Identity::claim(directory.path(), NodeId(1), "prod", DISK));
    assert!(text.contains("cluster `test`") && text.contains("cluster `prod`"), "{text}");
}

#[test]
fn data_without_identity_is_not_formatted_over() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("groups")).unwrap();
    let text = refusal(claim(directory.path()));
    assert!(text.contains("`groups`") && text.contains("no identity file"), "{text}");
}

#[test]
fn every_damaged_byte_of_the_file_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let identity = claim(directory.path()).unwrap();
    identity.meet(NodeId(2), Incarnation(7), START).unwrap();
    drop(identity);
    let path = directory.path().join(file::NAME);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        std::fs::write(&path, bad).unwrap();
        let found = claim(directory.path());
        let refused = matches!(found, Err(IdentityError::Damaged { .. } | IdentityError::Newer { .. }));
        assert!(refused, "byte {at}: {found:?}");
    }
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(matches!(claim(directory.path()), Err(IdentityError::Damaged { .. })), "length {length}");
    }
    std::fs::write(&path, &good).unwrap();
    claim(directory.path()).unwrap();
}

#[test]
fn a_copy_is_refused_by_name_and_taken_when_told_so_once() {
    let directory = tempfile::tempdir().unwrap();
    drop(claim(directory.path()).unwrap());
    let path = directory.path().join(file::NAME);
    // Put back in place, as from a backup: the same bytes in another file.
    let aside = directory.path().join("aside");
    std::fs::copy(&path, &aside).unwrap();
    drop(claim(directory.path()).unwrap());
    std::fs::rename(&aside, &path).unwrap();
    let text = refusal(claim(directory.path()));
    assert!(text.contains("is a copy") && text.contains("--adopt-copy"), "{text}");
    let taken = Identity::claim_even(directory.path(), NodeId(1), "test", DISK, Copies::Taken).unwrap();
    assert_eq!(taken.starts(), 2);
    drop(taken);
    assert_eq!(claim(directory.path()).unwrap().starts(), 3, "it is no copy any more");
}

#[test]
fn an_older_start_of_a_peer_is_told_from_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let identity = claim(directory.path()).unwrap();
    let meet = |identity: &Identity, starts, boot| {
        identity.meet(NodeId(2), Incarnation(7), (starts, BootId(boot))).unwrap()
    };
    assert_eq!(meet(&identity, 5, 1), Meeting::First);
    assert_eq!(meet(&identity, 5, 1), Meeting::Known);
    assert_eq!(meet(&identity, 6, 2), Meeting::Known);
    drop(identity);
    let identity = claim(directory.path()).unwrap();
    assert_eq!(meet(&identity, 5, 1), Meeting::Older { known: 6 });
    assert_eq!(meet(&identity, 6, 3), Meeting::Older { known: 6 }, "two processes, one start");
    assert_eq!(meet(&identity, 6, 2), Meeting::Known);
}

#[test]
fn an_old_copy_that_was_refused_is_not_started_until_it_passes_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let identity = claim(directory.path()).unwrap();
    identity.note_refused("node 2 says: start 7 of its \"directory\"").unwrap();
    drop(identity);
    for copies in [Copies::Refused, Copies::Taken] {
        let text = refusal(Identity::claim_even(directory.path(), NodeId(1), "test", DISK, copies));
        assert!(text.contains("node 2 says: start 7"), "{text}");
    }
}

#[test]
fn the_format_before_is_read_and_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let body = "node = 1\nincarnation = \"000000000000d15c\"\ncluster-name = \"test\"\n\n[peers]\n2 = \"0000000000000007\"\n";
    let crc = crc32fast::hash(body.as_bytes());
    let text = format!("raftline identity, format 1, crc {crc:08x}\n{body}");
    std::fs::write(directory.path().join(file::NAME), text).unwrap();
    let identity = Identity::claim(directory.path(), NodeId(1), "test", Incarnation(9)).unwrap();
    assert_eq!((identity.incarnation(), identity.starts()), (DISK, 1));
    assert_eq!(identity.meet(NodeId(2), Incarnation(7), START).unwrap(), Meeting::Known);
    drop(identity);
    assert_eq!(claim(directory.path()).unwrap().starts(), 2);
}

#[test]
fn a_newer_format_is_refused_by_number() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(file::NAME), "raftline identity, format 9, crc 00000000\n").unwrap();
    let text = refusal(claim(directory.path()));
    assert!(text.contains("format 9") && text.contains("newer Raftline"), "{text}");
}
