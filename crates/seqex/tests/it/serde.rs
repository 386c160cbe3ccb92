//! Packets through a user's own encoding.

use seqex::{Ack, AckKind, Message, Order, Packet, SeqNo};

#[test]
fn packets_survive() {
    let message =
        Message { seq: SeqNo::new(7), reply_to: Some(SeqNo::new(3)), order: Order::Ordered, data: "hi" };
    let ack = Ack { kind: AckKind::Holding, first: SeqNo::new(u32::MAX), count: 2 };
    let expected = [
        r#"{"Message":{"seq":7,"reply_to":3,"order":"Ordered","data":"hi"}}"#,
        r#"{"Ack":{"kind":"Holding","first":4294967295,"count":2}}"#,
    ];
    for (packet, expected) in [Packet::Message(message), Packet::Ack(ack)].into_iter().zip(expected) {
        let text = serde_json::to_string(&packet).expect("plain values");
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Packet<&str>>(&text).expect("what was written"), packet);
    }
}
