//! Sealed packets on their way by one path, gathered so that few system calls send them.

use std::io;
use std::ops::Range;

use super::{Link, Path};

/// A buffer of datagrams in runs of equal size.
///
/// Packets are sealed straight into [`SendBatch::tail`] and joined to the run before them wherever segmentation
/// offload allows: equal datagrams, the last of a run may be shorter.
pub(crate) struct SendBatch {
    capacity: usize,
    /// Allocated when first needed.
    memory: Vec<u8>,
    runs: Vec<Run>,
    filled: usize,
    /// Of how many runs is known what became of them, and how many of those the link refused.
    sent: usize,
    refused: usize,
}

struct Run {
    bytes: Range<usize>,
    segment: usize,
}

impl Run {
    /// Whether datagrams of `segment` bytes, `len` bytes in all, may follow in the same system call.
    fn takes(&self, len: usize, segment: usize) -> bool {
        let whole = self.bytes.len().is_multiple_of(self.segment);
        whole && (segment == self.segment || (len == segment && segment < self.segment))
    }
}

impl SendBatch {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, memory: Vec::new(), runs: Vec::new(), filled: 0, sent: 0, refused: 0 }
    }

    /// The room that is left.
    pub(crate) fn tail(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = vec![0; self.capacity];
        }
        &mut self.memory[self.filled..]
    }

    /// The next `len` bytes of the tail are datagrams of `segment` bytes, the last may be shorter.
    pub(crate) fn push(&mut self, len: usize, segment: usize) {
        let start = self.filled;
        self.filled += len;
        match self.runs.last_mut() {
            Some(run) if run.takes(len, segment) => run.bytes.end = self.filled,
            _ => self.runs.push(Run { bytes: start..self.filled, segment: segment.max(1) }),
        }
    }

    /// Sends everything, waiting for the link where it must, and empties the batch. Yields how many runs the link
    /// refused.
    ///
    /// Cancel safe: what was not sent is sent by the next call, which counts what was refused before as well.
    pub(crate) async fn flush(&mut self, link: &dyn Link, path: Path) -> u64 {
        while let Some(run) = self.runs.get_mut(self.sent) {
            let sent = match link.try_send(path, &self.memory[run.bytes.clone()], run.segment) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => match link.writable().await {
                    Ok(()) => continue,
                    Err(e) => Err(e),
                },
                sent => sent,
            };
            match sent {
                Ok(sent) if sent > 0 && sent < run.bytes.len() => run.bytes.start += sent,
                Ok(1..) => self.sent += 1,
                Ok(0) | Err(_) => {
                    self.refused += 1;
                    self.sent += 1;
                }
            }
        }
        self.discard()
    }

    /// Empties the batch, and yields how many runs the link has refused or not taken.
    pub(crate) fn discard(&mut self) -> u64 {
        let unsent = self.refused + self.runs.len() - self.sent;
        self.runs.clear();
        (self.filled, self.sent, self.refused) = (0, 0, 0);
        unsent as u64
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::task::{Context, Poll};

    use super::super::{ReceiveBatch, Udp};
    use super::*;

    /// Refuses what begins with 0, and takes nothing of anything else.
    struct Stuck;

    impl Link for Stuck {
        fn local_addr(&self) -> SocketAddr {
            ([127, 0, 0, 1], 1).into()
        }

        fn mtu(&self) -> usize {
            1232
        }

        fn try_send(&self, _: Path, run: &[u8], _: usize) -> io::Result<usize> {
            Err(if run[0] == 0 { io::ErrorKind::PermissionDenied } else { io::ErrorKind::WouldBlock }.into())
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_receive(&self, _: &mut Context<'_>, _: &mut ReceiveBatch) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn runs(pushes: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut batch = SendBatch::new(1 << 16);
        for &(len, segment) in pushes {
            batch.push(len, segment);
        }
        batch.runs.iter().map(|run| (run.bytes.len(), run.segment)).collect()
    }

    #[test]
    fn equal_packets_join() {
        assert_eq!(runs(&[(100, 100), (100, 100), (300, 100)]), [(500, 100)]);
    }

    #[test]
    fn a_shorter_packet_ends_its_run() {
        assert_eq!(runs(&[(100, 100), (60, 60), (60, 60)]), [(160, 100), (60, 60)]);
        assert_eq!(runs(&[(250, 100), (100, 100)]), [(250, 100), (100, 100)]);
    }

    #[test]
    fn a_longer_packet_or_a_run_of_others_starts_anew() {
        assert_eq!(runs(&[(60, 60), (100, 100)]), [(60, 60), (100, 100)]);
        assert_eq!(runs(&[(200, 100), (180, 90)]), [(200, 100), (180, 90)]);
    }

    #[tokio::test]
    async fn what_was_pushed_arrives_datagram_by_datagram() {
        let link = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut batch = SendBatch::new(1 << 16);
        for (fill, len, segment) in [(1, 250, 100), (2, 100, 100), (3, 100, 100), (4, 70, 70)] {
            batch.tail()[..len].fill(fill);
            batch.push(len, segment);
        }
        assert_eq!(batch.flush(&link, peer.local_addr().unwrap().into()).await, 0);
        let mut buffer = [0; 2000];
        for (fill, len) in [(1, 100), (1, 100), (1, 50), (2, 100), (3, 100), (4, 70)] {
            let (received, _) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(received, len);
            assert!(buffer[..len].iter().all(|&byte| byte == fill));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_before_the_rest_was_given_up_counts() {
        let mut batch = SendBatch::new(1 << 16);
        for (fill, segment) in [(0, 100), (1, 90), (2, 80)] {
            batch.tail()[..250].fill(fill);
            batch.push(250, segment);
        }
        let path = Path::from(Stuck.local_addr());
        for _ in 0..2 {
            let flush = batch.flush(&Stuck, path);
            assert!(tokio::time::timeout(std::time::Duration::from_secs(1), flush).await.is_err());
        }
        assert_eq!(batch.discard(), 3);
        assert_eq!(batch.discard(), 0);
    }
}
