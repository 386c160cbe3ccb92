//! SEQEX: reliable, optionally ordered exchanges of packets and replies over any lossy, unordered,
//! duplicating packet link (PROTOCOL 8).
//!
//! The core of this crate is the protocol and nothing else: no sockets, no clock, no threads, no `std`. You
//! give it packets and the time; it gives you packets, deliveries and deadlines. Around it are handles for
//! threads and tasks to share, which add waiting and no rule. It adds no cryptography: whoever can forge
//! packets on the link can forge them here, so run it inside a secure session. How packets become bytes is up to you;
//! [`encoding`] is a way to do it.
//!
//! Both ends begin at the same number and live as long as each other. Where the peer begins anew, in another session for
//! instance, begin anew as well: to an exchange that goes on, packets of a fresh one look like those that it has had, and it
//! acknowledges them undelivered.
//!
//! | | one exchange | several, told apart by channel ids |
//! |---|---|---|
//! | core, `no_std` with `alloc` | [`SeqEx`] | [`Channels`] |
//! | shared by threads and tasks, feature `std` | `Exchange`, with its `Driver` | `Multiplexer`, with its `MultiplexerDriver` |
//!
//! # A tour of the core
//!
//! ```
//! use std::time::Duration;
//! use seqex::{Config, Delivery, Message, Order, Packet, SeqEx};
//!
//! let mut alice: SeqEx<&str> = SeqEx::new(Config::default());
//! let mut bob: SeqEx<&str> = SeqEx::new(Config::default());
//! let mut now = Duration::ZERO;
//!
//! // A link that carries everything that one end has to transmit over to the other.
//! fn carry<'a>(now: Duration, from: &mut SeqEx<&'a str>, to: &mut SeqEx<&'a str>) {
//!     while let Some(packet) = from.poll_transmit(now) {
//!         to.receive(now, match packet {
//!             Packet::Ack(ack) => Packet::Ack(ack),
//!             Packet::Message(Message { seq, reply_to, order, data }) => {
//!                 Packet::Message(Message { seq, reply_to, order, data: *data })
//!             }
//!         });
//!     }
//! }
//!
//! // Alice asks. The link loses it.
//! let question = alice.send(now, Order::Unordered, "how are you?")?;
//! assert!(alice.poll_transmit(now).is_some());
//!
//! // When her deadline comes, there is something to transmit again.
//! now = alice.next_deadline().expect("a packet is under way");
//! alice.handle_timeout(now);
//! carry(now, &mut alice, &mut bob);
//!
//! // Bob gets the question with a token, the right to answer it once, and answers.
//! let Some(Delivery::Payload { token, data }) = bob.poll_deliver() else { panic!("no question") };
//! assert_eq!(data, "how are you?");
//! let answer = bob.reply(now, token, Order::Unordered, "fine")?;
//! carry(now, &mut bob, &mut alice);
//!
//! // Alice gets the reply together with what it replies to. A reply can be replied to in turn; she just acknowledges it.
//! let Some(Delivery::Reply { token, data, sent_seq, sent }) = alice.poll_deliver() else { panic!("no reply") };
//! assert_eq!((data, sent_seq, sent), ("fine", question, "how are you?"));
//! alice.acknowledge(token);
//! carry(now, &mut alice, &mut bob);
//!
//! // So both ends know how it ended.
//! assert_eq!(bob.poll_deliver(), Some(Delivery::Acknowledged { seq: answer, data: "fine" }));
//! assert!(alice.is_idle() && bob.is_idle());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A tour of the shared handles
//!
//! An `Exchange` is one end for any number of threads and tasks, and a `Driver` connects it to its link. What may have
//! to wait is a value that waits in either way: `.await` it, or call its `wait` or `wait_timeout`. Guards stand for
//! tokens: dropped, they acknowledge.
//!
#![cfg_attr(feature = "std", doc = "```")]
#![cfg_attr(not(feature = "std"), doc = "```ignore")]
//! use seqex::{Answer, Clock, Config, Delivery, Driver, Exchange, Link, Order};
//! use std::thread;
//!
//! // A link in memory, from one end to the other: what is there to transmit arrives.
//! fn carry(from: &Driver<String>, to: &Driver<String>) {
//!     while from.wait().is_ok() {
//!         while let Some(packet) = from.transmit(|packet| packet.map(String::clone)) {
//!             to.receive(packet);
//!         }
//!     }
//! }
//!
//! let (alice, alice_driver) = Exchange::<String>::new(Config::default(), Clock::default());
//! let (bob, bob_driver) = Exchange::<String>::new(Config::default(), Clock::default());
//! thread::scope(|scope| {
//!     scope.spawn(|| carry(&alice_driver, &bob_driver));
//!     scope.spawn(|| carry(&bob_driver, &alice_driver));
//!     scope.spawn(|| {
//!         while let Ok(delivery) = bob.receive().wait() {
//!             if let Delivery::Payload { token, data } = delivery {
//!                 token.reply(Order::Unordered, data.to_uppercase()).expect("an open exchange");
//!             }
//!         }
//!     });
//!
//!     let answer = alice.request(Order::Unordered, "hello".into()).wait().expect("an answer");
//!     let Answer::Reply { data, sent, .. } = answer else { panic!("no reply") };
//!     assert_eq!((sent.as_str(), data.as_str()), ("hello", "HELLO"));
//!
//!     // Closing ends every wait, and with it the threads.
//!     alice.close();
//!     bob.close();
//! });
//! ```
//!
//! Data of yours may do anything when it is dropped: neither that nor a waker ever runs while an exchange is locked.
//! Only the packets that a `Driver` lends to your encoding are lent under its lock, visibly.
//!
//! # What is guaranteed
//!
//! As long as both ends live and the link lets something through (PROTOCOL 8.2):
//!
//! - Every packet is delivered **exactly once**.
//! - Every delivered packet is **answered exactly once**, by a reply or by an acknowledgement. The
//!   sender gets its own data back with the answer. Both ends agree which packet answers which.
//! - [Ordered](Order::Ordered) packets are delivered in order, see below.
//! - Answering always has room. Sending may be [refused](Refused), for one of two reasons: the remote
//!   has not answered enough yet, or the local application owes answers itself.
//!
//! An answer is the application's word, not the network's: a packet is acknowledged when the peer's
//! application says so, not when it arrives.
//!
//! # Ordered and unordered
//!
//! One exchange carries both kinds, in one sequence. Say that these were sent, from left to right:
//!
//! ```text
//! u1   u2   O3   u4   O5   u6          u: unordered   O: ordered
//! ```
//!
//! - `u1`, `u2`, `u4`, `u6` are delivered when they arrive, in whatever order that is. `u6` may come first of all.
//! - `O3` is delivered after `u1` *and* `u2` were; `O5` after all of `u1`, `u2`, `O3`, `u4`. An ordered
//!   packet is a barrier for itself: whoever handles it knows that everything sent before was handed out.
//! - Handling an ordered packet is a **critical section**: `O5` is not delivered before the token of
//!   `O3` is answered, or [released](SeqEx::release) if the answer takes longer than the section.
//!   Unordered packets are not held up by it.
//!
//! So: send everything ordered, and you have a stream of messages handled one by one. Send everything
//! unordered, and no lost packet ever delays another. Send bulk unordered and then one ordered "that
//! was all", and it arrives as the last.
//!
//! # Loss
//!
//! Packets stay in the send window until they are answered, and are transmitted again when they are
//! taken for lost. [`Resend::Adaptive`] follows RFC 6298 and RFC 9002: a packet that three later ones
//! have overtaken, or that is later than nine eighths of a round trip, is lost; and after a time-out
//! without any answer, one packet probes the path, with exponential back-off. On a link that reorders, where
//! packets taken for lost arrive after all, more of both is tolerated. [`Resend::Fixed`] is the bare protocol.
//! Congestion control belongs to the caller: it stops calling [`poll_resend`](SeqEx::poll_resend) and
//! [`poll_fresh`](SeqEx::poll_fresh) when it wants, and learns from [`Event`] what became of each transmission.
//!
//! An application that takes its time to answer must not look like a lossy link. So the receiver also says, before
//! the answer to a later packet proves the wrong thing, that it [holds](AckKind::Holding) a packet, or that the reply to it
//! has yet to be transmitted. Such a packet is only asked about now and then, in case its answer was lost. An encoding that
//! cannot carry this hint loses nothing but bandwidth. Where no answer comes for half of the least time-out, shared handles say
//! so by themselves; whoever drives the core alone [has it said](SeqEx::tell_held).
//!
//! What acknowledgements say comes out [oldest first](SeqEx::poll_acks), and what they prove is weighed when the sender
//! drains: all packets of one datagram, [received](SeqEx::receive) one after the other, count as one piece of news.
//!
//! # No deadlock
//!
//! Both ends must have the same [`Capacity`], *C*. A sender uses numbers of at most *C* in a row,
//! beginning with its oldest packet without an answer; this is its *span*. A receiver always has a slot
//! for them. Delivering a packet reserves a number for its reply, so span and reservations together
//! never exceed *C*, and answering never has to wait. It is sending and delivering that may have to:
//!
//! 1. a new packet is sent only if that leaves one number free;
//! 2. a packet is delivered only if a number can be reserved, and the last free number goes only to the
//!    packet that is *next*, with all before it delivered;
//! 3. an answered packet leaves the window when its answer arrives, not when the reply is delivered.
//!
//! Suppose that all that was transmitted has arrived, all that was delivered is answered, and still an
//! end *X* has a packet *p* without an answer, its oldest. Then *p* is not delivered at the other end
//! *Y*. All before it are, so *p* is next there and its critical section is free; only rule 2 can hold it
//! back, so the span of *Y* is *C*. Then *Y* has an oldest packet *q* without an answer, too, and the
//! span of *X* is *C* by the same reasoning. Consider the last moment at which span and reservations of
//! *X* rose to *C*. By rules 1 and 2 that was the delivery of a packet that was next; nothing was delivered
//! at *X* since, and its span still began at *p*, so that all before *p* had been answered. There is such a
//! moment for *Y* as well; let *X* be the one for which it came first. At the moment of *Y*, the later one, *Y* delivers a
//! packet from before *p*, its next one. But that had been answered by the moment of *X*, so it had been
//! delivered before. The supposition is wrong.
//!
//! The argument needs a second number beside the one in use, so the least capacity is 2.
//!
//! Where numbers are [kept for answers](SeqEx::keep_for_answers), rules 1 and 2 hold for the others, and for claimed answers
//! the last of all takes the place of the last of those. A reply to a claimed answer uses up a number that was kept, if
//! there is one, and numbers are kept, at first and again, only as far as that leaves another free. Then count, instead of span
//! and reservations, span, reservations for answers to what was not claimed, and either the numbers that are kept or
//! the reservations for answers to claimed answers, whichever are more. Such an answer does not raise this count, keeping
//! never raises it to *C*, and so it reaches *C* only by the delivery of a packet that is next. The argument is the same with
//! it, whether the other end keeps as many or not.
//!
//! # Applications that wait
//!
//! All this supposes that answers are made whatever else happens. An application may instead wait: for the peer to answer
//! a reply, before it answers or takes in anything else. Two ends that do so, with full windows, could each have what the
//! other waits for, and no number to deliver it with. That is what [kept](SeqEx::keep_for_answers) numbers are for: where
//! both ends claim all answers and go on taking and answering those alone, every wait for the answer to an unordered reply ends, and the
//! argument above applies again,
//!
//! - **if an end that is in such a wait, or whose peer is, always has two numbers [kept](SeqEx::kept_for_answers).**
//!
//! For new packets leave these alone, and with two free numbers, claimed answers are delivered in any order; with one, only the
//! packet that is next, which may be one that the application does not take. Nothing but replies to claimed answers takes kept
//! numbers away, and all are kept again whenever there is [room](SeqEx::room) for a new packet. So where *K* are kept, *K* - 2
//! such replies can be made between one moment with room and the next; further ones only if nothing waits. No rule could
//! allow any number of them: each has a number of its own, and none lies *C* beyond the oldest packet without an answer. A
//! peer that answers that one only after *C* more has waited for what cannot be sent.
//!
//! An application that waits for the answer to a *new* packet must take in others meanwhile, in another thread or task: the
//! peer may be doing the same, and then no window is large enough.
//!
//! The shared handles claim the answers to requests, and [keep](SeqEx::keep_for_answers) an eighth of the window for
//! them, two numbers at least; with a capacity of 2 there are none to keep. So where both ends ask by requests, not by
//! plain packets, a thread or a task may answer what it received by an unordered request, and wait for that before it
//! receives the next. An ordered one waits for all that was sent before it, which may be what the peer does not receive
//! meanwhile.
//!
//! # Costs
//!
//! Both windows begin with one slot, and double when more packets are in them than ever before, up to *C* slots. The queues
//! beside them are bounded by small multiples of *C* and grow likewise. So an exchange that is hardly used takes hardly any
//! memory, and in the steady state nothing is allocated (a request with a deadline may allocate, for the deadline).
//! Each transmission, delivery and answer costs O(1), amortised, whatever *C* is; but where an application acknowledges, or
//! a network delivers, thousands of packets in random order, finding the place in a queue costs O(*C*), some 200 ns with
//! 2^12 slots and 2 us with 2^18.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod ack_queue;
mod channels;
mod config;
pub mod encoding;
mod events;
mod exchange;
#[cfg(feature = "std")]
mod face;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod nanos;
mod outcome;
mod packet;
mod receive_window;
mod recovery;
mod reordering;
mod rtt;
mod send_window;
mod seq;
mod table;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use channels::{ChannelLimits, Channels, OpenError, Unopened};
pub use config::{Adaptive, BadCapacity, Capacity, Config, Feedback, Resend};
pub use exchange::SeqEx;
#[cfg(feature = "std")]
pub use face::{
    Accepted, Accepting, Clock, Closed, DeadlineMoved, Delivered, Driver, Ended, Exchange, Guard, Link,
    Multiplexer, MultiplexerDriver, Receiving, Request, Sending, Transmits, Transmittable, Unanswered,
    WhyUnanswered,
};
pub use outcome::{
    Answer, Delivery, DropReason, Event, GaveUp, NotOpen, Received, Refusal, Refused, Remains, Token,
};
pub use packet::{Ack, AckKind, Message, Order, Packet};
pub use seq::SeqNo;

/// The time since an epoch of the caller's choice, the same for all calls on one exchange.
///
/// The core reads no clock; whoever drives it says what time it is. Time that stands still or goes
/// backwards does no harm: then nothing is late.
pub type Timestamp = core::time::Duration;
