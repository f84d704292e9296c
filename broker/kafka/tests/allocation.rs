//! What a client sends costs memory by what it sent, whatever it says. Alone in its process: the allocator counts
//! for all threads.

mod support;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;
use peak_alloc::PeakAlloc;
use raftline_kafka::api::Api;
use raftline_kafka::limits::{DECODED_FACTOR_MAX, REQUEST_TAGS_MAX, TAG_DECODED_BYTES};
use raftline_kafka::messages::{Body, cost, shape};
use raftline_kafka::request;
use support::{Chance, EVERYTHING, frame, messages, mutate, sample};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// An error's text, the decoded structure on the heap, rounding.
const SLACK_BYTES: usize = 1 << 10;

/// Opens and decodes a frame; what it took at most, in bytes.
fn peak(frame: &Bytes) -> (usize, bool) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let decoded = request::open(frame, EVERYTHING).map(|request| Body::decode(&request));
    let peak = MEMORY.peak_usage().saturating_sub(before);
    (peak, matches!(decoded, Ok(Ok(_))))
}

fn body(api: Api, version: i16, chance: &mut Chance) -> Bytes {
    let mut encoded = BytesMut::new();
    match (api, shape(api)) {
        (_, Some(shape)) => return sample(shape, api, version, chance),
        (Api::Produce, None) => messages::produce(chance, version).encode(&mut encoded, version),
        (_, None) => messages::fetch(chance, version).encode(&mut encoded, version),
    }
    .expect("a message of its version");
    encoded.freeze()
}

fn every_version() -> impl Iterator<Item = (Api, i16)> {
    Api::all().flat_map(|api| (api.first_version()..=api.last_version()).map(move |version| (api, version)))
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_follows_the_bytes_that_were_sent() {
    let mut passed = 0;
    for seed in 0..150 {
        let mut chance = Chance(seed);
        for (api, version) in every_version() {
            let whole = body(api, version, &mut chance);
            for body in [mutate(&whole, &mut chance), mutate(&whole, &mut chance), whole] {
                // Counts as the screen does, and at most as much as it promises.
                let bound = match cost(api, version, &body) {
                    Ok(cost) if shape(api).is_some() => cost.decoded_bytes,
                    Ok(_) => DECODED_FACTOR_MAX * body.len(),
                    Err(_) => 0,
                };
                let promised = DECODED_FACTOR_MAX * body.len() + REQUEST_TAGS_MAX * TAG_DECODED_BYTES;
                assert!(bound <= promised, "seed {seed}: {api} {version}: {bound} for {} bytes", body.len());
                let (peak, is_decoded) = peak(&frame(api, version, &body));
                assert!(
                    peak <= bound + SLACK_BYTES,
                    "seed {seed}: {api} {version}: {peak} bytes, {bound} allowed, for {body:02x?}"
                );
                passed += usize::from(is_decoded);
            }
        }
    }
    assert!(passed > 10_000, "only {passed} were decoded: nothing was tried");
    announcements_cost_nothing();
    noise_costs_nothing();
    the_densest_requests_stay_within_the_factor();
}

/// The largest counts in every place where one may stand.
fn announcements_cost_nothing() {
    let mut chance = Chance(1);
    for (api, version) in every_version() {
        let whole = body(api, version, &mut chance);
        for at in 0..=whole.len() {
            for count in [&[0x7f, 0xff, 0xff, 0xff][..], &[0x00, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0x7f]]
            {
                let body = Bytes::from([&whole[..at], count, &[0; 8]].concat());
                let bound = DECODED_FACTOR_MAX * body.len() + REQUEST_TAGS_MAX * TAG_DECODED_BYTES;
                let (peak, _) = peak(&frame(api, version, &body));
                assert!(peak <= bound + SLACK_BYTES, "{api} {version} at {at}: {peak} bytes");
            }
        }
    }
}

/// Frames that are no requests at all.
fn noise_costs_nothing() {
    for seed in 0..20_000 {
        let mut chance = Chance(seed);
        let noise = Bytes::from(chance.blob());
        let (peak, _) = peak(&noise);
        assert!(peak <= DECODED_FACTOR_MAX * noise.len() + SLACK_BYTES, "seed {seed}: {peak} bytes");
    }
}

/// Requests of the smallest elements that there are, as many as may be.
fn the_densest_requests_stay_within_the_factor() {
    let elements: u32 = 130_000;
    // A varint of three bytes, one more than the count.
    let count = elements + 1;
    let [one, two, three, _] = [count & 0x7f | 0x80, count >> 7 & 0x7f | 0x80, count >> 14, 0];
    let count = [one, two, three].map(|byte| u8::try_from(byte).expect("a byte"));
    let dense: [(Api, i16, &[u8], &[u8]); 3] = [
        (Api::LeaveGroup, 4, &[1], &[1, 0, 0]),
        (Api::Produce, 9, &[0, 0, 1, 0, 0, 0, 0], &[1, 1, 0]),
        (Api::ConsumerGroupDescribe, 0, &[], &[1]),
    ];
    for (api, version, before, element) in dense {
        let mut body = BytesMut::from(before);
        body.put_slice(&count);
        (0..elements).for_each(|_| body.put_slice(element));
        body.put_slice(if api == Api::ConsumerGroupDescribe { &[0, 0] } else { &[0] });
        let body = body.freeze();
        let (peak, is_decoded) = peak(&frame(api, version, &body));
        assert!(is_decoded, "{api}");
        assert!(peak <= DECODED_FACTOR_MAX * body.len() + SLACK_BYTES, "{api}: {peak} for {}", body.len());
    }
}
