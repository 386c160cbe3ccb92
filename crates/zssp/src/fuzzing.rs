//! What the fuzz target and a property test share: any bytes go in, and a panic is a finding.

use seqex::encoding::{Frame, Frames, MessageHeader};

use crate::frame::{self, Chunk, Control, Group, Payload, StreamId};

/// Every parser of what is inside a sealed payload: what one accepts, is written as the same bytes again.
pub fn frames(bytes: &[u8]) {
    if let Ok(payload) = Payload::parse(bytes) {
        assert_eq!(written(payload, bytes), bytes);
    }
    if let Ok(control) = Control::parse(bytes) {
        assert_eq!(control.to_bytes(), bytes);
        if let Control::Reset(id, _) | Control::Stop(id, _) = control {
            assert!(id <= StreamId::MAX);
        }
    }
    if let Ok(chunk) = Chunk::parse(bytes) {
        assert_eq!(chunk.flags(), bytes[0]);
    }
}

/// The payload, written again. Where it has something that nobody looks at, that is taken from `bytes`.
fn written(payload: Payload<'_>, bytes: &[u8]) -> Vec<u8> {
    match payload {
        Payload::Arrivals(arrivals) => frame::arrivals(arrivals.ranges().collect::<Vec<_>>().iter()),
        Payload::Bundle(bundle) => {
            let mut count = 0;
            for payload in bundle {
                payload.into_iter().for_each(|(group, frames)| look_through(group, frames));
                count += 1;
            }
            assert!(count <= frame::MAX_BUNDLED + 1, "the last may say that there are more");
            bytes.to_vec()
        }
        Payload::Close { code, reason } => frame::close(code, reason),
        Payload::CloseRead => frame::CLOSE_READ_FRAME.to_vec(),
        Payload::Datagram(data) => [&[frame::DATAGRAM][..], data].concat(),
        Payload::Exchange(group, frames) => {
            let prefix = group.prefix().map_or(vec![], Vec::from);
            look_through(group, frames);
            let rest = bytes.get(prefix.len()..).unwrap_or_default();
            [&prefix[..], rest].concat()
        }
        Payload::Part(part) => {
            assert!(!part.message.data.is_empty() && part.offset + part.message.data.len() <= part.total);
            let group = part.lane.group();
            let (start, prefix) = frame::part(part.number, group, part.offset, part.total);
            let header = MessageHeader::new(part.lane.channel(), &part.message);
            [&start[..], prefix.as_ref().map_or(&[], |prefix| &prefix[..]), &header, part.message.data]
                .concat()
        }
        Payload::Ping(token) => {
            let ping = if bytes.len() == frame::ping(token).len() && bytes.starts_with(&frame::ping(token)) {
                frame::ping(token)
            } else {
                frame::probe(token)
            };
            [&ping[..], bytes.get(ping.len()..).unwrap_or_default()].concat()
        }
        Payload::Pong(token) => frame::pong(token).to_vec(),
    }
}

/// Each frame belongs to an exchange of its group; their own encoding is looked at by `seqex`.
fn look_through(group: Group, frames: Frames<'_>) {
    for frame in frames.flatten() {
        let (Frame::Ack(channel, _) | Frame::Message(channel, _)) = frame;
        let lane = group.lane(channel);
        assert_eq!((lane.group(), lane.channel()), (group, channel));
    }
}
