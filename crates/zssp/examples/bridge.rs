//! Connections for a program that owns its packets: plain threads read and write them, and plain threads use streams and
//! channels. Here the packets are those of a UDP socket; they could be anybody's.
//!
//! `cargo run --example bridge`

use std::error::Error;
use std::net::UdpSocket;
use std::thread;

use pollster::block_on;
use zssp::link::{Bridge, Carrier, NotTaken, Outgoing};
use zssp::{Endpoint, SecretKey};

/// Bytes that go over the stream.
const LEN: usize = 32 << 20;

/// The way in of the packet loop, until the endpoint is gone: whatever comes is handed over, never waiting.
fn read(socket: &UdpSocket, carrier: &Carrier) -> std::io::Result<()> {
    let mut datagram = [0; 1500];
    loop {
        let (len, from) = socket.recv_from(&mut datagram)?;
        match carrier.receive(from, &datagram[..len]) {
            Ok(()) => {}
            Err(NotTaken::Full) => eprintln!("the endpoint does not keep up, so this datagram is lost"),
            Err(NotTaken::Closed) => return Ok(()),
        }
    }
}

/// The way out, until the endpoint is gone.
fn write(socket: &UdpSocket, carrier: &Carrier) -> std::io::Result<()> {
    let mut out = Outgoing::new();
    while carrier.transmit(&mut out, None).is_ok() {
        for (path, datagram) in out.datagrams() {
            socket.send_to(datagram, path.remote)?;
        }
    }
    Ok(())
}

/// An endpoint whose packets two threads carry.
fn start() -> Result<Endpoint, Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (bridge, carrier) = Bridge::new(socket.local_addr()?, 1500);
    let (reader, reading) = (socket.try_clone()?, carrier.clone());
    thread::spawn(move || read(&reader, &reading));
    thread::spawn(move || write(&socket, &carrier));
    Ok(Endpoint::builder(SecretKey::generate()?).bind_link(bridge)?)
}

fn serve(server: &Endpoint) -> Result<(), Box<dyn Error>> {
    let incoming = block_on(server.accept()).ok_or("closed")?;
    let connection = block_on(incoming.accept())?;
    let (_, mut stream) = block_on(connection.accept_stream())?;
    let bytes = block_on(stream.read_to_end(LEN))?;
    let question = block_on(connection.channel(0)?.receive()).ok_or("closed")?;
    question.reply(format!("{} bytes, all of them {}", bytes.len(), bytes[0]))?;
    block_on(connection.closed());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // Where the endpoints compute and look at the clock. The threads above and below know nothing of it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let (server, client) = {
        let _guard = runtime.enter();
        (start()?, start()?)
    };
    let (address, key) = (server.local_addr(), server.public_key());
    let serving = thread::spawn(move || serve(&server).map_err(|error| error.to_string()));

    let connection = block_on(client.connect(address, key))?;
    let (mut stream, _) = block_on(connection.open_stream())?;
    block_on(stream.write_chunk(vec![7; LEN]))?;
    stream.finish()?;
    let answer = block_on(connection.channel(0)?.request("what did you get?"))?;
    println!("{}", String::from_utf8_lossy(&answer));
    block_on(connection.close(0, b"done"));
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}

#[test]
fn it_runs() -> Result<(), Box<dyn Error>> {
    main()
}
