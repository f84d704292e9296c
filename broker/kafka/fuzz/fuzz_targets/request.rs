//! What a connection receives, cut into frames and each frame read as a request: header, screen, decoder. The same
//! bytes are also taken for the body of every API in turn, as few inputs would find all keys by themselves.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use raftline_kafka::api::{Api, Served};
use raftline_kafka::frame::Splitter;
use raftline_kafka::limits::FRAME_BYTES_MAX;
use raftline_kafka::messages::{self, Body, DecodeError};
use raftline_kafka::request::{self, Header, Request};

const SERVED: Served = Served::new(&[
    Api::Produce.up_to(13),
    Api::Fetch.up_to(18),
    Api::Metadata.advised(),
    Api::JoinGroup.advised(),
    Api::ApiVersions.advised(),
    Api::CreateTopics.advised(),
    Api::ConsumerGroupHeartbeat.advised(),
]);

fuzz_target!(|bytes: &[u8]| {
    connection(bytes);
    let Some((&[choice, version], body)) = bytes.split_first_chunk() else { return };
    let api = Api::all().nth(usize::from(choice) % Api::all().count()).expect("within the table");
    let versions = api.last_version() - api.first_version() + 1;
    let version = api.first_version() + i16::from(version) % versions;
    decode(api, version, Bytes::copy_from_slice(body));
});

fn connection(bytes: &[u8]) {
    let mut received = BytesMut::new();
    for piece in bytes.chunks(7) {
        received.extend_from_slice(piece);
        while let Ok(Some(frame)) = Splitter::new(FRAME_BYTES_MAX).next(&mut received) {
            if let Ok(request) = request::open(&frame, SERVED) {
                decode(request.header.api, request.header.version, request.body);
            }
        }
    }
}

/// What passes the screen is decoded, and what does not is not.
fn decode(api: Api, version: i16, body: Bytes) {
    let cost = messages::cost(api, version, &body);
    let header = Header { api, version, correlation_id: 0, client_id: None };
    let decoded = Body::decode(&Request { header, body });
    assert!(!matches!(decoded, Err(DecodeError::Refused { .. })), "{decoded:?}");
    if messages::shape(api).is_some() {
        assert_eq!(cost.is_ok(), decoded.is_ok());
    }
}
