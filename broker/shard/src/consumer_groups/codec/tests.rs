use super::*;
use crate::consumer_groups::record::{
    Assignment, ClassicMemberValue, ClassicSupport, ClassicValue, ConsumerMemberValue, ConsumerValue,
    CurrentValue, MemberState, OffsetValue, PartitionEpochs,
};
use crate::consumer_groups::testing::Chance;
use crate::consumer_groups::types::GroupProtocol;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use raftline_proto::time::Timestamp;

fn text(chance: &mut Chance) -> String {
    let letters = ["", "a", "orders", "ü", "日本", "x-y_z.9"];
    format!("{}{}", letters[chance.index(letters.len())], letters[chance.index(letters.len())])
}

fn optional(chance: &mut Chance) -> Option<String> {
    (chance.below(2) == 0).then(|| text(chance))
}

fn int32(chance: &mut Chance) -> i32 {
    [0, 1, -1, i32::MIN, i32::MAX, 77][chance.index(6)]
}

fn int64(chance: &mut Chance) -> i64 {
    [0, 1, -1, i64::MIN, i64::MAX, 77][chance.index(6)]
}

fn byte_string(chance: &mut Chance) -> Vec<u8> {
    (0..chance.below(20)).map(|_| u8::try_from(chance.below(256)).expect("a byte")).collect()
}

fn assignment(chance: &mut Chance) -> Assignment {
    (0..chance.below(3))
        .map(|_| (text(chance), (0..chance.below(4)).map(|_| int32(chance)).collect()))
        .collect()
}

/// Of some partitions that a member has, epochs before 99.
fn epochs(chance: &mut Chance, own: [&Assignment; 2]) -> PartitionEpochs {
    let mut epochs = PartitionEpochs::new();
    for (topic, partitions) in own.into_iter().flatten() {
        for partition in partitions {
            let epoch = i32::try_from(chance.below(198)).expect("small");
            if epoch >= 99 {
                continue;
            }
            epochs.entry(topic.clone()).or_default().insert(*partition, epoch);
        }
    }
    epochs
}

fn span(chance: &mut Chance) -> u32 {
    [0, 1, 77, i32::MAX.cast_unsigned()][chance.index(4)]
}

fn member(chance: &mut Chance) -> ClassicMemberValue {
    ClassicMemberValue {
        member_id: text(chance),
        instance_id: optional(chance),
        client_id: text(chance),
        client_host: text(chance),
        session_timeout_ms: span(chance),
        rebalance_timeout_ms: span(chance),
        subscription: byte_string(chance),
        assignment: byte_string(chance),
    }
}

fn protocol(chance: &mut Chance) -> GroupProtocol {
    GroupProtocol { name: text(chance), metadata: byte_string(chance) }
}

pub(super) fn record(chance: &mut Chance) -> GroupRecord {
    let group = text(chance);
    let live = chance.below(4) > 0;
    match chance.below(7) {
        0 => {
            let value = live.then(|| OffsetValue {
                offset: int64(chance),
                leader_epoch: int32(chance),
                metadata: text(chance),
                commit_timestamp: Timestamp(int64(chance)),
            });
            GroupRecord::Offset { group, topic: text(chance), partition: int32(chance), value }
        }
        1 => {
            let value = live.then(|| ClassicValue {
                generation: int32(chance),
                protocol_type: text(chance),
                protocol: optional(chance),
                leader: optional(chance),
                state_timestamp: Timestamp(int64(chance)),
                members: (0..chance.below(4)).map(|_| member(chance)).collect(),
            });
            GroupRecord::Classic { group, value }
        }
        2 => {
            let value = live.then(|| ConsumerValue {
                epoch: int32(chance),
                topics_digest: int64(chance).cast_unsigned(),
                epoch_timestamp: Timestamp(int64(chance)),
            });
            GroupRecord::Consumer { group, value }
        }
        3 => {
            let speaks_classic = chance.below(3) == 0;
            let value = live.then(|| ConsumerMemberValue {
                instance_id: optional(chance),
                rack_id: optional(chance),
                client_id: text(chance),
                client_host: text(chance),
                rebalance_timeout_ms: span(chance),
                subscribed_topics: (0..chance.below(4)).map(|_| text(chance)).collect(),
                subscribed_regex: optional(chance).filter(|_| !speaks_classic),
                server_assignor: optional(chance),
                classic: speaks_classic.then(|| ClassicSupport {
                    session_timeout_ms: span(chance),
                    protocols: (0..chance.below(4)).map(|_| protocol(chance)).collect(),
                }),
            });
            GroupRecord::ConsumerMember { group, member_id: text(chance), value }
        }
        4 => GroupRecord::ConsumerTargetEpoch { group, value: live.then(|| int32(chance)) },
        5 => {
            let value = live.then(|| assignment(chance));
            GroupRecord::ConsumerTarget { group, member_id: text(chance), value }
        }
        _ => {
            let states =
                [MemberState::Stable, MemberState::UnrevokedPartitions, MemberState::UnreleasedPartitions];
            let value = live.then(|| {
                let (assigned, revoking) = (assignment(chance), assignment(chance));
                CurrentValue {
                    member_epoch: 99,
                    previous_epoch: int32(chance),
                    state: states[chance.index(3)],
                    earlier_epochs: epochs(chance, [&assigned, &revoking]),
                    assigned,
                    revoking,
                }
            });
            GroupRecord::ConsumerCurrent { group, member_id: text(chance), value }
        }
    }
}

fn id_of(topic: &str) -> Option<u128> {
    (topic != "a").then(|| topic.bytes().map(u128::from).sum::<u128>() << 64 | 5)
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..3_000 {
        let record = record(&mut Chance::new(seed));
        let (key, value) = record.encode(&id_of);
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(record), "seed {seed}");
    }
}

#[test]
fn the_key_says_nothing_of_the_value() {
    for seed in 0..500 {
        let record = record(&mut Chance::new(seed));
        let (key, _) = record.encode(&id_of);
        let tombstone = GroupRecord::decode(&key, None).expect("a tombstone");
        assert_eq!(tombstone.encode(&id_of), (key, None), "seed {seed}");
    }
}

/// Else compaction would keep one for the other.
#[test]
fn different_things_have_different_keys() {
    let mut keys = BTreeSet::new();
    let mut things = BTreeSet::new();
    for seed in 0..3_000 {
        let record = record(&mut Chance::new(seed));
        let (key, _) = record.encode(&id_of);
        let tombstone = GroupRecord::decode(&key, None).expect("a tombstone");
        keys.insert(key);
        things.insert(format!("{tombstone:?}"));
    }
    assert_eq!(keys.len(), things.len());
}

#[test]
fn damaged_bytes_are_refused_or_read_and_never_panic() {
    for seed in 0..3_000 {
        let chance = &mut Chance::new(seed);
        let (mut key, value) = record(chance).encode(&id_of);
        let mut value = value.unwrap_or_default();
        for bytes in [&mut key, &mut value] {
            for _ in 0..chance.below(3) {
                if !bytes.is_empty() {
                    let at = chance.index(bytes.len());
                    bytes[at] = u8::try_from(chance.below(256)).expect("a byte");
                }
            }
            bytes.truncate(bytes.len() - chance.index(bytes.len().min(2) + 1));
        }
        let _ = GroupRecord::decode(&key, Some(&value));
    }
}

#[test]
fn every_cut_is_refused() {
    for seed in 0..300 {
        let (key, value) = record(&mut Chance::new(seed)).encode(&id_of);
        let Some(value) = value else { continue };
        for cut in 0..value.len() {
            assert!(GroupRecord::decode(&key, Some(&value[..cut])).is_err(), "seed {seed}, cut {cut}");
        }
        for cut in 0..key.len() {
            assert!(GroupRecord::decode(&key[..cut], Some(&value)).is_err(), "seed {seed}, key cut {cut}");
        }
    }
}

/// Sizes that are not there cost nothing.
#[test]
fn huge_counts_are_refused() {
    let key = [&[0, 2, 0, 1][..], b"g"].concat();
    let head = [&[0, 3, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255][..], &[0; 8]].concat();
    for count in [[127, 255, 255, 255], [255, 255, 255, 255], [0, 0, 15, 0]] {
        let value = [&head[..], &count].concat();
        assert!(GroupRecord::decode(&key, Some(&value)).is_err(), "{count:?}");
    }
    let key = [&[0, 7, 0, 1][..], b"g", &[0, 1], b"m"].concat();
    for count in [&[255, 255, 255, 255, 15][..], &[0], &[128, 8]] {
        let value = [&[0, 0], count].concat();
        assert!(GroupRecord::decode(&key, Some(&value)).is_err(), "{count:?}");
    }
}

/// Kafka's layout, byte by byte. It is a promise to logs already written and to whoever reads them: this test may only grow.
#[test]
fn the_layout_stands() {
    let committed =
        OffsetValue { offset: 5, leader_epoch: -1, metadata: "m".into(), commit_timestamp: Timestamp(9) };
    let offset =
        GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 2, value: Some(committed) };
    let (key, value) = offset.encode(&id_of);
    assert_eq!(key, [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
    let expected = [
        &[0, 3][..],
        &[0, 0, 0, 0, 0, 0, 0, 5],
        &[255, 255, 255, 255],
        &[0, 1, b'm'],
        &[0, 0, 0, 0, 0, 0, 0, 9],
    ];
    assert_eq!(value, Some(expected.concat()));
    let value = ClassicValue {
        generation: 7,
        protocol_type: "c".into(),
        protocol: Some("r".into()),
        leader: None,
        state_timestamp: Timestamp(9),
        members: vec![ClassicMemberValue {
            member_id: "i".into(),
            instance_id: None,
            client_id: "d".into(),
            client_host: "h".into(),
            session_timeout_ms: 3,
            rebalance_timeout_ms: 4,
            subscription: vec![1],
            assignment: vec![],
        }],
    };
    let (key, value) = GroupRecord::Classic { group: "g".into(), value: Some(value) }.encode(&id_of);
    assert_eq!(key, [0, 2, 0, 1, b'g']);
    let expected = [
        &[0, 3, 0, 1, b'c', 0, 0, 0, 7, 0, 1, b'r', 255, 255][..],
        &[0, 0, 0, 0, 0, 0, 0, 9],
        &[0, 0, 0, 1, 0, 1, b'i', 255, 255, 0, 1, b'd', 0, 1, b'h'],
        &[0, 0, 0, 4, 0, 0, 0, 3],
        &[0, 0, 0, 1, 1, 0, 0, 0, 0],
    ];
    assert_eq!(value, Some(expected.concat()));
}

/// The same of what belongs to groups of the new protocol.
#[test]
fn the_layout_of_the_new_protocol_stands() {
    let encoded = |record: GroupRecord| {
        let (key, value) = record.encode(&|_| Some(0x11 << 120 | 5));
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(record));
        (key, value.expect("a value"))
    };
    let of = || (String::from("g"), String::from("m"));
    let value = ConsumerValue { epoch: 5, topics_digest: 6, epoch_timestamp: Timestamp(9) };
    let (key, value) = encoded(GroupRecord::Consumer { group: "g".into(), value: Some(value) });
    assert_eq!(key, [0, 3, 0, 1, b'g']);
    // Two tagged fields: the digest, and the time as number 10000, which is 16 + 78 * 128.
    let expected = [
        &[0, 0, 0, 0, 0, 5, 2][..],
        &[0, 8, 0, 0, 0, 0, 0, 0, 0, 6],
        &[0x90, 0x4e, 8, 0, 0, 0, 0, 0, 0, 0, 9],
    ];
    assert_eq!(value, expected.concat());
    let (key, value) = encoded(GroupRecord::ConsumerTargetEpoch { group: "g".into(), value: Some(5) });
    assert_eq!((key, value), (vec![0, 6, 0, 1, b'g'], vec![0, 0, 0, 0, 0, 5, 0]));
    let protocols = vec![GroupProtocol { name: "r".into(), metadata: vec![8, 9] }];
    let value = ConsumerMemberValue {
        client_id: "d".into(),
        rebalance_timeout_ms: 7,
        subscribed_topics: ["t".into()].into(),
        subscribed_regex: Some("a.".into()),
        classic: Some(ClassicSupport { session_timeout_ms: 6, protocols }),
        ..ConsumerMemberValue::default()
    };
    let (group, member_id) = of();
    let (key, value) = encoded(GroupRecord::ConsumerMember { group, member_id, value: Some(value) });
    assert_eq!(key, [0, 5, 0, 1, b'g', 0, 1, b'm']);
    let expected = [
        &[0, 0, 0, 0, 2, b'd', 1, 2, 2, b't', 3, b'a', b'.', 0, 0, 0, 7, 0][..],
        &[1, 0, 13, 1, 0, 0, 0, 6, 2, 2, b'r', 3, 8, 9, 0, 0],
    ];
    assert_eq!(value, expected.concat());
    let topic = [&[0x11][..], &[0; 14], &[5], &[2, 0, 0, 0, 3]].concat();
    let name = [0x90, 0x4e, 2, 2, b't'];
    let assigned: Assignment = [("t".into(), [3].into())].into();
    let (group, member_id) = of();
    let (key, value) =
        encoded(GroupRecord::ConsumerTarget { group, member_id, value: Some(assigned.clone()) });
    assert_eq!(key, [0, 7, 0, 1, b'g', 0, 1, b'm']);
    assert_eq!(value, [&[0, 0, 2][..], &topic, &[1], &name, &[0]].concat());
    let value = CurrentValue {
        member_epoch: 5,
        previous_epoch: 4,
        state: MemberState::UnreleasedPartitions,
        assigned,
        revoking: Assignment::new(),
        earlier_epochs: [("t".into(), [(3, 2)].into())].into(),
    };
    let (group, member_id) = of();
    let (key, value) = encoded(GroupRecord::ConsumerCurrent { group, member_id, value: Some(value) });
    assert_eq!(key, [0, 8, 0, 1, b'g', 0, 1, b'm']);
    let since = [0, 5, 2, 0, 0, 0, 2];
    let expected = [&[0, 0, 0, 0, 0, 5, 0, 0, 0, 4, 2, 2][..], &topic, &[2], &since, &name, &[1, 0]];
    assert_eq!(value, expected.concat());
}

/// What newer versions add to a structure is skipped; what they make anew is refused.
#[test]
fn newer_fields_are_skipped_and_newer_versions_refused() {
    let key = [0, 6, 0, 1, b'g'];
    let newer = [0, 0, 0, 0, 0, 5, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9];
    let known = GroupRecord::ConsumerTargetEpoch { group: "g".into(), value: Some(5) };
    assert_eq!(GroupRecord::decode(&key, Some(&newer)), Ok(known));
    assert_eq!(GroupRecord::decode(&key, Some(&[0, 1])), Err(RecordError::Version { found: 1 }));
    let kind = RecordError::Kind { found: 16 };
    assert_eq!(GroupRecord::decode(&[0, 16, 0, 1, b'g'], None), Err(kind));
    assert!(format!("{kind}").contains("kind 16: run a newer Raftline"));
}

/// A record of a coordinator that is not Raftline's.
#[test]
fn a_topic_without_a_name_is_refused() {
    let key = [0, 7, 0, 1, b'g', 0, 1, b'm'];
    let value = [&[0, 0, 2][..], &[0; 15], &[5, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(GroupRecord::decode(&key, Some(&value)), Err(RecordError::NoTopicName { id: 5 }));
}
