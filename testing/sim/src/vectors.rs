//! Recorded sessions: `testing/vectors/README.md` as types, read from files and written to them.
//!
//! ```no_run
//! use zssp_sim::vectors::{self, Op, Who};
//!
//! for scenario in vectors::load_dir(&vectors::directory())? {
//!     for event in scenario.events {
//!         match (event.who, event.op) {
//!             (Who::Alice, Op::Send { fragments, .. }) => println!("alice sends {} fragments", fragments.len()),
//!             _ => {}
//!         }
//!     }
//! }
//! # Ok::<(), vectors::VectorError>(())
//! ```

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::hex;

/// The environment variable that names another directory of scenarios.
pub const VARIABLE: &str = "ZSSP_VECTORS";

/// One recorded session between `alice`, who initiates, and `bob`.
///
/// Fields of the file that are not here are ignored, operations that are not in [`Op`] are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// The suite by its recorded name: `whitepaper`, `zssp-0.4` or `ml-kem-1024`.
    pub variant: String,
    /// What is special about it, in words.
    pub description: String,
    /// What happened, in order.
    #[serde(deserialize_with = "numbered_events")]
    pub events: Vec<Event>,
    /// What each side's store holds afterwards.
    pub final_ratchets: Sides<RatchetPair>,
    /// How each side was configured.
    pub flags: Sides<Flags>,
    /// What each side's store held before.
    pub initial_ratchets: Sides<RatchetPair>,
    /// The datagram limit of both sides, in bytes.
    pub mtu: usize,
    /// The name, unique within the variant.
    pub name: String,
}

/// Something that both sides have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides<T> {
    /// The initiator's.
    pub alice: T,
    /// The responder's.
    pub bob: T,
}

impl<T> Sides<T> {
    /// That of `who`.
    pub fn of(&self, who: Who) -> &T {
        match who {
            Who::Alice => &self.alice,
            Who::Bob => &self.bob,
        }
    }
}

/// One of the two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The initiator.
    Alice,
    /// The responder.
    Bob,
}

impl Who {
    /// The other peer.
    pub fn peer(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }
}

/// The security flags of one side (PROTOCOL 5.6), and what it was told to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// It challenges every hello.
    pub challenge: bool,
    /// It refuses a hello without a ratchet it knows.
    pub hello_requires_recognized_ratchet: bool,
    /// As initiator it refuses to go on with an empty ratchet after its own was not known.
    pub initiator_disallows_downgrade: bool,
    /// It rejects whoever asks.
    pub reject: bool,
    /// As responder it refuses an initiator whose ratchet is behind its own.
    pub responder_disallows_downgrade: bool,
    /// It rejects without a word.
    pub responder_silently_rejects: bool,
}

/// The ratchet states a store holds for one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatchetPair {
    /// The newer one, or the only one.
    pub state1: RatchetState,
    /// The older one, until it is known that the peer has the newer one too.
    pub state2: Option<RatchetState>,
}

/// A ratchet state; with length, fingerprint and key all zero, the empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatchetState {
    /// How often the chain was ratcheted.
    pub chain_len: u64,
    /// The public name of the state.
    #[serde(with = "hex")]
    pub fingerprint: [u8; 32],
    /// The secret.
    #[serde(with = "hex")]
    pub key: [u8; 32],
}

/// One step of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What was done.
    #[serde(flatten)]
    pub op: Op,
    /// Who did it.
    pub who: Who,
}

/// What a side did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// Bob was asked whether he accepts this peer.
    CheckAccept {
        /// The identity the peer sent.
        #[serde(with = "hex")]
        identity: Vec<u8>,
        /// The peer's static public key, compressed.
        #[serde(with = "hex")]
        remote_static: [u8; 49],
    },
    /// The application saw something.
    Event(Seen),
    /// The cipher for headers that are received was keyed; may repeat for the same key.
    HeaderKeyRecv {
        /// The key.
        #[serde(with = "hex")]
        key: [u8; 32],
    },
    /// The cipher for headers that are sent was keyed; may repeat for the same key.
    HeaderKeySend {
        /// The key.
        #[serde(with = "hex")]
        key: [u8; 32],
    },
    /// Bob encapsulated to Alice's KEM key.
    KemEncapsulate {
        /// What he sends.
        #[serde(with = "hex")]
        ciphertext: Box<[u8; 1568]>,
        /// What both know then.
        #[serde(with = "hex")]
        shared_secret: [u8; 32],
    },
    /// A KEM key pair was generated.
    KemKeypair {
        /// The encapsulation key.
        #[serde(with = "hex")]
        public: Box<[u8; 1568]>,
        /// The expanded decapsulation key.
        #[serde(with = "hex")]
        secret: Box<[u8; 3168]>,
    },
    /// An ephemeral P-384 key pair was generated.
    P384Keypair {
        /// The public key, compressed.
        #[serde(with = "hex")]
        public: [u8; 49],
        /// The secret scalar, big-endian.
        #[serde(with = "hex")]
        secret: [u8; 48],
    },
    /// The side's static P-384 key pair.
    P384StaticKeypair {
        /// The public key, compressed.
        #[serde(with = "hex")]
        public: [u8; 49],
        /// The secret scalar, big-endian.
        #[serde(with = "hex")]
        secret: [u8; 48],
    },
    /// A datagram was refused.
    ReceiveError {
        /// Why, in the recorder's words.
        error: String,
    },
    /// A compare-and-swap on the side's ratchet store.
    SaveRatchet(Box<RatchetChange>),
    /// Everything the side sent in one step.
    Send {
        /// Whether the network lost it.
        dropped: bool,
        /// The datagrams, headers protected.
        #[serde(with = "hex")]
        fragments: Vec<Vec<u8>>,
    },
    /// The application sent a payload; the [`Send`](Self::Send) follows.
    SendPayload {
        /// The payload.
        #[serde(with = "hex")]
        payload: Vec<u8>,
    },
    /// The side got data keys.
    TransportKeys {
        /// The key it opens with.
        #[serde(with = "hex")]
        recv: [u8; 32],
        /// The key it seals with.
        #[serde(with = "hex")]
        send: [u8; 32],
    },
}

/// A compare-and-swap on a ratchet store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatchetChange {
    /// The first state to be stored.
    pub new_state1: RatchetState,
    /// The second state to be stored.
    pub new_state2: Option<RatchetState>,
    /// Whether the store did it.
    pub ok: bool,
    /// The first state the store is expected to hold.
    pub old_state1: RatchetState,
    /// The second state the store is expected to hold.
    pub old_state2: Option<RatchetState>,
}

/// What an application saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Seen {
    /// A packet that is the protocol's own business.
    Control,
    /// A payload.
    Data {
        /// The payload, opened.
        #[serde(with = "hex")]
        payload: Vec<u8>,
    },
    /// Alice went on with a ratchet older than her newest.
    DowngradedRatchetKey,
    /// Alice's session is established.
    Established,
    /// Bob has a new session, with a ratchet older than his newest.
    NewDowngradedSession,
    /// Bob has a new session.
    NewSession,
    /// The peer rejected the session.
    Rejected,
}

/// Why scenarios could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// The directory holds no scenario, so a test over it would prove nothing.
    #[error("no *.json in {}", .directory.display())]
    Empty {
        /// The directory.
        directory: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// Not a scenario; the source names the event, if it is one event that is wrong.
    #[error("{}: {source}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The directory to read: that of `ZSSP_VECTORS`, or else the repository's `testing/vectors`.
pub fn directory() -> PathBuf {
    env::var_os(VARIABLE)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors"), PathBuf::from)
}

/// Reads all `*.json` of a directory, sorted by file name.
///
/// # Errors
/// The first file that cannot be read or is no scenario, or that there is none at all.
pub fn load_dir(directory: &Path) -> Result<Vec<Scenario>, VectorError> {
    files(directory)?.iter().map(|path| Scenario::load(path)).collect()
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, VectorError> {
    let failed = |source| VectorError::Io { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(VectorError::Empty { directory: directory.to_owned() });
    }
    paths.sort();
    Ok(paths)
}

impl Scenario {
    /// Reads one file.
    ///
    /// # Errors
    /// When it cannot be read or is not a scenario.
    pub fn load(path: &Path) -> Result<Self, VectorError> {
        let text =
            fs::read_to_string(path).map_err(|source| VectorError::Io { path: path.to_owned(), source })?;
        Self::from_json(&text).map_err(|source| VectorError::Malformed { path: path.to_owned(), source })
    }

    /// Writes `<variant>.<name>.json` into a directory and returns its path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<PathBuf, VectorError> {
        let path = directory.join(format!("{}.{}.json", self.variant, self.name));
        match fs::write(&path, self.to_json()) {
            Ok(()) => Ok(path),
            Err(source) => Err(VectorError::Io { path, source }),
        }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not a scenario. An event that is wrong is named by its index, from 0.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// A file's text, one field a line.
    pub fn to_json(&self) -> String {
        let mut text = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))
            // Writing to memory does not fail, and all keys are strings.
            .expect("a scenario is representable");
        // serde_json writes UTF-8.
        String::from_utf8(text).expect("JSON is UTF-8")
    }
}

/// Events one by one, so that an error can say which one it is about.
fn numbered_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Event>, D::Error> {
    let values = Vec::<serde_json::Value>::deserialize(deserializer)?;
    let number = |(index, value)| {
        serde_json::from_value(value)
            .map_err(|error| de::Error::custom(format_args!("event {index}: {error}")))
    };
    values.into_iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_recorded_file_survives_reading_and_writing() {
        for path in files(&directory()).expect("there are recorded sessions") {
            let recorded = fs::read_to_string(&path).unwrap();
            let scenario = Scenario::load(&path).unwrap();
            let written = scenario.to_json();
            // As plain JSON: no field was lost and none added.
            let [recorded, plain]: [Value; 2] =
                [&recorded, &written].map(|text| serde_json::from_str(text).unwrap());
            assert!(recorded == plain, "{}", path.display());
            assert!(Scenario::from_json(&written).unwrap() == scenario, "{}", path.display());
        }
    }

    fn with_events(events: &Value) -> String {
        let ratchets = json!({"state1": {"chain_len": 0, "fingerprint": "00".repeat(32), "key": "00".repeat(32)}, "state2": null});
        let flags = serde_json::to_value(Flags::default()).unwrap();
        json!({
            "name": "n", "variant": "v", "description": "d", "mtu": 1500, "events": events,
            "flags": {"alice": flags, "bob": flags},
            "initial_ratchets": {"alice": ratchets, "bob": ratchets},
            "final_ratchets": {"alice": ratchets, "bob": ratchets},
        })
        .to_string()
    }

    #[test]
    fn events_are_typed() {
        let text = with_events(&json!([
            {"who": "alice", "op": "send", "dropped": false, "fragments": ["00ff", ""]},
            {"who": "bob", "op": "event", "event": "data", "payload": "0A"},
        ]));
        let scenario = Scenario::from_json(&text).unwrap();
        let sent = Op::Send { dropped: false, fragments: vec![vec![0, 255], vec![]] };
        let seen = Op::Event(Seen::Data { payload: vec![10] });
        assert_eq!(scenario.events, [Event { op: sent, who: Who::Alice }, Event { op: seen, who: Who::Bob }]);
    }

    #[test]
    fn errors_name_the_event() {
        let good = json!({"who": "bob", "op": "event", "event": "control"});
        for (bad, reason) in [
            (json!({"who": "bob", "op": "teleport"}), "unknown variant `teleport`"),
            (json!({"who": "carol", "op": "event", "event": "control"}), "unknown variant `carol`"),
            (json!({"who": "bob", "op": "event", "event": "surprise"}), "unknown variant `surprise`"),
            (json!({"who": "bob", "op": "send_payload"}), "missing field `payload`"),
            (json!({"who": "bob", "op": "send_payload", "payload": "123"}), "odd number"),
            (json!({"who": "bob", "op": "send_payload", "payload": "+1"}), "not hexadecimal"),
            (json!({"who": "bob", "op": "send_payload", "payload": "ää"}), "not hexadecimal"),
            (json!({"who": "bob", "op": "header_key_send", "key": "00"}), "wrong length"),
        ] {
            let error = Scenario::from_json(&with_events(&json!([good, bad]))).unwrap_err().to_string();
            assert!(error.contains("event 1: ") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = Scenario::load(&directory.join("Cargo.toml")).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml: expected"), "{error}");
        assert!(matches!(load_dir(directory), Err(VectorError::Empty { .. })));
        assert!(matches!(load_dir(&directory.join("nowhere")), Err(VectorError::Io { .. })));
    }
}
