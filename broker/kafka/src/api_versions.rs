//! The handshake: which APIs a broker serves, in which versions (KIP-35, KIP-511).

use crate::api::{Advertised, Api, Served};
use crate::error::ErrorCode;
use crate::wire::{Encoding, Output};
use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsRequest;

/// Whether a client may introduce itself so: software name and version are letters, digits, `-` and `.`, and neither
/// begin nor end with a sign. From version 3 on; older requests say nothing.
#[must_use]
pub fn check(version: i16, request: &ApiVersionsRequest) -> ErrorCode {
    let named = [&request.client_software_name, &request.client_software_version];
    if version < SOFTWARE_FROM || named.iter().all(|name| is_software_name(name)) {
        ErrorCode::None
    } else {
        ErrorCode::InvalidRequest
    }
}

/// The whole answer, to be sent as it is. `version` is a served one, and `error` what [`check`] said: at an error
/// the client learns nothing more.
///
/// Its header never has tagged fields, and no feature is told of: librdkafka before 2.2 cannot read over them.
#[must_use]
pub fn answer(version: i16, correlation_id: i32, error: ErrorCode, served: Served) -> Bytes {
    if error == ErrorCode::None {
        encode(version, correlation_id, error, served.advertised())
    } else {
        encode(version, correlation_id, error, core::iter::empty())
    }
}

/// The whole answer to a version that is not served: in version 0, which every client reads, with the versions of
/// ApiVersions itself and nothing else. The client asks again.
#[must_use]
pub fn unsupported(correlation_id: i32, served: Served) -> Bytes {
    let own = served.advertised().find(|line| line.key == Api::ApiVersions.key());
    encode(0, correlation_id, ErrorCode::UnsupportedVersion, own.into_iter())
}

fn encode(
    version: i16,
    correlation_id: i32,
    error: ErrorCode,
    lines: impl ExactSizeIterator<Item = Advertised>,
) -> Bytes {
    let mut output = Output::frame(Encoding::Fixed, BYTES_HINT);
    output.i32(correlation_id);
    output.set_encoding(Api::ApiVersions.encoding(version));
    output.i16(error.code());
    output.size(Some(lines.len()));
    for Advertised { key, min, max } in lines {
        output.i16(key);
        output.i16(min);
        output.i16(max);
        output.no_tags();
    }
    if version >= THROTTLE_FROM {
        output.i32(0);
    }
    output.no_tags();
    output.finish(0)
}

/// Kafka's pattern: a letter or digit at both ends, `-` and `.` within as well.
fn is_software_name(name: &str) -> bool {
    let ends = [name.bytes().next(), name.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

const THROTTLE_FROM: i16 = 1;
const SOFTWARE_FROM: i16 = 3;
/// Some thirty lines of seven bytes.
const BYTES_HINT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use kafka_protocol::messages::{ApiVersionsResponse, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, StrBytes};

    const SERVED: Served =
        Served::new(&[Api::Produce.advised(), Api::Fetch.up_to(11), Api::ApiVersions.advised()]);

    /// What a client makes of an answer to its request number 7.
    fn read(mut answer: Bytes, version: i16) -> ApiVersionsResponse {
        let size = answer.get_i32();
        assert_eq!(size, i32::try_from(answer.len()).expect("small"));
        assert_eq!(ResponseHeader::decode(&mut answer, 0).expect("header 0").correlation_id, 7);
        let response = ApiVersionsResponse::decode(&mut answer, version).expect("a body");
        assert!(answer.is_empty());
        response
    }

    fn lines(response: &ApiVersionsResponse) -> Vec<(i16, i16, i16)> {
        response.api_keys.iter().map(|line| (line.api_key, line.min_version, line.max_version)).collect()
    }

    #[test]
    fn clients_of_every_version_read_the_answer() {
        for version in 0..=4 {
            let response = read(answer(version, 7, ErrorCode::None, SERVED), version);
            assert_eq!(response.error_code, 0);
            assert_eq!(lines(&response), [(0, 0, 13), (1, 4, 11), (18, 0, 4)]);
            assert!(response.supported_features.is_empty() && response.unknown_tagged_fields.is_empty());
        }
    }

    #[test]
    fn a_version_from_the_future_is_answered_in_version_0() {
        let response = read(unsupported(7, SERVED), 0);
        assert_eq!((response.error_code, lines(&response)), (35, vec![(18, 0, 4)]));
        assert_eq!(
            unsupported(7, SERVED)[..],
            [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]
        );
    }

    #[test]
    fn names_of_clients_are_looked_at_from_version_3_on() {
        let request = |name: &'static str| {
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(name))
                .with_client_software_version(StrBytes::from_static_str("3.0.1"))
        };
        for name in ["librdkafka", "apache-kafka.java", "x"] {
            assert_eq!(check(3, &request(name)), ErrorCode::None, "{name}");
        }
        for name in ["", "-x", "x.", "a b", "ö"] {
            assert_eq!(check(3, &request(name)), ErrorCode::InvalidRequest, "{name}");
            assert_eq!(check(2, &request(name)), ErrorCode::None, "{name}");
        }
        let refused = read(answer(3, 7, ErrorCode::InvalidRequest, SERVED), 3);
        assert_eq!((refused.error_code, lines(&refused).len()), (42, 0));
    }
}
