//! Datagrams that are accepted while the connection closes.

use bytes::Bytes;
use loom::sync::Arc;
use loom::thread;

use crate::outbox::Outbox;

/// Whoever closes tells the peer once all is on the link: nothing may be accepted after that.
#[test]
fn loom_what_is_accepted_is_pending_for_whoever_closes() {
    loom::model(|| {
        let outbox = Arc::new(Outbox::new());
        let application = {
            let outbox = outbox.clone();
            thread::spawn(move || outbox.push(Bytes::from_static(b"a")).is_ok())
        };
        outbox.close();
        let is_over = outbox.is_over();
        let accepted = application.join().unwrap();
        assert!(!(is_over && accepted), "it was closed over a datagram");
        assert_eq!((outbox.is_closed(), outbox.is_over()), (true, !accepted));
        assert_eq!(outbox.pop().is_some(), accepted);
    });
}

/// Of several that send and one that closes, whoever comes last sees that all is over: nobody else would look again.
#[test]
fn loom_the_last_to_send_or_close_sees_the_end() {
    loom::model(|| {
        let outbox = Arc::new(Outbox::new());
        for data in [b"a", b"b"] {
            outbox.push(Bytes::from_static(data)).unwrap();
        }
        let senders = [(); 2].map(|()| {
            let outbox = outbox.clone();
            thread::spawn(move || {
                outbox.pop().expect("one for each");
                assert!(!outbox.is_over(), "one is yet to be sent");
                outbox.sent(1);
                outbox.is_over()
            })
        });
        outbox.close();
        let here = outbox.is_over();
        let there = senders.map(|sender| sender.join().unwrap());
        assert!(here || there.contains(&true));
        assert!(outbox.is_over() && outbox.is_empty());
    });
}
