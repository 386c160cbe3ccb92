//! What closing must hand back, and that nothing comes or goes any more after that.

use std::collections::HashSet;
use std::time::Duration;

use seqex::{DropReason, Message, Order, Packet, Received, Refusal, Remains};

use super::{Letter, Pair};

impl Pair {
    /// Closes one end, which the other does not notice. Every letter is accounted for: whatever was sent was answered, or
    /// comes back once, and whatever arrived was delivered, or comes out now.
    pub(crate) fn close(&mut self, end: usize) {
        let Remains { unanswered, acknowledged, undelivered } = self.ends[end].exchange.close();
        let (here, there) = (&self.ends[end], &self.ends[1 - end]);
        let place = |letter: u64| self.letters[&letter].place;

        assert!(unanswered.is_sorted_by_key(|(_, Letter(letter))| place(*letter)), "oldest first");
        for (_, Letter(letter)) in &acknowledged {
            assert!(there.delivered.contains(letter) && !self.replies.contains_key(letter));
            assert!(there.open.iter().all(|(_, open)| open != letter), "nobody has answered {letter}");
        }
        assert!(undelivered.is_sorted_by_key(|&(letter, _)| place(letter)), "in sequence");
        let mut arrived = here.delivered.clone();
        for (letter, answers) in &undelivered {
            assert!(arrived.insert(*letter), "{letter} was delivered");
            let answers = answers.as_ref().map(|(_, Letter(original))| *original);
            assert_eq!(answers, self.letters[letter].reply_to, "the link of {letter}");
        }
        assert_eq!(arrived, here.arrived);

        let mut accounted: HashSet<u64> = here.answered.keys().copied().collect();
        let replied_to = undelivered.into_iter().filter_map(|(_, answers)| answers);
        for (seq, Letter(letter)) in unanswered.into_iter().chain(acknowledged).chain(replied_to) {
            assert_eq!(here.seqs[&letter], seq, "the data that was sent under this number");
            assert!(accounted.insert(letter), "{letter} comes back twice");
        }
        assert_eq!(accounted.len(), here.sent.len(), "everything that was sent");
        self.check_closed(end);
    }

    /// Commands are refused, packets are dropped, drains are empty.
    fn check_closed(&mut self, end: usize) {
        let now = self.now + Duration::from_secs(1000);
        let end = &mut self.ends[end];
        let exchange = &mut end.exchange;
        let again = exchange.close();
        assert!(again.unanswered.is_empty() && again.acknowledged.is_empty() && again.undelivered.is_empty());

        for &seq in end.seqs.values() {
            assert!(!exchange.claim(seq) && !exchange.has_arrived(seq) && exchange.sent(seq).is_none());
        }
        let refused = exchange.send(now, Order::Ordered, Letter(0)).expect_err("closed");
        assert_eq!((refused.reason, refused.data), (Refusal::Closed, Letter(0)));
        for (index, (token, _)) in end.open.drain(..).enumerate() {
            exchange.release(&token);
            assert!(!exchange.abandon(token.seq()));
            if index % 2 == 0 {
                exchange.acknowledge(token);
            } else {
                let refused = exchange.reply(now, token, Order::Unordered, Letter(1)).expect_err("closed");
                assert_eq!(refused.data, Letter(1));
            }
        }
        exchange.tell_held();
        let seq = end.sent.last().map_or_else(Default::default, |last| end.seqs[last].next());
        assert!(!exchange.expects(seq));
        let message = Message { seq, reply_to: None, order: Order::Unordered, data: 2 };
        let dropped = exchange.receive(now, Packet::Message(message));
        assert_eq!(dropped, Received::Dropped { reason: DropReason::Closed, data: 2 });
        exchange.handle_timeout(now);

        assert!(exchange.is_closed() && exchange.is_idle());
        assert_eq!((exchange.can_send(), exchange.room()), (Err(Refusal::Closed), 0));
        assert_eq!((exchange.unanswered(), exchange.in_flight(), exchange.next_deadline()), (0, 0, None));
        assert!(!exchange.can_deliver() && !exchange.can_transmit());
        assert!(exchange.poll_deliver().is_none() && exchange.poll_answer().is_none());
        assert!(exchange.poll_transmit(now).is_none() && exchange.poll_acks().is_none());
        assert!(exchange.poll_resend(now).is_none() && exchange.poll_fresh(now).is_none());
        assert!(exchange.poll_event().is_none());
    }
}
