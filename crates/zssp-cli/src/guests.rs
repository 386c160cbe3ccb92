//! Those who connect to a command that listens.

use zssp::{Connection, Incoming, PeerName, Rejection};

use crate::{
    console::Console, place::Seen, public_key_text::PublicKeyText, purpose::Purpose, ratchets::Ratchets,
    values::Allowed,
};

/// Who is let in, for what, and how many at once.
pub(crate) struct Guests {
    pub(crate) allow: Vec<Allowed>,
    pub(crate) purpose: Purpose,
    pub(crate) places: usize,
    pub(crate) door: Door,
    pub(crate) console: Console,
}

impl Guests {
    /// Gives back a peer that is to be let in while `busy` others are served, and refuses all others.
    pub(crate) fn screen(&self, incoming: Incoming, busy: usize) -> Option<Incoming> {
        if self.welcomes(&incoming, busy) {
            return Some(incoming);
        }
        // Whatever the policy says: where it is silent to strangers, whoever comes so far has named a ratchet of ours.
        incoming.refuse_with(Rejection::Told);
        None
    }

    /// Whether to let a peer in. What is said of a refusal tells the operator what to do.
    fn welcomes(&self, incoming: &Incoming, busy: usize) -> bool {
        let key = PublicKeyText(incoming.peer_key());
        let (address, purpose) = (Seen(incoming.remote_address()), self.purpose);
        if !self.knows(&key) {
            self.console.warn(format_args!(
                "refused an unknown peer at {address} that wants to {purpose}; to let it in, add\n  --allow {key}"
            ));
            return false;
        }
        let key = key.short();
        match Purpose::of(incoming.identity()) {
            Some(wanted) if wanted == purpose => {}
            Some(wanted) => {
                let server = wanted.server();
                self.console.warn(format_args!(
                    "refused {key} at {address}: it wants to {wanted}, which is for `{server}`"
                ));
                return false;
            }
            None => {
                self.console.warn(format_args!("refused {key} at {address}: it does not say what it wants"));
                return false;
            }
        }
        if busy >= self.places {
            self.console.warn(format_args!("refused {key} at {address}: busy with {busy} others"));
        }
        busy < self.places
    }

    fn knows(&self, key: &PublicKeyText) -> bool {
        self.allow.iter().any(|allowed| match allowed {
            Allowed::Anybody => true,
            Allowed::Key(known) => known == key,
        })
    }

    /// Lets a peer in; `None` if no connection came about.
    pub(crate) async fn admit(&self, incoming: Incoming) -> Option<Connection> {
        let peer = PublicKeyText(incoming.peer_key()).short();
        let address = Seen(incoming.remote_address());
        let name = self.door.name_of(&incoming);
        match incoming.accept_as(name).await {
            Ok(connection) => {
                let suite = connection.suite();
                self.console.note(format_args!("{peer} connected from {address} with {suite}"));
                Some(connection)
            }
            Err(error) => {
                self.console
                    .warn(format_args!("{peer} at {address} did not get as far as connecting: {error}"));
                None
            }
        }
    }
}

/// The way in, and how those who come are told apart: there is one connection at a time for each.
pub(crate) enum Door {
    /// By key and command: the same key may come several times at once, each command says of itself that it is another.
    ByCommand,
    /// By the key alone, under which the ratchet is found again.
    ByKey,
}

impl Door {
    /// Who a peer is, of whom there is one connection at a time.
    pub(crate) fn name_of(&self, incoming: &Incoming) -> PeerName {
        let key = incoming.peer_key();
        match self {
            Self::ByCommand => PeerName::new(&[&key.as_bytes()[..], incoming.identity()].concat()),
            Self::ByKey => PeerName::from(key),
        }
    }
}

impl From<Option<&Ratchets>> for Door {
    fn from(ratchets: Option<&Ratchets>) -> Self {
        match ratchets {
            Some(_) => Self::ByKey,
            None => Self::ByCommand,
        }
    }
}
