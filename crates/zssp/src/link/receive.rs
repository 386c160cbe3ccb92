//! Received datagrams.

use std::slice::Chunks;

use super::Path;

/// Runs of datagrams in a batch, at most: so many small ones take no more memory than few large ones.
const BATCH_RUNS: usize = 1024;

/// What one call of [`Link::poll_receive`](super::Link::poll_receive) has received: runs of datagrams.
///
/// ```
/// use zssp::link::ReceiveBatch;
/// # fn example(socket: &std::net::UdpSocket, batch: &mut ReceiveBatch) -> std::io::Result<()> {
/// while batch.room().len() >= 1500 {
///     let (len, from) = socket.recv_from(batch.room())?;
///     batch.push(from, len, len);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ReceiveBatch {
    pub(super) memory: Box<[u8]>,
    runs: Vec<Run>,
    end: usize,
}

#[derive(Debug)]
struct Run {
    path: Path,
    start: usize,
    len: usize,
    segment: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    /// Bytes a batch has room for.
    pub const LEN: usize = 1 << 20;

    pub(crate) fn new() -> Self {
        Self { memory: vec![0; Self::LEN].into_boxed_slice(), runs: Vec::new(), end: 0 }
    }

    /// The memory that the next run goes into, from its beginning. Empty when the batch is full.
    pub fn room(&mut self) -> &mut [u8] {
        let start = if self.runs.len() < BATCH_RUNS { self.end } else { self.memory.len() };
        &mut self.memory[start..]
    }

    /// The first `len` bytes of [`room`](Self::room) are datagrams that came by `path`, `segment` bytes each; the last may
    /// be shorter. What is more than there is room for is not taken. Where answers may leave from any address, the
    /// sender's is enough of a path.
    pub fn push(&mut self, path: impl Into<Path>, len: usize, segment: usize) {
        let len = len.min(self.room().len());
        self.push_at(self.end, path.into(), len, segment);
    }

    /// The same for a run that begins somewhere else, behind all that are there.
    pub(super) fn push_at(&mut self, start: usize, path: Path, len: usize, segment: usize) {
        if len > 0 {
            self.runs.push(Run { path, start, len, segment: segment.max(1) });
            self.end = start + len;
        }
    }

    /// Whether so many datagrams, of so many bytes together, find room.
    #[cfg(all(feature = "ethernet", target_os = "linux"))]
    pub(super) fn has_room(&self, datagrams: usize, bytes: usize) -> bool {
        BATCH_RUNS - self.runs.len() >= datagrams && self.memory.len() - self.end >= bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.end = 0;
    }

    /// Bytes of datagrams received.
    pub(crate) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Each datagram received, in order, with the path it came by: for whoever uses or tests a link without an endpoint.
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, &[u8])> {
        self.runs().flat_map(|(&path, datagrams)| datagrams.map(move |datagram| (path, datagram)))
    }

    /// The same by runs of datagrams that came by one path.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Path, Chunks<'_, u8>)> {
        self.runs.iter().map(|run| {
            let bytes = &self.memory[run.start..run.start + run.len];
            (&run.path, bytes.chunks(run.segment))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn runs_come_apart_again() {
        let mut batch = ReceiveBatch::new();
        for (port, len, segment) in [(1, 250, 100), (2, 0, 0), (3, 7, 100)] {
            batch.room()[..len].fill(port);
            batch.push(address(port.into()), len, segment);
        }
        let seen: Vec<_> =
            batch.datagrams().map(|(path, datagram)| (path.remote.port(), datagram.to_vec())).collect();
        assert_eq!(seen, [(1, vec![1; 100]), (1, vec![1; 100]), (1, vec![1; 50]), (3, vec![3; 7])]);
        batch.clear();
        assert_eq!(batch.datagrams().count(), 0);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut batch = ReceiveBatch::new();
        for _ in 0..2 * BATCH_RUNS {
            batch.push(address(1), 1, 1);
        }
        assert_eq!((batch.datagrams().count(), batch.room().len()), (BATCH_RUNS, 0));
        batch.clear();
        batch.push(address(1), 2 * ReceiveBatch::LEN, ReceiveBatch::LEN);
        assert_eq!((batch.datagrams().count(), batch.room().len()), (1, 0));
    }
}
