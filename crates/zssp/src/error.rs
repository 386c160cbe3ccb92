//! What can go wrong, one type per operation.

use std::io;
use std::net::SocketAddr;

use zssp_proto::StoreError;

/// The endpoint could not be set up.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use zssp::{BindError, Endpoint, SecretKey};
///
/// let taken = Endpoint::bind("127.0.0.1:0", SecretKey::generate()?).await?.local_addr();
/// let error = Endpoint::bind(taken, SecretKey::generate()?).await.expect_err("it has that port");
/// assert!(matches!(&error, BindError::Socket { address, .. } if *address == taken));
/// println!("{error}");
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address text is not an IP address with a port, nor a name that resolves to one.
    #[error("no address to listen on: {0}; write it as IP:PORT, such as 0.0.0.0:9993 or [::]:9993")]
    Address(io::Error),
    /// A setting is out of its range or contradicts another.
    #[error("{0}")]
    Config(Box<str>),
    /// The system refused the socket.
    #[error("cannot listen on {address}: {reason}{}", advice(.reason))]
    Socket {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
}

fn advice(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port: stop it, or use port 0 for any free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: 0.0.0.0 stands for all it has"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::Unsupported => "; without IPv6 on this machine, use 0.0.0.0 in place of [::]",
        _ => "",
    }
}

/// There is no connection.
///
/// ```
/// use zssp::ConnectError;
///
/// /// Whether it makes sense to try again without anybody having done something about it.
/// fn may_pass(error: &ConnectError) -> bool {
///     matches!(error, ConnectError::Conflict | ConnectError::TimedOut | ConnectError::Unsettled)
/// }
/// assert!(may_pass(&ConnectError::TimedOut) && !may_pass(&ConnectError::Refused));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// This endpoint is connecting to that peer already; wait for that attempt instead.
    #[error("this endpoint is connecting to that peer already: wait for that attempt instead")]
    AlreadyConnecting,
    /// The address belongs to the other IP family than the socket.
    #[error("{0} cannot be reached from this socket: bind to [::] to speak both IPv4 and IPv6")]
    AddressFamily(SocketAddr),
    /// The ratchet of the peer was changed in the middle of the attempt: the peer was connecting at the same moment, and
    /// [`Endpoint::accept`](crate::Endpoint::accept) has the connection; or the connection that is up agreed on a new key
    /// just then; or another endpoint with the same store was quicker, or an operator has presetted or forgotten the peer.
    /// Connect again if there is none.
    #[error("the ratchet of the peer was changed by another session or an operator meanwhile: connect again")]
    Conflict,
    /// The peer has lost the ratchet that it shared with this side, and the policy does not go on without. Make sure that
    /// it was the peer who lost it, and preset a [one-time password](crate::OneTimePassword) on both sides.
    #[error(
        "the peer has lost the ratchet it shared with this side: preset a one-time password on both sides"
    )]
    DowngradeRefused,
    /// This endpoint was closed.
    #[error("the endpoint is closed")]
    EndpointClosed,
    /// This side cannot do it: the key is this endpoint's own, which is said at once; or the cryptographic library fails,
    /// which is said when the time to connect is up, or when a peer is accepted.
    #[error("cannot connect: {0}")]
    Local(Box<str>),
    /// The peer was accepted under another name than the one its ratchet is stored under, so it is not believed.
    #[error("the peer shares its ratchet with this side under another name")]
    OtherName,
    /// The peer answered, and does not want this endpoint: it does not know its key, or insists on a ratchet that this side
    /// has lost.
    #[error("the peer refused: does it know this endpoint's public key?")]
    Refused,
    /// Another connection with the same peer took this one's place before it came about: the two were connecting at the same
    /// moment, or the peer has connected again. [`Endpoint::accept`](crate::Endpoint::accept), or the other attempt, has it.
    #[error("another connection with the same peer took the place of this attempt")]
    Replaced,
    /// The ratchet store failed, on this side: whoever connects has tried again until the time was up.
    #[error(transparent)]
    Store(StoreError),
    /// Nobody answered in time: nobody listens there, the key is not the peer's, the network loses everything, or the peer
    /// insists on a ratchet that one of the two has lost (its
    /// [`EndpointStats::unwelcome`](crate::EndpointStats::unwelcome) counts that).
    #[error("no answer in time: is the address right, and the public key the one of that peer?")]
    TimedOut,
    /// The decision to accept came too late: the peer has given up, or has begun anew.
    #[error("the peer did not wait to be accepted")]
    TooLate,
    /// As many attempts as the endpoint allows are under way.
    #[error("too many attempts to connect are under way")]
    TooManyAttempts,
    /// There are as many sessions as the limits of the endpoint allow.
    #[error("there are as many sessions as this endpoint allows")]
    TooManySessions,
    /// An attempt of this side to connect to the peer was cut off, and the peer may still bring it to its end. The two can
    /// connect a few seconds later; the peer tries again by itself.
    #[error(
        "an earlier attempt to connect to the peer may still come to its end; in a few seconds the two can connect"
    )]
    Unsettled,
}

/// A message was not accepted for sending. What had been accepted before is not affected.
///
/// ```
/// use zssp::{Channel, SendError};
///
/// /// Sends what the peer should have, as long as there is a peer. Yields whether there is.
/// async fn tell(channel: &Channel, report: Vec<u8>) -> bool {
///     match channel.send(report).await {
///         Ok(()) => true,
///         Err(SendError::TooLarge { len, max }) => {
///             eprintln!("a report of {len} bytes is left out, {max} fit: use a stream");
///             true
///         }
///         Err(_) => false,
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has ended, or is being closed.
    #[error("the connection is closed: {0}")]
    Closed(CloseReason),
    /// The message is larger than one payload can be.
    #[error(
        "the message has {len} bytes, at most {max} fit into one: send more over a stream, or raise the `mtu` of the endpoint"
    )]
    TooLarge {
        /// The bytes given.
        len: usize,
        /// The bytes that fit, see [`Connection::max_datagram_size`](crate::Connection::max_datagram_size) and
        /// [`Channel::max_message_size`](crate::Channel::max_message_size).
        max: usize,
    },
}

/// A message or datagram was not taken.
///
/// ```
/// use zssp::{Connection, SendError, TrySendError};
///
/// /// Sends the newest position, or none if the last ones have not left yet.
/// fn position(connection: &Connection, position: [u8; 12]) -> Result<(), SendError> {
///     match connection.try_send_datagram(position.to_vec()) {
///         Ok(()) | Err(TrySendError::Full) => Ok(()),
///         Err(TrySendError::Send(error)) => Err(error),
///         Err(error) => unreachable!("{error}: of a later version"),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room: wait with [`Connection::send_datagram`](crate::Connection::send_datagram),
    /// [`Channel::send`](crate::Channel::send) or [`send_ordered`](crate::Channel::send_ordered), or drop it.
    #[error("there is no room to send it at once")]
    Full,
    /// It will never be taken.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// As many channels as may be are in use; see [`Builder::channels`](crate::Builder::channels).
///
/// ```
/// use zssp::{Channel, Connection, TooManyChannels};
///
/// /// A channel for each room, and one that the rest have in common.
/// fn room(connection: &Connection, number: u16, rest: &Channel) -> Channel {
///     connection.channel(number).unwrap_or_else(|TooManyChannels| rest.clone())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many channels as the endpoint allows are in use")]
pub struct TooManyChannels;

/// Nothing can be written to a stream any more.
///
/// ```
/// use zssp::{SendStream, WriteError};
///
/// /// Sends a file that the peer may have already, which it says by the code 1.
/// async fn offer(stream: &mut SendStream, file: Vec<u8>) -> Result<(), WriteError> {
///     match stream.write_chunk(file).await {
///         Err(WriteError::Stopped(1)) => Ok(()),
///         Err(error) => Err(error),
///         Ok(()) => stream.finish(),
///     }
/// }
/// ```
///
/// Where a stream is a [`tokio::io::AsyncWrite`], it is in the [`io::Error`]:
///
/// ```
/// use std::io;
/// use zssp::WriteError;
///
/// let error = io::Error::from(WriteError::Stopped(1));
/// assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
/// assert_eq!(error.downcast::<WriteError>().ok(), Some(WriteError::Stopped(1)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The connection has ended, or is being closed.
    #[error("the connection is closed: {0}")]
    ConnectionLost(CloseReason),
    /// This side has finished the stream.
    #[error("the stream is finished")]
    Finished,
    /// This side has reset the stream.
    #[error("the stream was reset by this side")]
    Reset,
    /// The peer reads no more; its code says why.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(u32),
}

/// Nothing can be read from a stream any more, and its end was not seen.
///
/// ```
/// use zssp::{ReadError, ReceiveStream};
///
/// /// Keeps what has come, in pieces, also if the peer gives up. Yields whether that is all of it.
/// async fn keep(stream: &mut ReceiveStream, into: &mut Vec<u8>) -> Result<bool, ReadError> {
///     loop {
///         match stream.read_chunk().await {
///             Ok(Some(chunk)) => into.extend_from_slice(&chunk),
///             Ok(None) => return Ok(true),
///             Err(ReadError::Reset(_)) => return Ok(false),
///             Err(error) => return Err(error),
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The connection has ended.
    #[error("the connection is closed: {0}")]
    ConnectionLost(CloseReason),
    /// The peer gave the stream up; its code says why.
    #[error("the peer reset the stream with code {0}")]
    Reset(u32),
    /// This side has stopped the stream.
    #[error("the stream is stopped")]
    Stopped,
}

/// A stream was not read to its end.
///
/// ```
/// use zssp::{ReadToEndError, ReceiveStream};
///
/// /// What the peer has to say, or why it is not heard.
/// async fn page(mut stream: ReceiveStream) -> Result<String, String> {
///     match stream.read_to_end(64 * 1024).await {
///         Ok(page) => String::from_utf8(page).map_err(|error| error.to_string()),
///         Err(ReadToEndError::TooLong(limit)) => {
///             stream.stop(1);
///             Err(format!("{limit} bytes are enough"))
///         }
///         Err(error) => Err(error.to_string()),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadToEndError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is longer than the caller wanted; what was read is gone.
    #[error("the stream is longer than {0} bytes")]
    TooLong(usize),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::ConnectionLost(_) => io::ErrorKind::NotConnected,
            WriteError::Finished | WriteError::Reset => io::ErrorKind::BrokenPipe,
            WriteError::Stopped(_) => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::ConnectionLost(_) => io::ErrorKind::NotConnected,
            ReadError::Reset(_) => io::ErrorKind::ConnectionReset,
            ReadError::Stopped => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// A request has no reply.
///
/// ```
/// use std::time::Duration;
/// use zssp::{Bytes, Channel, RequestError};
///
/// /// Looks something up, which may be done twice.
/// async fn look_up(channel: &Channel, name: &'static str) -> Result<Option<Bytes>, RequestError> {
///     for _ in 0..3 {
///         match channel.request_within(Duration::from_secs(5), name).await {
///             Ok(found) => return Ok(Some(found)),
///             Err(RequestError::NoReply) => return Ok(None),
///             Err(RequestError::TimedOut) => {}
///             Err(error) => return Err(error),
///         }
///     }
///     Err(RequestError::TimedOut)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer's application took the request and dropped it without a reply.
    #[error("the peer took the request and did not reply")]
    NoReply,
    /// The reply did not come in the time given.
    #[error("no reply in time")]
    TimedOut,
    /// It was not accepted, or the connection ended before the reply came. With [`SendError::Closed`] the peer may have
    /// taken it: the two cannot be told apart from here when the reply is lost.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Why a connection ended.
///
/// ```
/// use zssp::CloseReason;
///
/// fn tell(reason: &CloseReason) -> String {
///     match reason {
///         CloseReason::Local => "we closed it, and everything was answered".into(),
///         CloseReason::Aborted => "we ended it at once, whatever was under way".into(),
///         CloseReason::Peer { code: 0, .. } => "the peer was done".into(),
///         CloseReason::Peer { code, reason } => format!("error {code}: {}", String::from_utf8_lossy(reason)),
///         other => other.to_string(),
///     }
/// }
/// assert_eq!(tell(&CloseReason::Local), "we closed it, and everything was answered");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side [aborted](crate::Connection::abort) it: what was not answered until then is lost, or nobody knows.
    #[error("aborted by this side")]
    Aborted,
    /// The ratchet was changed under the session: by another session with the peer that has the same store, or by an
    /// operator who has presetted or forgotten the peer. Connect again, and the two begin from what is stored now.
    #[error("the ratchet of the peer was changed by another session or an operator: connect again")]
    Conflict,
    /// This endpoint was closed.
    #[error("the endpoint was closed")]
    EndpointClosed,
    /// The peer did not answer for a minute when a key had to be confirmed or agreed on, or what it answered did not fit
    /// the ratchet of the two; or the ratchet store of one of the two failed for that long. It may be back: connect again.
    #[error("the peer did not agree on a new key within a minute: connect again")]
    Expired,
    /// The session's key was used as often as is safe, and the peer did not agree on another before. Connect again.
    #[error("the key of the session was used up before the peer agreed on another: connect again")]
    KeyUsedUp,
    /// This side [closed](crate::Connection::close) it, and everything it had sent was answered. So were the messages of the
    /// peer that its application had taken, but for those that it kept for longer than
    /// [`give_up_after`](crate::Builder::give_up_after).
    #[error("closed by this side")]
    Local,
    /// The peer closed it.
    #[error("closed by the peer with code {code}{}", text(.reason))]
    Peer {
        /// The peer's code, for programs.
        code: u32,
        /// The peer's reason, for people; whatever bytes it sent.
        reason: Box<[u8]>,
    },
    /// The peer sent an authentic payload that does not follow the protocol.
    #[error("the peer violated the protocol: {0}")]
    Protocol(&'static str),
    /// The cryptographic library failed where it should not; see [`ProviderError`](crate::proto::crypto::ProviderError).
    #[error("the cryptographic library failed")]
    Provider,
    /// A newer session with the same peer took its place.
    #[error("a newer connection with the same peer took its place")]
    Replaced,
    /// The peer stopped answering.
    #[error("the peer stopped answering")]
    TimedOut,
}

fn text(reason: &[u8]) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", reason.escape_ascii()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_to_do() {
        let address = "[::]:0".parse().unwrap();
        let error = BindError::Socket { address, reason: io::ErrorKind::AddrInUse.into() };
        assert!(error.to_string().contains("use port 0"), "{error}");
        let reason = CloseReason::Peer { code: 7, reason: b"full\n"[..].into() };
        assert_eq!(reason.to_string(), "closed by the peer with code 7: full\\n");
    }
}
