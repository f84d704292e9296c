//! Bodies and frames to try decoders on, each made from a seed.

#![allow(dead_code, reason = "each test takes what it needs")]

use bytes::{BufMut, Bytes, BytesMut};
use raftline_kafka::api::{Api, Served};
use raftline_kafka::screen::{Element, Field, Kind, Null, Shape};
use raftline_kafka::wire::Encoding;

pub mod messages;

/// All that can be served.
pub const EVERYTHING: Served = Served::new(&[
    Api::Produce.up_to(13),
    Api::Fetch.up_to(18),
    Api::ListOffsets.advised(),
    Api::Metadata.advised(),
    Api::OffsetCommit.advised(),
    Api::OffsetFetch.advised(),
    Api::FindCoordinator.advised(),
    Api::JoinGroup.advised(),
    Api::Heartbeat.advised(),
    Api::LeaveGroup.advised(),
    Api::SyncGroup.advised(),
    Api::DescribeGroups.advised(),
    Api::ListGroups.advised(),
    Api::ApiVersions.advised(),
    Api::CreateTopics.advised(),
    Api::DeleteTopics.advised(),
    Api::DeleteRecords.advised(),
    Api::InitProducerId.advised(),
    Api::OffsetForLeaderEpoch.advised(),
    Api::DescribeAcls.advised(),
    Api::CreateAcls.advised(),
    Api::DeleteAcls.advised(),
    Api::DescribeConfigs.advised(),
    Api::AlterConfigs.advised(),
    Api::DescribeLogDirs.advised(),
    Api::CreatePartitions.advised(),
    Api::DeleteGroups.advised(),
    Api::IncrementalAlterConfigs.advised(),
    Api::OffsetDelete.advised(),
    Api::DescribeCluster.advised(),
    Api::ConsumerGroupHeartbeat.advised(),
    Api::ConsumerGroupDescribe.advised(),
]);

/// Chance from a seed (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `count - 1`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).expect("below a size")
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub fn text(&mut self) -> String {
        (0..self.below(9)).map(|_| ['a', 'B', '3', '.', '-', 'é', '字'][self.below(7)]).collect()
    }

    pub fn blob(&mut self) -> Vec<u8> {
        (0..self.below(40)).map(|_| self.byte()).collect()
    }
}

/// Every API with a shape, in each version that can be served.
pub fn shaped() -> impl Iterator<Item = (Api, i16, &'static Shape)> {
    Api::all().filter_map(|api| raftline_kafka::messages::shape(api).map(|shape| (api, shape))).flat_map(
        |(api, shape)| (api.first_version()..=api.last_version()).map(move |version| (api, version, shape)),
    )
}

/// Writes bodies as a shape says, as an encoder would that leaves out nothing needless: the shortest varints, truth
/// as 1, tags in order.
pub struct Sampler<'a> {
    pub chance: &'a mut Chance,
    pub version: i16,
    pub encoding: Encoding,
    pub output: BytesMut,
    /// The nullable-looking field, counted from 0, that is made null although it may not be; if there are so many.
    pub null_at: Option<usize>,
}

impl<'a> Sampler<'a> {
    pub fn new(chance: &'a mut Chance, api: Api, version: i16) -> Self {
        Self { chance, version, encoding: api.encoding(version), output: BytesMut::new(), null_at: None }
    }

    pub fn structure(&mut self, shape: &Shape) {
        for field in shape.fields(self.version) {
            self.field(field);
        }
        if self.encoding == Encoding::Flexible {
            self.tags();
        }
    }

    fn field(&mut self, field: &Field) {
        let is_null = match field.null() {
            Null::Allowed => self.chance.one_in(4),
            Null::Refused if matches!(field.kind(), Kind::Fixed(_)) => false,
            Null::Refused => self.wrongly_null(),
        };
        match field.kind() {
            Kind::Fixed(1) => self.output.put_u8(self.chance.byte() & 1),
            Kind::Fixed(bytes) => self.integer(bytes),
            Kind::Text if is_null => self.text_size(None),
            Kind::Bytes | Kind::Array(_) if is_null => self.long_size(None),
            Kind::Text => self.text(),
            Kind::Bytes => {
                let blob = self.chance.blob();
                self.long_size(Some(blob.len()));
                self.output.put_slice(&blob);
            }
            Kind::Array(element) => {
                let count = self.chance.below(4);
                self.long_size(Some(count));
                for _ in 0..count {
                    match element {
                        Element::Fixed(bytes) => self.integer(bytes),
                        Element::Text if self.wrongly_null() => self.text_size(None),
                        Element::Text => self.text(),
                        Element::Structure(shape) => self.structure(shape),
                    }
                }
            }
        }
    }

    fn wrongly_null(&mut self) -> bool {
        let now = self.null_at == Some(0);
        self.null_at = self.null_at.and_then(|left| left.checked_sub(1));
        now
    }

    fn integer(&mut self, bytes: usize) {
        for _ in 0..bytes {
            self.output.put_u8(self.chance.byte());
        }
    }

    fn text(&mut self) {
        let text = self.chance.text();
        self.text_size(Some(text.len()));
        self.output.put_slice(text.as_bytes());
    }

    fn text_size(&mut self, size: Option<usize>) {
        match self.encoding {
            Encoding::Flexible => self.long_size(size),
            Encoding::Fixed => {
                self.output.put_i16(size.map_or(-1, |size| i16::try_from(size).expect("a short text")));
            }
        }
    }

    fn long_size(&mut self, size: Option<usize>) {
        match self.encoding {
            Encoding::Flexible => self.varint(size.map_or(0, |size| size + 1)),
            Encoding::Fixed => self.output.put_i32(size.map_or(-1, |size| i32::try_from(size).expect("few"))),
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.output.put_u8(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        self.output.put_u8(u8::try_from(value).expect("seven bits"));
    }

    fn tags(&mut self) {
        let count = if self.chance.one_in(6) { self.chance.below(3) } else { 0 };
        self.varint(count);
        for tag in 0..count {
            self.varint(tag * 100);
            let blob = self.chance.blob();
            self.varint(blob.len());
            self.output.put_slice(&blob);
        }
    }
}

/// A body of a shape.
pub fn sample(shape: &Shape, api: Api, version: i16, chance: &mut Chance) -> Bytes {
    let mut sampler = Sampler::new(chance, api, version);
    sampler.structure(shape);
    sampler.output.freeze()
}

/// Changes a few bytes, preferring those values that are large counts.
pub fn mutate(body: &[u8], chance: &mut Chance) -> Bytes {
    let mut body = body.to_vec();
    for _ in 0..=chance.below(3) {
        if body.is_empty() {
            body.push(chance.byte());
            continue;
        }
        let at = chance.below(body.len());
        match chance.below(6) {
            0 => body[at] = chance.byte(),
            1 => body[at] ^= 1 << chance.below(8),
            2 => body.truncate(at),
            3 => body.insert(at, chance.byte()),
            4 => splice(&mut body, at, &[0x7f, 0xff, 0xff, 0xff]),
            _ => splice(&mut body, at, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        }
    }
    body.into()
}

fn splice(body: &mut Vec<u8>, at: usize, value: &[u8]) {
    let up_to = (at + value.len()).min(body.len());
    body.splice(at..up_to, value.iter().copied());
}

/// A request without its size: header, then body.
pub fn frame(api: Api, version: i16, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(api.key());
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(4);
    frame.put_slice(b"test");
    if api.encoding(version) == Encoding::Flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.freeze()
}
