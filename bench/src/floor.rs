//! The floor of bulk: what AWS-LC and the system take to move sealed payloads from one socket to another.
//!
//! One thread seals and sends, one receives and opens, with one call of each kind for a payload where the system has
//! segmentation offload. There are no headers and no copies, no acknowledgements, no timers and no runtime. Nothing is lost,
//! since the sender stays a few payloads ahead; nor do datagrams overtake one another between two sockets of a host, so
//! counting is all that is needed to know which payload one belongs to.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::measure::{BULK, Clock, Failure, Sample};
use crate::report::{self, Figure, ROUNDS, Row};
use crate::zssp_side::Pair;

/// What it is called in the rows of the table.
pub(crate) const BESIDE_FLOOR: &str = "bulk, beside its floor";

/// The table of bulk and its floor.
pub(crate) const HEADS: [&str; 2] = ["zssp", "floor"];
pub(crate) const FIGURES: [Figure; 2] = [report::rate(BESIDE_FLOOR), report::cost(BESIDE_FLOOR)];

/// Bytes sealed at a time.
pub(crate) const PAYLOAD: usize = 60 * 1024;
const TAG: usize = 16;
/// Bytes of a datagram.
const DATAGRAM: usize = 1400;
/// Payloads that were sent and not opened.
pub(crate) const AHEAD: usize = 4;
/// Asked for. What Linux grants of it where nobody has raised its bound, 416 KiB, has room for them.
const RECEIVE_BUFFER: usize = 1 << 20;
/// What is not there by then was lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the table alone.
pub(crate) async fn print() -> Result<(), Failure> {
    let mut rows = Vec::new();
    for _ in 0..ROUNDS {
        let pair = Pair::connect().await?;
        rows.push(Row::new(BESIDE_FLOOR, pair.bulk().await?, Some(bulk().await?)));
    }
    print!("{}", report::table(HEADS, &FIGURES, &rows)?);
    Ok(())
}

/// The measurement.
pub(crate) async fn bulk() -> Result<Sample, Failure> {
    tokio::task::spawn_blocking(transfer).await?
}

fn transfer() -> Result<Sample, Failure> {
    let (from, to) = (Socket::bind()?, Socket::bind()?);
    let (places, opened) = sync_channel(AHEAD);
    let clock = Clock::start();
    let bytes = thread::scope(|threads| {
        let receiving = threads.spawn(|| receive(&to, opened));
        let sent = send(&from, &to, &places);
        let received = receiving.join().map_err(|_| "the receiving thread has panicked")?;
        sent.and(received)
    })?;
    Ok(clock.stop(bytes, 1))
}

/// Takes a place for each payload, of which the receiver frees one when it has opened one.
fn send(from: &Socket, to: &Socket, places: &SyncSender<()>) -> Result<(), Failure> {
    let (key, payload) = (key()?, vec![7; PAYLOAD]);
    let mut packet = vec![0; PAYLOAD + TAG];
    let (destination, run_len) = (to.io.local_addr()?, DATAGRAM * from.state.max_gso_segments());
    for number in 0..BULK / PAYLOAD {
        if places.send(()).is_err() {
            // The receiver has failed, and says why.
            return Ok(());
        }
        let (text, tag) = packet.split_at_mut(PAYLOAD);
        key.seal_out_of_place_scatter(nonce(number), Aad::empty(), &payload, text, &[], tag)?;
        for contents in packet.chunks(run_len) {
            let segment_size = (contents.len() > DATAGRAM).then_some(DATAGRAM);
            let run = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            from.state.try_send(UdpSockRef::from(&from.io), &run)?;
        }
    }
    Ok(())
}

/// Yields how many bytes came out of the payloads.
fn receive(to: &Socket, opened: Receiver<()>) -> Result<usize, Failure> {
    let (key, mut packet, mut bytes) = (key()?, vec![0; PAYLOAD + TAG], 0);
    for number in 0..BULK / PAYLOAD {
        let mut filled = 0;
        while filled < packet.len() {
            let (mut meta, rest) = ([RecvMeta::default()], IoSliceMut::new(&mut packet[filled..]));
            to.state.recv(UdpSockRef::from(&to.io), &mut [rest], &mut meta)?;
            filled += meta[0].len;
        }
        let text = key.open_in_place(nonce(number), Aad::empty(), &mut packet);
        bytes += text.map_err(|_| "a datagram of the floor was lost")?.len();
        opened.recv()?;
    }
    Ok(bytes)
}

/// One that blocks.
struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    fn bind() -> Result<Self, Failure> {
        let io = UdpSocket::bind("127.0.0.1:0")?;
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        state.set_recv_buffer_size(UdpSockRef::from(&io), RECEIVE_BUFFER)?;
        io.set_nonblocking(false)?;
        io.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { io, state })
    }
}

fn key() -> Result<LessSafeKey, Failure> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[0x42; 32])?))
}

fn nonce(number: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
