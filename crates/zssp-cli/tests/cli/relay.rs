//! A road that loses what it is told to.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// Between one client and a server. Ends when it is dropped.
pub(crate) struct Relay {
    pub(crate) address: String,
    ended: Arc<AtomicBool>,
}

impl Relay {
    /// Forwards to `server` and back, except what `loses` picks of the client's datagrams by their length.
    pub(crate) fn start(server: &str, mut loses: impl FnMut(usize) -> bool + Send + 'static) -> Self {
        let server: SocketAddr = server.parse().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // To notice the end.
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let relay = Self { address, ended: Arc::clone(&ended) };
        thread::spawn(move || {
            let mut client = None;
            let mut buffer = [0; 65536];
            while !ended.load(Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                let to = if from == server {
                    client
                } else {
                    client = Some(from);
                    if loses(len) { None } else { Some(server) }
                };
                if let Some(to) = to {
                    // A socket that is gone is a loss, too.
                    let _ = socket.send_to(&buffer[..len], to);
                }
            }
        });
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}
