//! The packet path: what becomes of a datagram (PROTOCOL 3.3 to 3.5). Every step is *parallel*: threads share nothing
//! that they write, but for the replay window of the packet's own session and, for fragments that did not come in
//! one batch, that session's incomplete packets.

use std::time::Instant;

use super::handshake::{Handshake, Packet, Work};
use super::inner::Owner;
use super::routes::Route;
use super::{Context, Inner};
use crate::address::Address;
use crate::error::Fault;
use crate::session::SessionId;
use crate::wire::{FragmentHeader, HEADER_LEN, KeyId, MIN_FRAGMENT_LEN, PacketNonce, PacketType};
use crate::zfp::{self, Assembly, Cached, Inserted, Outcome, Spares, admitted, unprotect};

/// What a datagram led to.
#[derive(Debug)]
pub enum Received<'a> {
    /// Nothing yet, or nothing that the caller needs to know.
    Nothing,
    /// An authentic payload, delivered once. It may come shortly before the [`Event::Established`] of a session that
    /// this side opened.
    ///
    /// [`Event::Established`]: super::Event::Established
    Payload {
        /// The session it came in.
        session: SessionId,
        /// The payload, decrypted in place.
        bytes: &'a mut [u8],
    },
    /// Handshake work, to be run elsewhere.
    Handshake(Handshake),
}

/// What one receiving thread keeps between datagrams: the packets whose fragments are just coming in, and emptied
/// buffers. One per thread; it allocates nothing in the steady state.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Incomplete packets of the batch that is being received, most recent last.
    incomplete: Vec<(KeyId, Assembly)>,
    /// The packet that was just completed, while the caller looks at its payload.
    whole: Vec<u8>,
    spares: Spares,
}

impl Scratch {
    /// Packets whose fragments may come interleaved in one batch. More than that go the slower way.
    const INTERLEAVED: usize = 4;

    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps `packet` for as long as its payload is looked at, and the memory of the one before it.
    fn hold(&mut self, packet: Vec<u8>) -> &mut [u8] {
        let before = core::mem::replace(&mut self.whole, packet);
        if before.capacity() > 0 {
            self.spares.put(before);
        }
        &mut self.whole
    }
}

/// A packet that is whole, still encrypted.
enum Whole<'a> {
    /// It came in one datagram.
    Datagram(&'a mut [u8]),
    /// It was joined from fragments.
    Joined(Assembly),
}

impl Context {
    /// Reads one datagram, which is changed in the course of it. Any number of threads may do this at once, each with
    /// a [`Scratch`] of its own.
    ///
    /// Call [`flush`](Self::flush) when there are no more datagrams to read at once, or fragments wait in vain.
    ///
    /// # Errors
    /// A [`Fault`] says why the datagram was dropped: for statistics, there is nothing to be done about it.
    pub fn receive<'a>(
        &self,
        now: Instant,
        from: Address,
        datagram: &'a mut [u8],
        scratch: &'a mut Scratch,
    ) -> Result<Received<'a>, Fault> {
        //= ZSSP-HP-04  too short to be read
        if datagram.len() < MIN_FRAGMENT_LEN {
            return Err(Fault::Malformed);
        }
        let Some((kid, _)) = datagram.split_first_chunk::<4>() else { return Err(Fault::Malformed) };
        let Some(kid) = KeyId::new(*kid) else { return self.stranger(now, from, datagram) };
        self.0
            .routes
            .with(kid, |route| self.fragment(route, kid, &Arrival { now, from }, datagram, scratch))
            .unwrap_or(Err(Fault::UnknownKeyId))
    }

    /// Ends a batch: what is incomplete in `scratch` goes to its session, where the rest may come from other threads.
    /// Call it until it returns [`Received::Nothing`].
    ///
    /// # Errors
    /// As [`receive`](Self::receive); call it again after one.
    pub fn flush<'a>(
        &self,
        now: Instant,
        from: Address,
        scratch: &'a mut Scratch,
    ) -> Result<Received<'a>, Fault> {
        while let Some((kid, assembly)) = scratch.incomplete.pop() {
            let arrival = Arrival { now, from };
            let joined = self
                .0
                .routes
                .with(kid, |route| self.0.join_elsewhere(route, kid, now, assembly, &mut scratch.spares))
                .unwrap_or(Err(Fault::UnknownKeyId))?;
            if let Some(assembly) = joined {
                return self
                    .0
                    .routes
                    .with(kid, |route| {
                        self.whole(route, kid, &arrival, assembly.nonce(), Whole::Joined(assembly), scratch)
                    })
                    .unwrap_or(Err(Fault::UnknownKeyId));
            }
        }
        Ok(Received::Nothing)
    }

    /// A fragment under a key id of ours.
    fn fragment<'a>(
        &self,
        route: &Route,
        kid: KeyId,
        arrival: &Arrival,
        datagram: &'a mut [u8],
        scratch: &'a mut Scratch,
    ) -> Result<Received<'a>, Fault> {
        let (ingress, kind) = route.ingress().zip(route.kind()).ok_or(Fault::UnknownKeyId)?;
        //= ZSSP-HP-05  the state is found by kid, its header key decrypts
        unprotect(&*ingress.header.unprotect, [&mut *datagram]);
        let (header, chunk) = split_header(datagram)?;
        //= ZSSP-HP-06  the packet nonce is verified before anything is stored
        admitted(kind, header.nonce).ok_or(Fault::Unexpected)?;
        if let Route::Session { shared, .. } = route {
            shared.check_counter(header.nonce)?;
        }
        if header.count == 1 {
            return self.whole(route, kid, arrival, header.nonce, Whole::Datagram(chunk), scratch);
        }
        match self.0.join(route, kid, arrival.now, &header, chunk, scratch)? {
            Some(assembly) => self.whole(route, kid, arrival, header.nonce, Whole::Joined(assembly), scratch),
            None => Ok(Received::Nothing),
        }
    }

    /// A packet that is whole: payloads are opened here, the rest is handshake work.
    fn whole<'a>(
        &self,
        route: &Route,
        kid: KeyId,
        arrival: &Arrival,
        nonce: PacketNonce,
        packet: Whole<'a>,
        scratch: &'a mut Scratch,
    ) -> Result<Received<'a>, Fault> {
        if let Route::Session { shared, .. } = route
            && nonce.packet_type() == Some(PacketType::Payload)
        {
            let packet = match packet {
                Whole::Datagram(bytes) => bytes,
                Whole::Joined(assembly) => {
                    let joined = assembly.into_packet(&mut scratch.spares);
                    scratch.hold(joined)
                }
            };
            let (session, bytes) = shared.open_payload(kid, nonce, packet)?;
            return Ok(Received::Payload { session, bytes });
        }
        let bytes = match packet {
            Whole::Datagram(bytes) => bytes.to_vec(),
            Whole::Joined(assembly) => assembly.into_packet(&mut scratch.spares),
        };
        let packet = Packet { kid, nonce, bytes, from: arrival.from };
        let work = match route {
            Route::AwaitResponse { cell, .. } => Work::Response { cell: cell.clone(), packet },
            Route::Pending(pending) => Work::Completion { pending: pending.clone(), packet },
            Route::Reserved => return Err(Fault::UnknownKeyId),
            Route::Session { cell, .. } => Work::Control { cell: cell.clone(), packet },
        };
        Ok(Received::Handshake(Handshake { context: self.clone(), work }))
    }

    /// A datagram without a key id: a hello, from anybody.
    fn stranger(&self, now: Instant, from: Address, datagram: &mut [u8]) -> Result<Received<'static>, Fault> {
        let (header, chunk) = split_header(datagram)?;
        //= ZSSP-RPL-09  only hellos and challenges come without a key id
        let packet_type = admitted(zfp::Route::Stranger, header.nonce).ok_or(Fault::Unexpected)?;
        if packet_type != PacketType::Hello {
            return Err(Fault::Unexpected);
        }
        let mut hellos = self.0.hellos.lock();
        let bytes = match hellos.insert(now, &from.to_hash_input(), &header, chunk) {
            Cached::Complete(packet) => Box::from(&packet[..]),
            Cached::Duplicate | Cached::Misfit => return Err(Fault::Fragment),
            Cached::Stored { .. } => return Ok(Received::Nothing),
        };
        drop(hellos);
        let work = Work::Hello { nonce: header.nonce, bytes, from };
        Ok(Received::Handshake(Handshake { context: self.clone(), work }))
    }
}

/// When and from where a datagram came.
struct Arrival {
    now: Instant,
    from: Address,
}

fn split_header(datagram: &mut [u8]) -> Result<(FragmentHeader, &mut [u8]), Fault> {
    let (header, chunk) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(Fault::Malformed)?;
    Ok((FragmentHeader::parse(header).map_err(|_| Fault::Malformed)?, chunk))
}

impl Inner {
    /// Joins a fragment with those of the same batch; the packet, when it is whole.
    fn join(
        &self,
        route: &Route,
        kid: KeyId,
        now: Instant,
        header: &FragmentHeader,
        chunk: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Option<Assembly>, Fault> {
        let Scratch { incomplete, spares, .. } = scratch;
        let here = incomplete.iter().rposition(|(k, assembly)| *k == kid && assembly.nonce() == header.nonce);
        let Some(place) = here else {
            let assembly = Assembly::start(header, chunk, spares);
            if incomplete.len() == Scratch::INTERLEAVED {
                return self.join_elsewhere(route, kid, now, assembly, spares);
            }
            incomplete.push((kid, assembly));
            return Ok(None);
        };
        match incomplete[place].1.insert(header, chunk) {
            Inserted::Completed => Ok(Some(incomplete.swap_remove(place).1)),
            Inserted::Duplicate | Inserted::Misfit => Err(Fault::Fragment),
            Inserted::More => Ok(None),
        }
    }

    /// Joins what one batch brought of a packet with what other batches and threads have.
    fn join_elsewhere(
        &self,
        route: &Route,
        kid: KeyId,
        now: Instant,
        assembly: Assembly,
        spares: &mut Spares,
    ) -> Result<Option<Assembly>, Fault> {
        let ingress = route.ingress().ok_or(Fault::UnknownKeyId)?;
        let mut table = ingress.reassembly.lock();
        let was_idle = table.next_deadline().is_none();
        let merge = table.merge(now, assembly, &self.reassembly, spares);
        let deadline = table.next_deadline();
        drop(table);
        if was_idle && let Some(deadline) = deadline {
            self.timers.lock().schedule(Owner::Reassembly(kid), deadline);
        }
        match merge.outcome {
            Outcome::Complete(assembly) => Ok(Some(assembly)),
            Outcome::Misfit => Err(Fault::Fragment),
            Outcome::NoRoom => Err(Fault::Full),
            Outcome::Stored => Ok(None),
        }
    }

    /// Drops the incomplete packets under `kid` whose time is over.
    pub(super) fn expire_fragments(&self, kid: KeyId, now: Instant) {
        let deadline = self.routes.with(kid, |route| {
            let mut table = route.ingress()?.reassembly.lock();
            table.expire(now, &mut Spares::default());
            table.next_deadline()
        });
        if let Some(deadline) = deadline.flatten() {
            self.timers.lock().schedule(Owner::Reassembly(kid), deadline);
        }
    }
}
