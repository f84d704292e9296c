//! Produce and Fetch, which are decoded by hand: as the kafka-protocol crate reads them, or not at all. Both are
//! answered in the version asked for.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use raftline_kafka::api::Api;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::fetch::{FetchAnswer, FetchPartitionAnswer, FetchRequest, FetchTopicAnswer};
use raftline_kafka::kafka_protocol::{messages as theirs, protocol::Decodable};
use raftline_kafka::produce::{ProduceAnswer, ProducePartitionAnswer, ProduceRequest, ProduceTopicAnswer};

fuzz_target!(|bytes: &[u8]| {
    let Some((&version, body)) = bytes.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    produce(in_range(Api::Produce, version), &body);
    fetch(in_range(Api::Fetch, version), body);
});

fn in_range(api: Api, version: u8) -> i16 {
    api.first_version() + i16::from(version) % (api.last_version() - api.first_version() + 1)
}

fn produce(version: i16, body: &Bytes) {
    let Ok(request) = ProduceRequest::decode(version, body) else { return };
    // Counts were checked by now, so that their decoder is safe to ask.
    let theirs = theirs::ProduceRequest::decode(&mut body.clone(), version).expect("ours is no laxer");
    assert_eq!(request.timeout_ms, theirs.timeout_ms);
    assert_eq!(request.topics.len(), theirs.topic_data.len());
    for (topic, theirs) in request.topics.iter().zip(&theirs.topic_data) {
        assert_eq!((&topic.name, topic.id), (&theirs.name.0, theirs.topic_id));
        let ours = topic.partitions.iter().map(|partition| (partition.index, &partition.records));
        assert!(ours.eq(theirs.partition_data.iter().map(|partition| (partition.index, &partition.records))));
    }
    let topics = request.topics.into_iter().map(|topic| ProduceTopicAnswer {
        name: topic.name,
        id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ProducePartitionAnswer::of_error(partition.index, ErrorCode::InvalidRecord))
            .collect(),
    });
    let answer = ProduceAnswer { topics: topics.collect(), ..ProduceAnswer::default() };
    assert!(!answer.encode(version, 7).is_empty());
}

fn fetch(version: i16, body: Bytes) {
    let Ok(request) = FetchRequest::decode(version, &body) else { return };
    let topics = request.topics.into_iter().map(|topic| FetchTopicAnswer {
        name: topic.name,
        id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| FetchPartitionAnswer {
                records: vec![body.clone()],
                ..FetchPartitionAnswer::of_error(partition.index, ErrorCode::None)
            })
            .collect(),
    });
    let answer = FetchAnswer {
        throttle_ms: 0,
        error: ErrorCode::None,
        session_id: request.session_id,
        topics: topics.collect(),
        node_endpoints: Vec::new(),
    };
    let pieces = answer.encode(version, 7);
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    let size = pieces[0].first_chunk().expect("a size comes first");
    assert_eq!(usize::try_from(u32::from_be_bytes(*size)), Ok(bytes - 4));
}
