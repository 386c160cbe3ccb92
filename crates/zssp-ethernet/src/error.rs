//! What can go wrong, one type per operation.

use std::io;

use crate::InterfaceName;

/// A link could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This machine, or this network namespace, has no such interface.
    #[error("there is no network interface {0}: `ip link` lists them")]
    NoInterface(InterfaceName),
    /// The interface carries no Ethernet frames, as tunnels do not.
    #[error("{0} is not an Ethernet interface")]
    NotEthernet(InterfaceName),
    /// Raw frames need a privilege that the process does not have.
    #[error(
        "raw Ethernet frames need the capability CAP_NET_RAW: \
         run `setcap cap_net_raw+ep PROGRAM` once, or start the program as root"
    )]
    NotPermitted,
    /// The system refused something else.
    #[error("cannot {step}: {reason}")]
    System {
        /// What was to be done.
        step: &'static str,
        /// What the system said.
        #[source]
        reason: io::Error,
    },
}

impl OpenError {
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| Self::System { step, reason: reason.into() }
    }
}

/// Nothing more can be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The interface was removed. One that is merely down is waited for.
    #[error("the network interface {0} is gone; open the link again when it is back")]
    Gone(InterfaceName),
    /// The system refused something else.
    #[error("cannot receive: {0}")]
    System(#[from] io::Error),
}

/// A datagram was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The interface is down. What is sent later goes out when it is up again.
    #[error("the network interface {0} is down")]
    Down(InterfaceName),
    /// The interface was removed.
    #[error("the network interface {0} is gone; open the link again when it is back")]
    Gone(InterfaceName),
    /// The datagram does not fit a frame of this interface.
    #[error("a datagram of {len} bytes does not fit a frame of {interface}")]
    TooLarge {
        /// Where it was to go.
        interface: InterfaceName,
        /// Bytes of the datagram.
        len: usize,
    },
    /// The system refused something else.
    #[error("cannot send: {0}")]
    System(#[from] io::Error),
}
