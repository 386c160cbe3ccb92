//! What happened, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A connection's numbers since it began.
///
/// ```
/// fn report(connection: &zssp::Connection) {
///     let stats = connection.stats();
///     let rtt = stats.rtt.unwrap_or_default();
///     println!("{rtt:?} there and back, {} of {} messages sent again", stats.messages_resent, stats.messages_sent);
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Payloads sealed and sent, of any kind.
    pub payloads_sent: u64,
    /// Authentic payloads received.
    pub payloads_received: u64,
    /// Bytes in the payloads sent, before sealing.
    pub bytes_sent: u64,
    /// Bytes in the payloads received.
    pub bytes_received: u64,
    /// Messages transmitted, repetitions included: those of channels, the chunks of streams, and what the two sides tell
    /// each other about streams.
    pub messages_sent: u64,
    /// Messages transmitted again.
    pub messages_resent: u64,
    /// Transmissions of messages taken for lost.
    pub messages_lost: u64,
    /// Those of them that had arrived, and were only late: on a road that reorders, or loses answers. The more of them there
    /// are, the longer others are waited for.
    pub messages_late: u64,
    /// Parts taken for lost: where a message is sent in parts, they alone are sent again.
    pub parts_lost: u64,
    /// Parts that came after they had been taken for lost, as far as the peer tells: on a road that reorders. The more of
    /// them there are, the longer others are waited for.
    pub parts_late: u64,
    /// Times that nothing at all came back for a whole time-out.
    pub timeouts: u64,
    /// Datagrams that arrived while as many as the buffer holds waited for the application, and were dropped.
    pub datagrams_dropped: u64,
    /// The smoothed round trip, measured with messages, signs of life and probes, once there was one. Datagrams have no
    /// answer and measure nothing: of a connection without messages, a side has that of a probe every few seconds while it
    /// sends large ones, of more than [`Builder::mtu`](crate::Builder::mtu) bytes on a road that was found to carry more,
    /// and that of a sign of life where it hears nothing; otherwise it may have none. A small
    /// [request](crate::Channel::request) now and then measures it on either side.
    pub rtt: Option<Duration>,
    /// The shortest round trip.
    pub min_rtt: Option<Duration>,
    /// Bytes that datagrams to the peer have at most: what the road has been found to carry, or is sure to.
    pub mtu: usize,
    /// Times that a road no longer carried what it had.
    pub mtu_fallbacks: u64,
    /// Bytes of messages that may be under way.
    pub congestion_window: u64,
    /// Bytes of messages that are under way.
    pub bytes_in_flight: u64,
}

/// An endpoint's numbers since it was bound.
///
/// ```
/// fn watch(endpoint: &zssp::Endpoint) {
///     let stats = endpoint.stats();
///     if stats.downgrades > 0 {
///         eprintln!("{} peers have lost their ratchets, or somebody has stolen keys", stats.downgrades);
///     }
///     println!("{} connections, {} datagrams that were none of ours", stats.connections, stats.faults);
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Connections that are up.
    pub connections: usize,
    /// UDP datagrams received.
    pub datagrams_received: u64,
    /// Bytes in them, without the headers of UDP and IP.
    pub bytes_received: u64,
    /// Datagrams that were none of ours, forged, replayed, damaged or late, or handshake packets that could not be read while
    /// another of the same session was. Not those that [`store_failures`](Self::store_failures),
    /// [`downgrades_refused`](Self::downgrades_refused) and [`unwelcome`](Self::unwelcome) count.
    pub faults: u64,
    /// Steps of handshakes that came while as many as allowed were waiting, of their kind or from their sender, and were
    /// dropped: see [`Builder::handshakes`](crate::Builder::handshakes).
    pub handshakes_dropped: u64,
    /// Proven peers that came while as many as allowed waited for [`Endpoint::accept`](crate::Endpoint::accept),
    /// and were ignored.
    pub incoming_dropped: u64,
    /// Payloads that came for a session nobody has any more, or too many before its connection was ready.
    pub payloads_dropped: u64,
    /// Peers' handshakes that wait for their answer, or for the decision about them.
    pub pending_handshakes: usize,
    /// Such handshakes that made room for others: their peers begin anew. Bounded by
    /// [`Limits`](crate::Limits), see [`Builder::limits`](crate::Builder::limits).
    pub pending_evicted: u64,
    /// Hellos of strangers that were still incomplete when they made room for others: fragments of which the rest is lost,
    /// or a flood.
    pub hellos_evicted: u64,
    /// Incomplete packets of sessions and handshakes that made room for others.
    pub incomplete_evicted: u64,
    /// Incomplete packets of sessions and handshakes whose missing fragments did not come in time.
    pub incomplete_expired: u64,
    /// Times the system refused to send, or took nothing until the connection was given up. Counts as loss.
    pub send_errors: u64,
    /// Times the system failed to receive.
    pub receive_errors: u64,
    /// Times a peer had lost the ratchet state that this side remembered, or somebody who has stolen its key pretended
    /// so. Rare in honest operation: look into it. [`EndpointEvent::Downgraded`](crate::EndpointEvent::Downgraded) says who.
    pub downgrades: u64,
    /// Peers that had lost their ratchet and were refused for it, as the policy says.
    pub downgrades_refused: u64,
    /// Hellos left without an answer, as the policy says: of peers that name no ratchet state remembered here. Under
    /// [`Policy::PERSISTENT`](crate::Policy::PERSISTENT) that is how a peer's lost ratchet shows, or one that was restored
    /// from an older copy on either side: only a new one-time password brings the two together. Strangers count too.
    pub unwelcome: u64,
    /// Challenges sent to strangers who had not proven their address.
    pub challenges: u64,
    /// Times the ratchet store failed. The handshakes concerned are tried again by their resends.
    pub store_failures: u64,
    /// Events that found no room where [`Builder::events`](crate::Builder::events) says.
    pub events_dropped: u64,
}

/// A number that several threads add to. Nothing depends on it, nor on how it compares with others at a time.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        if count != 0 {
            self.0.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The endpoint's counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) datagrams_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) faults: Counter,
    pub(crate) handshakes_dropped: Counter,
    pub(crate) incoming_dropped: Counter,
    pub(crate) payloads_dropped: Counter,
    pub(crate) send_errors: Counter,
    pub(crate) receive_errors: Counter,
    pub(crate) downgrades: Counter,
    pub(crate) downgrades_refused: Counter,
    pub(crate) unwelcome: Counter,
    pub(crate) challenges: Counter,
    pub(crate) store_failures: Counter,
    pub(crate) events_dropped: Counter,
}

impl Counters {
    pub(crate) fn snapshot(&self, connections: usize, below: zssp_proto::Stats) -> EndpointStats {
        EndpointStats {
            connections,
            datagrams_received: self.datagrams_received.load(),
            bytes_received: self.bytes_received.load(),
            faults: self.faults.load(),
            handshakes_dropped: self.handshakes_dropped.load(),
            incoming_dropped: self.incoming_dropped.load(),
            payloads_dropped: self.payloads_dropped.load(),
            pending_handshakes: below.pending_handshakes,
            pending_evicted: below.pending_evicted,
            hellos_evicted: below.hellos_evicted,
            incomplete_evicted: below.incomplete_evicted,
            incomplete_expired: below.incomplete_expired,
            send_errors: self.send_errors.load(),
            receive_errors: self.receive_errors.load(),
            downgrades: self.downgrades.load(),
            downgrades_refused: self.downgrades_refused.load(),
            unwelcome: self.unwelcome.load(),
            challenges: self.challenges.load(),
            store_failures: self.store_failures.load(),
            events_dropped: self.events_dropped.load(),
        }
    }
}
