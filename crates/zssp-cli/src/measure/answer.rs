//! The side that answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::task::JoinSet;
use zssp::{Channel, CloseReason, Connection, ReceiveStream, TrySendError};

use super::wire::{Datagram, Use};

/// Answers one peer until its connection ends.
pub(crate) async fn answer(connection: &Connection) -> CloseReason {
    let filling = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(datagrams(connection.clone(), Arc::clone(&filling)));
    tasks.spawn(streams(connection.clone()));
    tasks.spawn(messages(Use::Messages.channel(connection)));
    tasks.spawn(requests(Use::Requests.channel(connection)));
    tasks.spawn(reports(Use::Reports.channel(connection), filling));
    connection.closed().await
}

async fn datagrams(connection: Connection, filling: Arc<AtomicU64>) {
    while let Ok(datagram) = connection.read_datagram().await {
        match Datagram::parse(&datagram) {
            Some(Datagram::Filling) => {
                filling.fetch_add(1, Relaxed);
            }
            Some(Datagram::Ping(number)) => {
                match connection.try_send_datagram(Datagram::Pong(number).encode(datagram.len())) {
                    // A full queue is a network that loses.
                    Ok(()) | Err(TrySendError::Full) => {}
                    Err(_) => return,
                }
            }
            // Those of later versions mean nothing to us.
            Some(Datagram::Pong(_)) | None => {}
        }
    }
}

/// Reads every stream to its end. The endpoint bounds how many there are.
async fn streams(connection: Connection) {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_stream() => match stream {
                Ok((_, receive)) => drop(readers.spawn(read(receive))),
                Err(_) => return,
            },
            Some(_) = readers.join_next(), if !readers.is_empty() => {}
        }
    }
}

async fn read(mut stream: ReceiveStream) {
    while let Ok(Some(_)) = stream.read_chunk().await {}
}

async fn messages(channel: Channel) {
    while let Some(message) = channel.receive().await {
        drop(message);
    }
}

async fn requests(channel: Channel) {
    while let Some(request) = channel.receive().await {
        let data = request.data().clone();
        if request.reply(data).is_err() {
            return;
        }
    }
}

async fn reports(channel: Channel, filling: Arc<AtomicU64>) {
    while let Some(request) = channel.receive().await {
        if request.reply(filling.load(Relaxed).to_be_bytes().to_vec()).is_err() {
            return;
        }
    }
}
