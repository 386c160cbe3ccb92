//! `zssp peers` and `zssp password`.

use std::{fmt, path::Path};

use zssp::{
    OneTimePassword, PeerName, Redb, default_provider,
    store::{Overwrite, PeerEntry, PresetError, private},
};

use crate::{
    args::{self, PeersCommand},
    console::Console,
    exit::{Exit, Failure},
    public_key_text::PublicKeyText,
};

/// Makes a one-time password.
pub(crate) fn password(console: &Console) -> Result<Exit, Failure> {
    let password = OneTimePassword::generate(&*default_provider()).map_err(local)?.to_text();
    console.result(password.as_str());
    console.note("For one pair of peers, once: `zssp peers preset` on both sides, then destroy every copy.");
    Ok(Exit::Done)
}

pub(crate) fn peers(args: &args::Peers, console: &Console) -> Result<Exit, Failure> {
    match &args.command {
        PeersCommand::List { ratchets } => list(&Redb::open_existing(&ratchets.file)?, console),
        PeersCommand::Forget { peer, ratchets } => {
            let store = Redb::open_existing(&ratchets.file)?;
            if store.forget(&PeerName::from(peer.0)).map_err(local)? {
                console.note(format_args!("{} is forgotten", peer.short()));
                Ok(Exit::Done)
            } else {
                Err(Failure::new(Exit::Failed, format!("nothing is remembered of {peer}")))
            }
        }
        PeersCommand::Preset { peer, password_file, replace, ratchets } => {
            // Read first: a mistake there makes no file of ratchets.
            let password = read_password(password_file)?;
            let overwrite = if *replace { Overwrite::Replace } else { Overwrite::Refuse };
            let store = Redb::open(&ratchets.file)?;
            store.preset(&PeerName::from(peer.0), password.into_ratchet(&*default_provider()), overwrite)?;
            console.note(format_args!(
                "{} has a ratchet to begin with. Preset the same on the other side, then delete {}.",
                peer.short(),
                password_file.display()
            ));
            Ok(Exit::Done)
        }
    }
}

fn read_password(path: &Path) -> Result<OneTimePassword, Failure> {
    let failure = |why: &dyn fmt::Display| {
        Failure::new(Exit::Local, format!("password file `{}`: {why}", path.display()))
    };
    let text = private::read(path).map_err(|error| failure(&error))?;
    let text = std::str::from_utf8(&text).map_err(|error| failure(&error))?;
    OneTimePassword::from_text(text).map_err(|error| failure(&error))
}

/// One line for each peer: its key, and how often its ratchet has turned.
fn list(store: &Redb, console: &Console) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for PeerEntry { name, ratchet } in store.peers().map_err(local)? {
        let key = name.as_bytes().try_into().ok().and_then(|bytes| zssp::public_key(bytes).ok());
        let key = match key {
            Some(key) => PublicKeyText(key).to_string(),
            None => format!("(of another program, a name of {} bytes)", name.as_bytes().len()),
        };
        match ratchet {
            Ok(ratchet) => console.result(format_args!("{key} {}", ratchet.chain_length)),
            Err(damage) => {
                console.error(format_args!("{key}: {damage}; forget this peer, or preset a ratchet for it"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn local(error: impl ToString) -> Failure {
    Failure::new(Exit::Local, error.to_string())
}

impl From<PresetError> for Failure {
    fn from(error: PresetError) -> Self {
        match error {
            PresetError::Known => Self::new(Exit::Failed, format!("{error}, and needs `--replace`")),
            error => local(error),
        }
    }
}
