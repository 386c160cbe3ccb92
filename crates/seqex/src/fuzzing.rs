//! What the fuzz target and a property test share: any bytes go in, and a panic is a finding.

use alloc::{vec, vec::Vec};

use crate::{
    Ack,
    encoding::{AckWriter, Frame, frames, message_len, put_message},
};

/// Any bytes to the parser; what it finds survives being written and parsed again.
pub fn encoding(bytes: &[u8]) {
    let mut ended = false;
    let mut written = Vec::new();
    let mut found = Vec::new();
    for frame in frames(bytes) {
        assert!(!ended, "something follows an error or a message");
        let frame = match frame {
            Err(_) => {
                ended = true;
                continue;
            }
            Ok(frame) => frame,
        };
        let start = written.len();
        let len = match frame {
            Frame::Ack(channel, ack) => {
                assert!(ack.count > 0);
                written.resize(start + crate::encoding::ACK_LEN, 0);
                write_ack(&mut written[start..], channel, &ack)
            }
            Frame::Message(channel, message) => {
                ended = true;
                assert!(bytes.ends_with(message.data));
                written.extend(vec![0; message_len(&message)]);
                put_message(&mut written[start..], channel, &message)
            }
        };
        written.truncate(start + len.expect("the length that was announced"));
        found.push(frame);
    }
    let again: Result<Vec<_>, _> = frames(&written).collect();
    assert_eq!(again.as_deref(), Ok(&found[..]));
}

fn write_ack(buffer: &mut [u8], channel: u16, ack: &Ack) -> Result<usize, crate::encoding::NoRoom> {
    let mut writer = AckWriter::new(buffer, channel);
    writer.push(ack)?;
    Ok(writer.len())
}
