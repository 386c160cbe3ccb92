//! Messages on the reliable channel.

mod common;

use common::{builder, content, endpoint, pair, pair_of, run};
use zssp::{Bytes, RequestError, SendError};

#[test]
fn bulk_arrives_whole_in_order_and_once() {
    run(async {
        let pair = pair().await;
        let (sender, receiver) = (pair.here.channel(), pair.there.channel());
        let sent = Bytes::from(content(1, 64 << 20));
        let bytes = sent.clone();
        let sending = tokio::spawn(async move {
            let mut rest = bytes;
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(60_000));
                sender.send_ordered(chunk).await.unwrap();
            }
            sender.flush().await.unwrap();
            sender.connection().stats()
        });
        let mut received = Vec::with_capacity(sent.len());
        while received.len() < sent.len() {
            received.extend_from_slice(receiver.receive().await.unwrap().data());
        }
        assert!(received == sent, "the content differs");
        let stats = sending.await.unwrap();
        assert!(stats.rtt.is_some());
        assert_eq!(stats.bytes_in_flight, 0);
    });
}
