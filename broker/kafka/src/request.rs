//! The header of a request.

use crate::api::{Api, NotServed, Served};
use crate::wire::{Encoding, Input, WireError};
use bytes::Bytes;
use core::fmt;
use kafka_protocol::protocol::StrBytes;

/// What every request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked for.
    pub api: Api,
    /// In which version the body is written, and the answer is to be. Invariant: served.
    pub version: i16,
    /// The client's number of the request, which the answer repeats.
    pub correlation_id: i32,
    /// What the client calls itself, for logs and quotas; up to 32,767 bytes of its choice.
    pub client_id: Option<StrBytes>,
}

/// A frame that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its header.
    pub header: Header,
    /// What follows it, unread: for [`crate::messages::Body::decode`].
    pub body: Bytes,
}

/// Reads the header of a frame (version 1, or 2 where the API's version is flexible; version 0 belonged to an API
/// between brokers).
///
/// # Errors
/// [`HeaderError`]: close the connection, but for [`HeaderError::ApiVersions`].
pub fn open(frame: &Bytes, served: Served) -> Result<Request, HeaderError> {
    let mut input = Input::new(frame, Encoding::Fixed, 0);
    let key = input.i16()?;
    let version = input.i16()?;
    let correlation_id = input.i32()?;
    let api = match served.find(key, version) {
        Ok(api) => api,
        Err(NotServed::Version { api: Api::ApiVersions, version, .. }) => {
            return Err(HeaderError::ApiVersions { version, correlation_id });
        }
        Err(refused) => return Err(HeaderError::NotServed(refused)),
    };
    // The client id has a fixed size even where nothing else has, so that any broker can read it.
    let client_id = input.optional_text()?;
    input.set_encoding(api.encoding(version));
    input.skip_tags()?;
    Ok(Request { header: Header { api, version, correlation_id, client_id }, body: input.rest() })
}

/// Why a frame is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// ApiVersions in a version that is not served: answer [`crate::api_versions::unsupported`], and the client asks
    /// again in an older one.
    ApiVersions {
        /// The version asked for.
        version: i16,
        /// The request's number.
        correlation_id: i32,
    },
    /// Another API, or in another version, than those served.
    NotServed(NotServed),
    /// No header.
    Malformed(WireError),
}

impl From<WireError> for HeaderError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiVersions { version, .. } => {
                write!(formatter, "ApiVersions version {version} is not served")
            }
            Self::NotServed(refused) => write!(formatter, "{refused}"),
            Self::Malformed(error) => write!(formatter, "no header of a Kafka request: {error}"),
        }
    }
}

impl core::error::Error for HeaderError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Served = Served::new(&[Api::Metadata.advised(), Api::ApiVersions.advised()]);

    /// Key, version, correlation id 7, and what follows.
    fn frame(key: i16, version: i16, rest: &[u8]) -> Bytes {
        let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
        frame.extend_from_slice(&7_i32.to_be_bytes());
        frame.extend_from_slice(rest);
        frame.into()
    }

    #[test]
    fn headers_of_both_versions_are_read() {
        let old = open(&frame(3, 8, &[0, 2, b'm', b'e', 1, 2]), SERVED).expect("version 1");
        let new =
            open(&frame(3, 9, &[0, 2, b'm', b'e', 1, 9, 1, 0, 1, 2]), SERVED).expect("version 2 and a tag");
        for request in [&old, &new] {
            assert_eq!((request.header.api, request.header.correlation_id), (Api::Metadata, 7));
            assert_eq!(request.header.client_id.as_deref(), Some("me"));
            assert_eq!(request.body, [1, 2][..]);
        }
        let nameless = open(&frame(3, 8, &[0xff, 0xff]), SERVED).expect("null is a client id");
        assert_eq!((nameless.header.client_id, nameless.body.len()), (None, 0));
    }

    #[test]
    fn a_header_that_is_cut_short_is_refused() {
        let whole = frame(3, 9, &[0, 2, b'm', b'e', 1, 9, 1, 0]);
        for bytes in 0..whole.len() {
            let cut = open(&whole.slice(..bytes), SERVED);
            assert!(
                matches!(cut, Err(HeaderError::Malformed(WireError::Truncated { .. }))),
                "{bytes}: {cut:?}"
            );
        }
        assert!(open(&whole, SERVED).is_ok());
    }

    #[test]
    fn tagged_fields_of_a_header_are_bounded() {
        let header = |tags: u8| {
            // No client id, a varint of two bytes, then tagged fields without a value.
            let rest = [&[0xff, 0xff, tags | 0x80, 2][..], &[9, 0].repeat(256 + usize::from(tags))].concat();
            open(&frame(3, 9, &rest), SERVED)
        };
        assert!(header(0).is_ok());
        let too_many = WireError::TooMany { found: 257, max: 256 };
        assert_eq!(header(1), Err(HeaderError::Malformed(too_many)));
    }

    #[test]
    fn what_is_not_served_says_so_and_api_versions_can_be_answered() {
        let unknown = open(&frame(999, 0, &[]), SERVED);
        assert_eq!(unknown, Err(HeaderError::NotServed(NotServed::Api { key: 999, version: 0 })));
        assert!(matches!(open(&frame(3, 14, &[]), SERVED), Err(HeaderError::NotServed(_))));
        for version in [-1, 5, 99] {
            let refused = HeaderError::ApiVersions { version, correlation_id: 7 };
            assert_eq!(open(&frame(18, version, &[]), SERVED), Err(refused));
        }
        let malformed = open(&frame(3, 0, &[0, 1, 0xff]), SERVED);
        assert_eq!(malformed, Err(HeaderError::Malformed(WireError::Text)));
    }
}
