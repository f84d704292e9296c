//! What comes off the wire: a peer's frame with runs of entries in its appends, and a client's produce request.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use raftline_proto::api::ProduceRequest;
use raftline_proto::peer::{PeerFrame, group_message, peer_frame};
use raftline_proto::{batch, entry};

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(PeerFrame { frame: Some(peer_frame::Frame::Batch(batch)) }) = PeerFrame::decode(bytes.clone()) {
        for message in batch.messages {
            if let Some(group_message::Message::Append(append)) = message.message {
                let _ = entry::decode_run(&append.entries);
            }
        }
    }
    if let Ok(request) = ProduceRequest::decode(bytes) {
        let _ = batch::validate(&request.batch);
    }
});
