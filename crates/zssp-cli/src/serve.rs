//! `zssp serve`.

use std::sync::Arc;

use tokio::{task::JoinSet, time::timeout};
use zssp::{Endpoint, Incoming};

use crate::{
    args,
    console::Console,
    exit::{Exit, Failure},
    guests::{Door, Guests},
    interrupt::Interrupt,
    key_file,
    measure::answer::answer,
    place::Listening,
    public_key_text::PublicKeyText,
    purpose::Purpose,
    ratchets::{Ratchets, anybody, kept},
    transfer::run::{GOODBYE, wire_summary},
    values::Allowed,
};

/// Peers at the same time at most; more are refused.
const MAX_PEERS: usize = 64;
/// What peers are told at the end.
const SHUTTING_DOWN: &[u8] = b"the server is shutting down";

pub(crate) async fn serve(args: args::Serve, console: &Console) -> Result<Exit, Failure> {
    let key = key_file::load(&args.key)?;
    let mut interrupt = Interrupt::install()?;
    let public = PublicKeyText(key.public_key());
    let builder = Endpoint::builder(key);
    let ratchets = Ratchets::open(&args.remember, console)?;
    let builder = kept(builder, ratchets.as_ref());
    let Listening { endpoint, at, for_others } = Listening::start(builder, args.listen).await?;
    if args.allow.contains(&Allowed::Anybody) {
        console.warn(format_args!("{} may load this machine (--allow any)", anybody(ratchets.as_ref())));
    }
    let unwelcome = match &ratchets {
        Some(ratchets) => ratchets.guard(&endpoint, &args.allow)?,
        None => None,
    };
    console.summary(format_args!("listening on {at}"));
    console.note(format_args!(
        "answering `ping` and `bench`, such as: zssp ping --key FILE --to {public}@{for_others}"
    ));
    let guests = Guests {
        allow: args.allow,
        purpose: Purpose::Measurement,
        places: MAX_PEERS,
        door: Door::from(ratchets.as_ref()),
        console: console.clone(),
    };
    // Dropped at the end: until then, those who are served are told why they are no longer.
    let accepting = accept(&endpoint, Arc::new(guests), interrupt.clone());
    tokio::pin!(accepting);
    let exit = tokio::select! {
        _ = interrupt.wait() => Exit::Done,
        () = &mut accepting => Exit::Local,
    };
    endpoint.close(0, SHUTTING_DOWN);
    // Peers that are gone cannot be waited for.
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
    if let Some(unwelcome) = unwelcome {
        unwelcome.tell();
    }
    Ok(exit)
}

/// Serves whoever comes, until the endpoint is closed.
async fn accept(endpoint: &Endpoint, guests: Arc<Guests>, interrupt: Interrupt) {
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                if let Some(incoming) = guests.screen(incoming, peers.len()) {
                    peers.spawn(take(Arc::clone(&guests), incoming, interrupt.clone()));
                }
            }
            Some(_) = peers.join_next(), if !peers.is_empty() => {}
        }
    }
}

async fn take(guests: Arc<Guests>, incoming: Incoming, mut interrupt: Interrupt) {
    let peer = PublicKeyText(incoming.peer_key()).short();
    if let Some(connection) = guests.admit(incoming).await {
        let answering = answer(&connection);
        tokio::pin!(answering);
        let reason = tokio::select! {
            reason = &mut answering => reason,
            _ = interrupt.wait() => {
                // What is under way measures nothing any more.
                connection.abort(0, SHUTTING_DOWN);
                answering.await
            }
        };
        guests.console.note(format_args!("{peer} is gone: {reason}"));
        guests.console.detail(wire_summary(&connection.stats()));
    }
}
