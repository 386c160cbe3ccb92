//! The packet path: what becomes of a datagram (PROTOCOL 3.3 to 3.5). Every step is *parallel*: threads share nothing
//! that they write, but for the replay window of the packet's own session and, for fragments that did not come in
//! one batch, that session's incomplete packets.

use std::time::Instant;

use super::handshake::{Handshake, Packet, Work};
use super::inner::Owner;
use super::routes::{Inbound, Ingress, Recent, Route};
use super::scratch::{Desk, Incomplete, Scratch};
use super::{Context, Inner};
use crate::address::Address;
use crate::crypto::UnprotectKey;
use crate::error::Fault;
use crate::session::{Incarnation, SessionId};
use crate::wire::{
    ChallengePacket, FragmentHeader, HEADER_LEN, Hello, KeyId, Malformed, PacketNonce, PacketType,
};
use crate::zfp::{self, Assembly, Cached, Inserted, Outcome, Spares, admitted, unprotect, unprotected};

/// A datagram that stays as it is, and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The sender's address.
    pub from: Address,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// What a datagram led to.
#[derive(Debug)]
//= ZSSP-DEF-20  outcomes are named values
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
        /// Which of the sessions under that id, where a handshake began anew.
        incarnation: Incarnation,
        /// The payload, decrypted.
        bytes: &'a mut [u8],
    },
    /// Handshake work, to be run elsewhere.
    Handshake(Handshake),
    /// A datagram to be sent back to where this one came from: a challenge (PROTOCOL 4). It is a thirtieth of what a
    /// hello takes, so nobody is flooded by way of it.
    Reply([u8; REPLY_LEN]),
}

/// Bytes of a [`Received::Reply`].
const REPLY_LEN: usize = HEADER_LEN + ChallengePacket::LEN;
const _: () = assert!(30 * REPLY_LEN <= HEADER_LEN + Hello::LEN);

/// A datagram under a key id of ours, its header protected.
enum Protected<'a> {
    /// It may be changed, and is decrypted where it is.
    InPlace(&'a mut [u8]),
    /// It stays as it is.
    Fixed(&'a [u8]),
}

/// The piece of a packet in a datagram.
enum Chunk<'a> {
    InPlace(&'a mut [u8]),
    /// The first four bytes were under the header's protection.
    Fixed {
        head: [u8; 4],
        tail: &'a [u8],
    },
}

impl<'a> Protected<'a> {
    //= ZSSP-HP-05  the state is found by kid, its header key decrypts
    fn open(self, key: &dyn UnprotectKey) -> Result<(FragmentHeader, Chunk<'a>), Malformed> {
        match self {
            Self::InPlace(datagram) => {
                unprotect(key, datagram);
                let (header, chunk) = FragmentHeader::split_off(datagram)?;
                Ok((header, Chunk::InPlace(chunk)))
            }
            Self::Fixed(datagram) => {
                let (header, head, tail) = unprotected(key, datagram).ok_or(Malformed)?;
                Ok((FragmentHeader::parse(&header)?, Chunk::Fixed { head, tail }))
            }
        }
    }
}

impl Chunk<'_> {
    /// Its bytes, one part after the other.
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::InPlace(bytes) => [bytes, &[]],
            Self::Fixed { head, tail } => [head, tail],
        }
    }
}

/// A packet that is whole, still encrypted.
enum Whole<'a> {
    /// It came in one datagram.
    Datagram(PacketNonce, Chunk<'a>),
    /// It was joined from fragments.
    Joined(Assembly),
}

impl Whole<'_> {
    const fn nonce(&self) -> PacketNonce {
        match self {
            Self::Datagram(nonce, _) => *nonce,
            Self::Joined(assembly) => assembly.nonce(),
        }
    }
}

/// What arrived where.
#[derive(Clone, Copy)]
struct Arrival {
    now: Instant,
    from: Address,
    kid: KeyId,
}

/// Where a thread joins fragments, and where a packet goes that does not stay where it came.
struct Room<'a, 'd> {
    desk: &'d mut Desk,
    packet: &'a mut Vec<u8>,
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
        match FragmentHeader::peek_kid(datagram).map_err(|_| Fault::Malformed)? {
            None => self.stranger(now, from, datagram),
            Some(kid) => {
                let Scratch { recent, desk, joined } = scratch;
                let room = Room { desk, packet: joined };
                self.known(Arrival { now, from, kid }, Protected::InPlace(datagram), recent, room)
            }
        }
    }

    /// Reads one datagram that cannot be changed, for it lies in a packet ring or belongs to somebody else. A payload
    /// is copied once, into `payload`, and decrypted there: whatever was in it before, it then holds the payload and
    /// nothing else, and [`Received::Payload`] shows it. To hand the payload to another thread, hand over the buffer.
    ///
    /// Where the payload came in several datagrams, it has been copied once already when it is whole. It is not copied
    /// again: its buffer takes the place of yours, whose memory `scratch` keeps for packets to come. So in the steady
    /// state nothing is allocated, as long as buffers come back into use that are about as large as the payloads.
    ///
    /// End a batch with [`flush_into`](Self::flush_into). Everything else is as for [`receive`](Self::receive).
    ///
    /// ```
    /// # use std::time::Instant;
    /// # use zssp_proto::{Address, Context, Datagram, Fault, Received, Scratch, SessionId};
    /// /// What a receiving thread does with a frame of its packet ring.
    /// fn frame(
    ///     context: &Context,
    ///     datagram: Datagram<'_>,
    ///     scratch: &mut Scratch,
    ///     pool: &mut Vec<Vec<u8>>,
    ///     workers: &std::sync::mpsc::SyncSender<(SessionId, Vec<u8>)>,
    /// ) -> Result<(), Fault> {
    ///     let mut payload = pool.pop().unwrap_or_default();
    ///     match context.receive_into(Instant::now(), datagram, scratch, &mut payload)? {
    ///         Received::Payload { session, .. } => drop(workers.try_send((session, payload))),
    ///         Received::Handshake(handshake) => { /* to the pool of handshakes */ }
    ///         Received::Reply(datagram) => { /* back to where it came from */ }
    ///         Received::Nothing => pool.push(payload),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As for [`receive`](Self::receive). What `payload` then holds is unspecified, and none of it is plaintext.
    pub fn receive_into<'a>(
        &self,
        now: Instant,
        Datagram { from, bytes }: Datagram<'a>,
        scratch: &mut Scratch,
        payload: &'a mut Vec<u8>,
    ) -> Result<Received<'a>, Fault> {
        match FragmentHeader::peek_kid(bytes).map_err(|_| Fault::Malformed)? {
            None => self.stranger(now, from, bytes),
            Some(kid) => {
                let Scratch { recent, desk, .. } = scratch;
                let room = Room { desk, packet: payload };
                self.known(Arrival { now, from, kid }, Protected::Fixed(bytes), recent, room)
            }
        }
    }

    /// Ends a batch: what is incomplete in `scratch` goes to its session, where the rest may come from other threads.
    /// Call it until it returns [`Received::Nothing`].
    ///
    /// # Errors
    /// As [`receive`](Self::receive); call it again after one.
    pub fn flush<'a>(&self, now: Instant, scratch: &'a mut Scratch) -> Result<Received<'a>, Fault> {
        let Scratch { recent, desk, joined } = scratch;
        recent.forget();
        self.hand_over(now, Room { desk, packet: joined })
    }

    /// Ends a batch as [`flush`](Self::flush) does; a payload goes where [`receive_into`](Self::receive_into) puts it.
    ///
    /// # Errors
    /// As [`receive_into`](Self::receive_into); call it again after one.
    pub fn flush_into<'a>(
        &self,
        now: Instant,
        scratch: &mut Scratch,
        payload: &'a mut Vec<u8>,
    ) -> Result<Received<'a>, Fault> {
        let Scratch { recent, desk, .. } = scratch;
        recent.forget();
        self.hand_over(now, Room { desk, packet: payload })
    }

    /// A datagram under a key id.
    fn known<'a>(
        &self,
        arrival: Arrival,
        datagram: Protected<'a>,
        recent: &mut Recent,
        room: Room<'a, '_>,
    ) -> Result<Received<'a>, Fault> {
        let (routes, kid) = (&self.0.routes, arrival.kid);
        let version = routes.version();
        if let Some(route) = recent.route(kid, version) {
            return self.fragment(route, arrival, datagram, room);
        }
        let received = routes.with(kid, |entry| {
            let received = self.fragment(&entry.route, arrival, datagram, room);
            if let Ok(Received::Nothing | Received::Payload { .. }) = received {
                recent.remember(kid, version, entry);
            }
            received
        });
        received.unwrap_or(Err(Fault::UnknownKeyId))
    }

    /// Hands what is incomplete to its sessions, until one of them has all of a packet.
    fn hand_over<'a>(&self, now: Instant, room: Room<'a, '_>) -> Result<Received<'a>, Fault> {
        while let Some(Incomplete { kid, from, assembly }) = room.desk.incomplete.pop() {
            let arrival = Arrival { now, from, kid };
            let spares = &mut room.desk.spares;
            let joined = self
                .0
                .routes
                .with(kid, |entry| self.0.join_elsewhere(&entry.route, arrival, assembly, spares));
            let joined = joined.unwrap_or(Err(Fault::UnknownKeyId))?;
            if let Some(assembly) = joined {
                let packet = Whole::Joined(assembly);
                let opened = self.0.routes.with(kid, |entry| self.whole(&entry.route, arrival, packet, room));
                return opened.unwrap_or(Err(Fault::UnknownKeyId));
            }
        }
        Ok(Received::Nothing)
    }

    /// A fragment under a key id of ours.
    fn fragment<'a>(
        &self,
        route: &Route,
        arrival: Arrival,
        datagram: Protected<'a>,
        room: Room<'a, '_>,
    ) -> Result<Received<'a>, Fault> {
        let (header_key, kind) = route.unprotect().zip(route.kind()).ok_or(Fault::UnknownKeyId)?;
        let (header, chunk) = datagram.open(header_key).map_err(|Malformed| Fault::Malformed)?;
        //= ZSSP-HP-06  the packet nonce is verified before anything is stored
        admitted(kind, header.nonce).ok_or(Fault::Unexpected)?;
        if let Route::Session(inbound) = route {
            inbound.shared.check_counter(header.nonce)?;
        }
        if header.count == 1 {
            return self.whole(route, arrival, Whole::Datagram(header.nonce, chunk), room);
        }
        match self.0.join(route, arrival, (&header, chunk.parts()), room.desk)? {
            Some(assembly) => self.whole(route, arrival, Whole::Joined(assembly), room),
            None => Ok(Received::Nothing),
        }
    }

    /// A packet that is whole: payloads are opened here, the rest is handshake work.
    //= ZSSP-HP-07  the header says where to go; the packet itself must be authentic
    fn whole<'a>(
        &self,
        route: &Route,
        arrival: Arrival,
        whole: Whole<'a>,
        Room { desk, packet }: Room<'a, '_>,
    ) -> Result<Received<'a>, Fault> {
        let (kid, nonce) = (arrival.kid, whole.nonce());
        if let Route::Session(Inbound { shared, open, .. }) = route
            && nonce.packet_type() == Some(PacketType::Payload)
        {
            let (session, incarnation) = (shared.id, shared.incarnation);
            match whole {
                Whole::Datagram(_, Chunk::InPlace(bytes)) => {
                    let bytes = shared.open_payload(&**open, nonce, bytes)?;
                    return Ok(Received::Payload { session, incarnation, bytes });
                }
                Whole::Datagram(_, chunk) => {
                    packet.clear();
                    chunk.parts().iter().for_each(|part| packet.extend_from_slice(part));
                }
                Whole::Joined(assembly) => desk.take_packet(assembly, packet),
            }
            let len = shared.open_payload(&**open, nonce, packet)?.len();
            packet.truncate(len);
            return Ok(Received::Payload { session, incarnation, bytes: packet });
        }
        let bytes = match whole {
            Whole::Datagram(_, chunk) => chunk.parts().concat(),
            Whole::Joined(assembly) => assembly.into_packet(&mut desk.spares),
        };
        // Nobody may fill up the pool with what is known to lead nowhere.
        if let Route::Pending(pending) = route
            && pending.is_busy()
        {
            return Err(Fault::Busy);
        }
        let packet = Packet { kid, nonce, bytes, from: arrival.from };
        let work = match route {
            Route::AwaitResponse { cell, .. } => Work::Response { cell: cell.clone(), packet },
            Route::Pending(pending) => Work::Completion { pending: pending.clone(), packet },
            Route::Reserved => return Err(Fault::UnknownKeyId),
            Route::Session(Inbound { shared, cell, .. }) => {
                // Here and not when the work is run: a fast session's window does not wait for its turn.
                let bytes = shared.open_control(self.0.provider(), kid, nonce, &packet.bytes)?;
                Work::Control { cell: cell.clone(), packet: Packet { bytes, ..packet } }
            }
        };
        Ok(Received::Handshake(Handshake { context: self.clone(), work }))
    }

    /// A datagram without a key id: a hello, from anybody.
    fn stranger(&self, now: Instant, from: Address, datagram: &[u8]) -> Result<Received<'static>, Fault> {
        let (header, chunk) = datagram.split_first_chunk().ok_or(Fault::Malformed)?;
        let header = FragmentHeader::parse(header).map_err(|_| Fault::Malformed)?;
        //= ZSSP-RPL-09  only hellos and challenges come without a key id
        let packet_type = admitted(zfp::Route::Stranger, header.nonce).ok_or(Fault::Unexpected)?;
        if packet_type == PacketType::Challenge {
            return self.challenged(&header, chunk);
        }
        let mut hellos = self.0.hellos.lock();
        let bytes = match hellos.insert(now, &from.to_hash_input(), &header, chunk) {
            Cached::Complete(packet) => Box::from(&packet[..]),
            Cached::Duplicate | Cached::Misfit => return Err(Fault::Fragment),
            Cached::Stored => return Ok(Received::Nothing),
            Cached::StoredAfterEviction => {
                self.0.drops.hellos_evicted.add(1);
                return Ok(Received::Nothing);
            }
        };
        drop(hellos);
        //= ZSSP-SEC-05  a flood costs hashes only
        if self.0.demands_response(now)
            && let Some(challenge) = self.0.challenge(now, from, &bytes)?
        {
            return Ok(Received::Reply(challenge));
        }
        let work = Work::Hello { nonce: header.nonce, bytes, from };
        Ok(Received::Handshake(Handshake { context: self.clone(), work }))
    }

    /// A challenge, which names the key id of our hello.
    fn challenged(&self, header: &FragmentHeader, chunk: &[u8]) -> Result<Received<'static>, Fault> {
        let packet = ChallengePacket::parse(chunk).map_err(|_| Fault::Malformed)?;
        if header.count != 1 {
            return Err(Fault::Malformed);
        }
        let cell = self.0.routes.with(packet.kid, |entry| match &entry.route {
            Route::AwaitResponse { cell, .. } => Some(cell.clone()),
            _ => None,
        });
        let cell = cell.flatten().ok_or(Fault::UnknownKeyId)?;
        let work = Work::Challenge { cell, packet };
        Ok(Received::Handshake(Handshake { context: self.clone(), work }))
    }
}

impl Outcome {
    fn into_packet(self) -> Result<Option<Assembly>, Fault> {
        match self {
            Self::Complete(assembly) => Ok(Some(assembly)),
            Self::Misfit => Err(Fault::Fragment),
            Self::NoRoom => Err(Fault::Full),
            Self::Stored => Ok(None),
        }
    }
}

impl Inner {
    //= ZSSP-SEC-05  three hashes, where a hello without a challenge costs public-key operations
    /// The datagram that challenges a hello; `None` when its response passes. At most three hashes either way.
    fn challenge(&self, now: Instant, from: Address, hello: &[u8]) -> Result<Option<[u8; REPLY_LEN]>, Fault> {
        let hello = Hello::parse(hello).map_err(|_| Fault::Malformed)?;
        let (provider, address) = (self.provider(), from.to_hash_input());
        let fault = |_| Fault::Provider;
        if self.challenger.passes(provider, now, &address, &hello.response).map_err(fault)? {
            return Ok(None);
        }
        let challenge =
            self.challenger.challenge(provider, now, &address, hello.response.pow).map_err(fault)?;
        let mut counter = [0; 8];
        provider.random(&mut counter).map_err(fault)?;
        //= ZSSP-ZCP-11  type 9, kid 0, a random counter, unprotected
        let nonce = PacketNonce::new(PacketType::Challenge, u64::from_be_bytes(counter));
        let header = FragmentHeader { kid: None, number: 0, count: 1, nonce }.emit();
        //= ZSSP-ZCP-12  Alice's kid, then the challenge
        let mut datagram = header.to_vec();
        ChallengePacket { kid: hello.kid, challenge }.emit(&mut datagram);
        Ok(datagram.try_into().ok())
    }

    /// Joins a fragment with those of the same batch; the packet, when it is whole.
    fn join(
        &self,
        route: &Route,
        arrival: Arrival,
        (header, chunk): (&FragmentHeader, [&[u8]; 2]),
        desk: &mut Desk,
    ) -> Result<Option<Assembly>, Fault> {
        let Desk { incomplete, spares } = desk;
        let Arrival { kid, from, .. } = arrival;
        let here = incomplete.iter().rposition(|it| it.kid == kid && it.assembly.nonce() == header.nonce);
        let Some(place) = here else {
            // What an earlier batch began goes on there at once, so that the packet is whole when its turn comes and not
            // when this batch ends.
            if let Some(begun) = route.ingress().and_then(|ingress| ingress.go_on(arrival.now, header, chunk))
            {
                return begun.into_packet();
            }
            let assembly = Assembly::start(header, chunk, spares);
            if incomplete.len() == Desk::INTERLEAVED {
                return self.join_elsewhere(route, arrival, assembly, spares);
            }
            incomplete.push(Incomplete { kid, from, assembly });
            return Ok(None);
        };
        match incomplete[place].assembly.insert(header, chunk) {
            Inserted::Completed => Ok(Some(incomplete.swap_remove(place).assembly)),
            Inserted::Duplicate | Inserted::Misfit => Err(Fault::Fragment),
            Inserted::More => Ok(None),
        }
    }

    /// Joins what one batch brought of a packet with what other batches and threads have.
    fn join_elsewhere(
        &self,
        route: &Route,
        arrival: Arrival,
        assembly: Assembly,
        spares: &mut Spares,
    ) -> Result<Option<Assembly>, Fault> {
        let ingress = route.ingress().ok_or(Fault::UnknownKeyId)?;
        let limits = match route {
            Route::Session(_) => &self.session_reassembly,
            _ => &self.handshake_reassembly,
        };
        let (was_released, merge, deadline) = ingress.with_reassembly(|table| {
            let was_released = table.is_released();
            let merge = table.merge(arrival.now, assembly, limits, spares);
            (was_released, merge, table.next_deadline())
        });
        if was_released && let Some(deadline) = deadline {
            let owner = match route {
                Route::Session(inbound) => Owner::Fragments(inbound.shared.id),
                _ => Owner::HandshakeFragments(arrival.kid),
            };
            self.timers.lock().schedule(owner, deadline);
        }
        self.drops.incomplete_expired.add(merge.expired);
        self.drops.incomplete_evicted.add(merge.evicted);
        merge.outcome.into_packet()
    }

    /// Drops the incomplete packets of `owner` whose time is over.
    //= ZSSP-REA-04  whichever key ids lead to it now
    pub(super) fn expire_fragments(&self, owner: Owner, now: Instant) {
        let expire = |ingress: &Ingress| {
            let (expired, deadline) = ingress
                .with_reassembly(|table| (table.expire(now, &mut Spares::default()), table.next_deadline()));
            self.drops.incomplete_expired.add(expired);
            deadline
        };
        let deadline = match owner {
            Owner::Fragments(id) => {
                let cell = self.sessions.lock().find(id);
                let shared = cell.and_then(|cell| cell.with_phase(|phase| phase.shared().cloned()));
                shared.and_then(|shared| expire(&shared.ingress))
            }
            Owner::HandshakeFragments(kid) => {
                self.routes.with(kid, |entry| expire(entry.route.ingress()?)).flatten()
            }
            Owner::Pending(_) | Owner::Session(_) => None,
        };
        if let Some(deadline) = deadline {
            self.timers.lock().schedule(owner, deadline);
        }
    }
}
