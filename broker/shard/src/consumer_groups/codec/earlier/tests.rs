use super::*;
use crate::consumer_groups::codec::tests::record;
use crate::consumer_groups::record::{
    ClassicSupport, ConsumerMemberValue, ConsumerValue, CurrentValue, OffsetValue, PartitionEpochs,
};
use crate::consumer_groups::store::Store;
use crate::consumer_groups::testing::Chance;
use crate::consumer_groups::types::GroupProtocol;
use alloc::collections::BTreeMap;
use raftline_proto::time::Timestamp;

/// A record as it was written; of a group's targets, their epoch is 9.
fn encode(record: &GroupRecord) -> KeyValue {
    (key(record), write::value(record, 9))
}

/// Some record that was one in this layout.
fn earlier_record(chance: &mut Chance) -> GroupRecord {
    loop {
        let record = record(chance);
        if !matches!(record, GroupRecord::ConsumerTargetEpoch { .. } | GroupRecord::ConsumerMember { .. }) {
            return record;
        }
        if let GroupRecord::ConsumerMember { value, .. } = &record
            && value.as_ref().is_none_or(|value| value.classic.is_none() || value.subscribed_regex.is_none())
        {
            return record;
        }
    }
}

/// What is read of it.
fn meant(record: GroupRecord) -> Vec<GroupRecord> {
    if let GroupRecord::Consumer { group, value } = record {
        let target_epoch =
            GroupRecord::ConsumerTargetEpoch { group: group.clone(), value: value.is_some().then_some(9) };
        return vec![GroupRecord::Consumer { group, value }, target_epoch];
    }
    vec![record]
}

#[test]
fn what_was_written_is_read() {
    for seed in 0..3_000 {
        let record = earlier_record(&mut Chance::new(seed));
        let (key, value) = encode(&record);
        assert!(is_earlier(&key), "seed {seed}");
        assert_eq!(decode(&key, value.as_deref()), Ok(meant(record)), "seed {seed}");
    }
}

#[test]
fn keys_of_both_layouts_are_told_apart() {
    for seed in 0..500 {
        let (key, _) = record(&mut Chance::new(seed)).encode(&|_| None);
        assert!(!is_earlier(&key), "seed {seed}");
    }
}

#[test]
fn damaged_bytes_are_refused_or_read_and_never_panic() {
    for seed in 0..3_000 {
        let chance = &mut Chance::new(seed);
        let (mut key, value) = encode(&earlier_record(chance));
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
        let _ = decode(&key, Some(&value));
    }
}

#[test]
fn every_cut_is_refused() {
    for seed in 0..300 {
        let (key, value) = encode(&earlier_record(&mut Chance::new(seed)));
        let Some(value) = value else { continue };
        for cut in 0..value.len() {
            assert!(decode(&key, Some(&value[..cut])).is_err(), "seed {seed}, cut {cut}");
        }
        for cut in 0..key.len() {
            assert!(decode(&key[..cut], Some(&value)).is_err(), "seed {seed}, key cut {cut}");
        }
    }
}

/// A log as compaction leaves it: of each key its last record, and no tombstones.
fn compacted(log: &[KeyValue]) -> Vec<KeyValue> {
    let last: BTreeMap<&Vec<u8>, usize> = log.iter().enumerate().map(|(at, (key, _))| (key, at)).collect();
    let kept = log.iter().enumerate().filter(|(at, (key, value))| last[key] == *at && value.is_some());
    kept.map(|(_, record)| record.clone()).collect()
}

fn replay(log: &[KeyValue]) -> Store {
    let mut store = Store::default();
    for (key, value) in log {
        let value = value.as_deref();
        let records = if is_earlier(key) {
            decode(key, value).expect("a record")
        } else {
            vec![GroupRecord::decode(key, value).expect("a record")]
        };
        for record in records {
            store.apply(&record);
        }
    }
    store
}

/// A log of the earlier layout is moved over: it says the same, compacted or not, and what goes afterwards stays gone.
#[test]
fn what_is_moved_over_is_the_same_and_can_be_deleted() {
    for seed in 0..300 {
        let chance = &mut Chance::new(seed);
        let mut log: Vec<KeyValue> = (0..20).map(|_| encode(&earlier_record(chance))).collect();
        let before = replay(&log);
        let mut earlier = BTreeSet::new();
        for (key, value) in &log {
            if value.is_some() {
                earlier.insert(key.clone());
            } else {
                earlier.remove(key);
            }
        }
        let batches = moved(before.records(), &earlier, &|_| None);
        // A leader may die between two batches.
        for cut in 0..=batches.len() {
            let some: Vec<KeyValue> = log.iter().chain(batches[..cut].iter().flatten()).cloned().collect();
            assert!(replay(&some) == before, "seed {seed}, {cut} batches");
            assert!(replay(&compacted(&some)) == before, "seed {seed}, {cut} batches, compacted");
        }
        log.extend(batches.into_iter().flatten());
        assert!(compacted(&log).iter().all(|(key, _)| !is_earlier(key)), "seed {seed}");
        let tombstones: Vec<KeyValue> =
            before.records().map(|record| (record.encode(&|_| None).0, None)).collect();
        log.extend(tombstones);
        assert!(replay(&compacted(&log)) == Store::default(), "seed {seed}: something came back");
    }
}

/// What need not be moved is not.
#[test]
fn what_is_in_todays_layout_stays() {
    let record = GroupRecord::ConsumerTargetEpoch { group: "g".into(), value: Some(1) };
    assert!(moved([record].into_iter(), &BTreeSet::new(), &|_| None).is_empty());
}

/// Of many records, batches are of a size that a log takes, and a group stays with the epoch of its targets.
#[test]
fn many_records_are_moved_in_several_batches() {
    let value = |epoch| ConsumerValue { epoch, topics_digest: 1, epoch_timestamp: Timestamp(1) };
    let group = |number: u32| alloc::format!("{number:0>1000}");
    let mut store = Store::default();
    for number in 0..2_000 {
        let (key, bytes) = (group(number), value(i32::try_from(number).expect("small")));
        store.apply(&GroupRecord::Consumer { group: key.clone(), value: Some(bytes) });
        store.apply(&GroupRecord::ConsumerTargetEpoch { group: key, value: Some(9) });
    }
    let earlier: BTreeSet<Vec<u8>> = store.records().map(|record| key(&record)).collect();
    let batches = moved(store.records(), &earlier, &|_| None);
    assert!(batches.len() > 10, "{}", batches.len());
    for batch in &batches {
        let bytes: usize =
            batch.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        assert!(bytes < 2 * APPEND_BYTES, "{bytes}");
        assert_eq!(batch.len() % 3, 0, "the old key, the group, the epoch of its targets");
    }
}

/// The layout is a promise to logs already written: this test may only grow.
#[test]
fn the_layout_stands() {
    let value =
        OffsetValue { offset: 5, leader_epoch: -1, metadata: "m".into(), commit_timestamp: Timestamp(9) };
    let record =
        GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 2, value: Some(value) };
    let (key, value) = encode(&record);
    assert_eq!(key, [1, 1, 0, b'g', 1, 0, b't', 2, 0, 0, 0]);
    let expected = [1, 5, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 1, 0, b'm', 9, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(value.as_deref(), Some(expected.as_slice()));
    assert_eq!(decode(&[9], None), Err(RecordError::Kind { found: 9 }));
    assert_eq!(decode(&[3, 1, 0, b'g'], Some(&[2])), Err(RecordError::Version { found: 2 }));
    assert_eq!(decode(&key, Some(&[2])), Err(RecordError::Version { found: 2 }));
}

/// A member's value has a version of its own if it has a regular expression, and no other layout if it has none.
#[test]
fn a_member_with_an_expression_has_the_second_version() {
    let member = |subscribed_regex: Option<&str>| {
        let value = ConsumerMemberValue {
            rebalance_timeout_ms: 7,
            subscribed_topics: ["t".into()].into(),
            subscribed_regex: subscribed_regex.map(String::from),
            ..ConsumerMemberValue::default()
        };
        GroupRecord::ConsumerMember { group: "g".into(), member_id: "m".into(), value: Some(value) }
    };
    let rest = [0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0, b't', 0];
    let (key, value) = encode(&member(None));
    let first: Vec<u8> = [1].into_iter().chain(rest).collect();
    assert_eq!(value, Some(first));
    let (same_key, value) = encode(&member(Some("a.")));
    let second: Vec<u8> = [2].into_iter().chain(rest).chain([2, 0, b'a', b'.']).collect();
    assert_eq!((&same_key, value.as_ref()), (&key, Some(&second)));
    assert_eq!(decode(&key, Some(&second)), Ok(vec![member(Some("a."))]));
    let next: Vec<u8> = [4].into_iter().chain(rest).collect();
    assert_eq!(decode(&key, Some(&next)), Err(RecordError::Version { found: 4 }));
}

/// A member that speaks the classic protocol has the third version.
#[test]
fn a_member_of_the_classic_protocol_has_the_third_version() {
    let protocols = vec![GroupProtocol { name: "r".into(), metadata: vec![8, 9] }];
    let value = ConsumerMemberValue {
        rebalance_timeout_ms: 7,
        classic: Some(ClassicSupport { session_timeout_ms: 6, protocols }),
        ..ConsumerMemberValue::default()
    };
    let record = GroupRecord::ConsumerMember { group: "g".into(), member_id: "m".into(), value: Some(value) };
    let (key, value) = encode(&record);
    let first = [3, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let said = [6, 0, 0, 0, 1, 0, 0, 0, 1, 0, b'r', 2, 0, 0, 0, 8, 9];
    assert_eq!(value, Some([&first[..], &said].concat()));
    assert_eq!(decode(&key, value.as_deref()), Ok(vec![record]));
}

/// Where a member is has a version of its own if it has had partitions since an earlier epoch, and no other layout if not.
#[test]
fn a_member_with_earlier_epochs_has_the_second_version() {
    let current = |earlier_epochs: PartitionEpochs| {
        let value = CurrentValue {
            member_epoch: 5,
            previous_epoch: 4,
            assigned: [("t".into(), [3].into())].into(),
            earlier_epochs,
            ..CurrentValue::default()
        };
        GroupRecord::ConsumerCurrent { group: "g".into(), member_id: "m".into(), value: Some(value) }
    };
    let epochs: PartitionEpochs = [("t".into(), [(3, 2)].into())].into();
    let rest = [5, 0, 0, 0, 4, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, b't', 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
    let (key, value) = encode(&current(PartitionEpochs::new()));
    let first: Vec<u8> = [1].into_iter().chain(rest).collect();
    assert_eq!(value, Some(first));
    let (same_key, value) = encode(&current(epochs.clone()));
    let earlier = [1, 0, 0, 0, 1, 0, b't', 1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0];
    let second: Vec<u8> = [2].into_iter().chain(rest).chain(earlier).collect();
    assert_eq!((&same_key, value.as_ref()), (&key, Some(&second)));
    assert_eq!(decode(&key, Some(&second)), Ok(vec![current(epochs)]));
    let third: Vec<u8> = [3].into_iter().chain(rest).collect();
    assert_eq!(decode(&key, Some(&third)), Err(RecordError::Version { found: 3 }));
}
