//! A link whose datagrams a loop of the application's own carries.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::{Link, MAX_SEND, Path, ReceiveBatch, Wakers};
use crate::sync::{RankedMutex, rank};

/// A link for those who own the packets: a loop with threads of its own reads and writes them, in whatever way, and an
/// endpoint on this has the connections.
///
/// The loop has the [`Carrier`]. It gives what comes to [`Carrier::receive`], and takes what is to go from
/// [`Carrier::transmit`]. In between is one queue each way of [`ReceiveBatch::LEN`] bytes, and
/// 1024 datagrams to the endpoint. What finds the first one full is
/// dropped, which `receive` says; what finds the second one full waits.
///
/// The endpoint itself computes on a tokio runtime, which the loop need not know. Neither need those who use the
/// connections: their futures are woken from wherever a datagram led to something, and any executor may poll them. Only
/// [`Channel::request_within`](crate::Channel::request_within) takes the time from the runtime, which its caller has to
/// [enter](tokio::runtime::Handle::enter). `examples/bridge.rs` does all of it on plain threads.
///
/// ```
/// use std::net::UdpSocket;
/// use std::thread;
/// use zssp::link::{Bridge, Carrier, NotTaken, Outgoing};
/// use zssp::{Endpoint, SecretKey};
///
/// fn read(socket: &UdpSocket, carrier: &Carrier) {
///     let mut datagram = [0; 1500];
///     while let Ok((len, from)) = socket.recv_from(&mut datagram) {
///         match carrier.receive(from, &datagram[..len]) {
///             Ok(()) => {}
///             Err(NotTaken::Full) => eprintln!("the endpoint does not keep up"),
///             Err(NotTaken::Closed) => break,
///         }
///     }
/// }
///
/// fn write(socket: &UdpSocket, carrier: &Carrier) {
///     let mut out = Outgoing::new();
///     while carrier.transmit(&mut out, None).is_ok() {
///         for (path, datagram) in out.datagrams() {
///             let _ = socket.send_to(datagram, path.remote);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let (bridge, carrier) = Bridge::new(socket.local_addr()?, 1500);
/// let (reader, reading) = (socket.try_clone()?, carrier.clone());
/// thread::spawn(move || read(&reader, &reading));
/// thread::spawn(move || write(&socket, &carrier));
///
/// let runtime = tokio::runtime::Runtime::new()?;
/// let _guard = runtime.enter();
/// let endpoint = Endpoint::builder(SecretKey::generate()?).bind_link(bridge)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Bridge {
    queues: Arc<Queues>,
    local: SocketAddr,
    mtu: usize,
}

/// The other side of a [`Bridge`], for the loop that owns the packets. Clones are handles of the same, for any number of
/// threads. Without any, what the endpoint sends is lost, and counted as what a link refuses: its connections end as they do
/// over a network that fails.
///
/// ```
/// use std::time::Duration;
/// use zssp::link::{Bridge, Carrier, NotTaken, Outgoing};
///
/// let (bridge, carrier): (Bridge, Carrier) = Bridge::new("10.0.0.1:9993".parse()?, 1500);
/// carrier.receive("10.0.0.2:9993".parse::<std::net::SocketAddr>()?, b"a datagram that has come")?;
/// let mut out = Outgoing::new();
/// carrier.transmit(&mut out, Some(Duration::ZERO))?;
/// assert_eq!(out.datagrams().count(), 0, "the endpoint has nothing to send yet");
/// drop(bridge);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Carrier(Arc<Carried>);

/// What the handles of a [`Carrier`] have in common.
#[derive(Debug)]
struct Carried(Arc<Queues>);

#[derive(Debug, Default)]
struct Queues {
    /// To the endpoint.
    inward: Queue,
    /// From the endpoint.
    outward: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    state: RankedMutex<{ rank::LINK }, State>,
    /// Wait for datagrams.
    readers: Wakers,
    /// Wait for room.
    writers: Wakers,
}

#[derive(Debug, Default)]
struct State {
    /// Whoever takes the datagrams leaves an empty batch in place of this.
    batch: ReceiveBatch,
    /// The other side is gone.
    closed: bool,
}

impl Bridge {
    /// A bridge, and the side of it for the loop. `local` is where peers send to, for
    /// [`Endpoint::local_addr`](crate::Endpoint::local_addr), and `mtu` what the largest datagram may have. Addresses are
    /// handed to and fro, and mean what the loop wants.
    pub fn new(local: SocketAddr, mtu: usize) -> (Self, Carrier) {
        let queues = Arc::new(Queues::default());
        (Self { queues: queues.clone(), local, mtu: mtu.min(MAX_SEND) }, Carrier(Arc::new(Carried(queues))))
    }
}

impl Carrier {
    /// Copies a datagram that came by `path` to where it will be opened. Never waits. The sender's address is enough of a
    /// path for a loop whose answers may leave from any address.
    ///
    /// # Errors
    /// See [`NotTaken`]: the datagram is dropped, as the network may drop it.
    pub fn receive(&self, path: impl Into<Path>, datagram: &[u8]) -> Result<(), NotTaken> {
        {
            let mut state = self.0.0.inward.state.lock();
            if state.closed {
                return Err(NotTaken::Closed);
            }
            let room = state.batch.room().get_mut(..datagram.len()).ok_or(NotTaken::Full)?;
            room.copy_from_slice(datagram);
            state.batch.push(path, datagram.len(), datagram.len());
        }
        self.0.0.inward.readers.wake();
        Ok(())
    }

    /// Waits until something is to go, at most for `timeout` where there is one, and moves all of it into `out`, which is
    /// emptied before. After `timeout` it is empty.
    ///
    /// # Errors
    /// [`Closed`] when the endpoint is gone and nothing is left.
    pub fn transmit(&self, out: &mut Outgoing, timeout: Option<Duration>) -> Result<(), Closed> {
        let start = Instant::now();
        THIS_THREAD.with(|waker| {
            loop {
                if let Poll::Ready(moved) = self.poll_transmit(&mut Context::from_waker(waker), out) {
                    return moved;
                }
                match timeout.map(|timeout| timeout.saturating_sub(start.elapsed())) {
                    None => thread::park(),
                    Some(Duration::ZERO) => return Ok(()),
                    Some(left) => thread::park_timeout(left),
                }
            }
        })
    }

    /// The same for a loop that waits in a way of its own: it is woken when there may be something.
    ///
    /// # Errors
    /// As [`transmit`](Self::transmit).
    pub fn poll_transmit(&self, cx: &mut Context<'_>, out: &mut Outgoing) -> Poll<Result<(), Closed>> {
        out.0.clear();
        let outward = &self.0.0.outward;
        let moved = outward.readers.poll(cx, |_| {
            let mut state = outward.state.lock();
            if !state.batch.is_empty() {
                std::mem::swap(&mut state.batch, &mut out.0);
                Poll::Ready(Ok(()))
            } else if state.closed {
                Poll::Ready(Err(Closed))
            } else {
                Poll::Pending
            }
        });
        if moved.is_ready() {
            outward.writers.wake();
        }
        moved
    }
}

/// Datagrams on their way out, and memory for them: [`ReceiveBatch::LEN`] bytes, to be used again and again.
///
/// ```
/// use std::net::UdpSocket;
/// use zssp::link::{Carrier, Closed, Outgoing};
///
/// /// Sends what the endpoint gives, one after the other, until it is gone.
/// fn write(socket: &UdpSocket, carrier: &Carrier) -> Closed {
///     let mut out = Outgoing::new();
///     loop {
///         if let Err(closed) = carrier.transmit(&mut out, None) {
///             return closed;
///         }
///         for (path, datagram) in out.datagrams() {
///             // What the system does not take is as if it had been lost on the way.
///             let _ = socket.send_to(datagram, path.remote);
///         }
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct Outgoing(ReceiveBatch);

impl Outgoing {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each datagram, in order, with the path that it is to take.
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, &[u8])> {
        self.0.datagrams()
    }
}

/// Why a datagram was not taken, and is dropped.
///
/// ```
/// use zssp::link::{Bridge, NotTaken};
///
/// let here: std::net::SocketAddr = "10.0.0.1:9993".parse()?;
/// let (bridge, carrier) = Bridge::new(here, 1500);
/// let taken = (0..).take_while(|_| carrier.receive(here, &[0; 100]) != Err(NotTaken::Full)).count();
/// assert!(taken > 0, "nobody takes them out");
/// drop(bridge);
/// assert_eq!(carrier.receive(here, &[0; 100]), Err(NotTaken::Closed));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The endpoint does not keep up.
    #[error("the queue to the endpoint is full")]
    Full,
    /// The endpoint is gone, and will take nothing any more.
    #[error("the endpoint is gone")]
    Closed,
}

/// The endpoint is gone.
///
/// ```
/// use zssp::link::{Bridge, Closed, Outgoing};
///
/// let (bridge, carrier) = Bridge::new("10.0.0.1:9993".parse()?, 1500);
/// drop(bridge);
/// assert_eq!(carrier.transmit(&mut Outgoing::new(), None), Err(Closed));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint is gone")]
pub struct Closed;

impl Link for Bridge {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn try_send(&self, path: Path, run: &[u8], segment: usize) -> io::Result<usize> {
        let outward = &self.queues.outward;
        let taken = {
            let mut state = outward.state.lock();
            if state.closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = state.batch.room();
            // Whole datagrams.
            let len = if room.len() < run.len() { room.len() - room.len() % segment } else { run.len() };
            room[..len].copy_from_slice(&run[..len]);
            state.batch.push(path, len, segment);
            len
        };
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        outward.readers.wake();
        Ok(taken)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outward = &self.queues.outward;
        outward.writers.poll(cx, |_| {
            let mut state = outward.state.lock();
            if state.batch.room().len() < self.mtu && !state.closed {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            }
        })
    }

    fn poll_receive(&self, cx: &mut Context<'_>, batch: &mut ReceiveBatch) -> Poll<io::Result<()>> {
        let inward = &self.queues.inward;
        inward.readers.poll(cx, |_| {
            let mut state = inward.state.lock();
            if state.batch.is_empty() {
                return Poll::Pending;
            }
            std::mem::swap(&mut state.batch, batch);
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.queues.inward.state.lock().closed = true;
        self.queues.outward.state.lock().closed = true;
        self.queues.outward.readers.wake();
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.outward.state.lock().closed = true;
        self.0.outward.writers.wake();
    }
}

thread_local! {
    /// Made once, so that waiting allocates nothing.
    static THIS_THREAD: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn received(bridge: &Bridge) -> Vec<(u16, Vec<u8>)> {
        let (mut batch, mut cx) = (ReceiveBatch::new(), Context::from_waker(Waker::noop()));
        match bridge.poll_receive(&mut cx, &mut batch) {
            Poll::Ready(received) => received.unwrap(),
            Poll::Pending => return Vec::new(),
        }
        batch.datagrams().map(|(path, datagram)| (path.remote.port(), datagram.to_vec())).collect()
    }

    #[test]
    fn what_comes_in_is_what_goes_to_the_endpoint() {
        let (bridge, carrier) = Bridge::new(address(1), 1500);
        assert_eq!(received(&bridge), []);
        for port in 2..5 {
            carrier.receive(address(port), &vec![port as u8; usize::from(port)]).unwrap();
        }
        assert_eq!(received(&bridge), [(2, vec![2; 2]), (3, vec![3; 3]), (4, vec![4; 4])]);
        assert_eq!(received(&bridge), []);
    }

    #[test]
    fn a_full_queue_says_what_it_drops_and_goes_on() {
        let (bridge, carrier) = Bridge::new(address(1), 1500);
        let sent = (0..2000).filter(|_| carrier.receive(address(2), &[7; 1400]).is_ok()).count();
        assert_eq!(sent, ReceiveBatch::LEN / 1400);
        assert_eq!(carrier.receive(address(2), &[7; 1400]), Err(NotTaken::Full));
        assert_eq!(received(&bridge).len(), sent);
        assert_eq!(carrier.receive(address(2), &[7; 1400]), Ok(()));
        drop(bridge);
        assert_eq!(carrier.receive(address(2), &[7; 1400]), Err(NotTaken::Closed));
    }

    #[test]
    fn what_finds_no_room_on_the_way_out_waits() {
        let (bridge, carrier) = Bridge::new(address(1), 1500);
        let (mut out, mut cx) = (Outgoing::new(), Context::from_waker(Waker::noop()));
        assert!(carrier.poll_transmit(&mut cx, &mut out).is_pending());
        let run = vec![9; 150_000];
        let mut bytes = 0;
        while let Ok(sent) = bridge.try_send(address(2).into(), &run, 1500) {
            assert!(sent > 0 && sent % 1500 == 0);
            bytes += sent;
        }
        assert!(bridge.poll_writable(&mut cx).is_pending());
        assert_eq!(carrier.transmit(&mut out, Some(Duration::ZERO)), Ok(()));
        let datagrams: Vec<_> =
            out.datagrams().map(|(path, datagram)| (path.remote.port(), datagram.len())).collect();
        assert_eq!(datagrams, vec![(2, 1500); bytes / 1500]);
        assert!(bridge.poll_writable(&mut cx).is_ready());
        carrier.transmit(&mut out, Some(Duration::ZERO)).unwrap();
        assert_eq!(out.datagrams().count(), 0);
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn without_a_carrier_nobody_waits_for_room() {
        let (bridge, carrier) = Bridge::new(address(1), 1500);
        let (run, woken) = (vec![9; 150_000], Arc::new(Woken::default()));
        while bridge.try_send(address(2).into(), &run, 1500).is_ok() {}
        let waker = Waker::from(woken.clone());
        assert!(bridge.poll_writable(&mut Context::from_waker(&waker)).is_pending());
        drop(carrier.clone());
        assert!(!woken.0.load(Ordering::SeqCst), "another handle is left");
        drop(carrier);
        assert!(woken.0.load(Ordering::SeqCst));
        assert!(bridge.poll_writable(&mut Context::from_waker(&waker)).is_ready());
        let refused = bridge.try_send(address(2).into(), &run, 1500).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_waits_for_something_to_go_is_woken_by_it_and_by_the_end() {
        let (bridge, carrier) = Bridge::new(address(1), 1500);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let (mut out, mut got) = (Outgoing::new(), 0);
                while carrier.transmit(&mut out, None).is_ok() {
                    got += out.datagrams().count();
                }
                got
            });
            for _ in 0..100 {
                assert_eq!(bridge.try_send(address(2).into(), &[1; 10], 10).unwrap(), 10);
                thread::yield_now();
            }
            drop(bridge);
            assert_eq!(waiting.join().unwrap(), 100);
        });
    }
}
