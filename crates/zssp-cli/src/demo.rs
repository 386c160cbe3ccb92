//! `zssp demo`: both peers in one process, a transfer over loopback UDP, and what it took.
//!
//! Only the ends differ from a real transfer: the contents are made up as they are read, and thrown away when they are
//! verified.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount};
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};
use zssp::{ConnectionStats, Endpoint, EndpointStats};

use crate::{
    args,
    console::{Console, rate},
    exit::{Exit, Failure},
    interrupt::Interrupt,
    pair::{Connected, PATIENCE, Pair},
    progress::{Progress, Tally},
    public_key_text::PublicKeyText,
    transfer::{
        message::{Attributes, Mode},
        names::{Name, NamePath},
        receiver,
        refusal::Refusal,
        run::Broken,
        sender::Job,
        sink::{Place, Sink, SinkFile},
        source::{Opened, Plan, Source},
    },
};

/// What UDP and IPv4 put in front of each datagram.
const UDP_IP: u64 = 28;

const MIB: u64 = 1 << 20;

pub(crate) async fn demo(args: &args::Demo, console: &Console) -> Result<Exit, Failure> {
    let mut interrupt = Interrupt::install()?;
    tokio::select! {
        result = show(args.size, console, interrupt.clone()) => result,
        exit = interrupt.wait() => Ok(exit),
    }
}

async fn show(size: u64, console: &Console, interrupt: Interrupt) -> Result<Exit, Failure> {
    console.summary("Two peers in one process, over UDP on the loopback interface.\n");

    let pair = Pair::bind().await?;
    let short = |endpoint: &Endpoint| PublicKeyText(endpoint.public_key()).short();
    let keys = format!("{} and {}", short(&pair.alice), short(&pair.bob));
    line(console, "keys", format_args!("{keys}, made for this"));

    let begin = Instant::now();
    let connected = pair.connect().await?;
    let took = begin.elapsed();
    let (there, back) = traffic(&pair);
    let total = there.and(back);
    line(console, "handshake", format_args!("{} with {}", milliseconds(took), connected.alice.suite()));
    line(
        console,
        "",
        format_args!(
            "{} datagrams there, {} back, {} in all",
            there.datagrams,
            back.datagrams,
            HumanBytes(total.bytes)
        ),
    );

    let tally = transfer(&connected, size, console, interrupt).await?;
    let verified = tally.files == 1 && tally.bytes == size;
    let how = if verified { "verified with BLAKE3 at the other end" } else { "NOT verified" };
    let speed = HumanBytes(rate(size, tally.elapsed));
    line(
        console,
        "transfer",
        format_args!("{} in {:.2} s, {speed}/s, {how}", HumanBytes(size), tally.elapsed.as_secs_f64()),
    );
    // The last acknowledgements and the goodbye are part of it.
    let _ = timeout(PATIENCE, connected.alice.close(0, b"done")).await;
    let (there_in_all, back_in_all) = traffic(&pair);
    report_wire(
        console,
        size,
        [there_in_all.since(there), back_in_all.since(back)],
        &connected.alice.stats(),
    );

    if !verified {
        return Err(Failure::new(Exit::Failed, "the contents did not arrive as they were sent"));
    }
    console.summary(
        "\nNext: `zssp keygen FILE` on two machines, then `zssp receive --help` on one and `zssp send --help` on the other.",
    );
    Ok(Exit::Done)
}

/// What went from Alice to Bob, and back.
fn traffic(pair: &Pair) -> (Traffic, Traffic) {
    (pair.bob.stats().into(), pair.alice.stats().into())
}

/// What came out of the network at one end.
#[derive(Clone, Copy)]
struct Traffic {
    datagrams: u64,
    /// Of UDP payload.
    bytes: u64,
}

impl From<EndpointStats> for Traffic {
    fn from(stats: EndpointStats) -> Self {
        Self { datagrams: stats.datagrams_received, bytes: stats.bytes_received }
    }
}

impl Traffic {
    fn since(self, before: Self) -> Self {
        Self { datagrams: self.datagrams - before.datagrams, bytes: self.bytes - before.bytes }
    }

    fn and(self, other: Self) -> Self {
        Self { datagrams: self.datagrams + other.datagrams, bytes: self.bytes + other.bytes }
    }
}

async fn transfer(
    connected: &Connected,
    size: u64,
    console: &Console,
    interrupt: Interrupt,
) -> Result<Tally, Failure> {
    let (there, here, runtime) = (connected.bob.clone(), connected.alice.clone(), Handle::current());
    let mut progress = Progress::new(console, "transfer", size);
    let interrupted = interrupt.clone();
    let receiving =
        spawn_blocking(move || runtime.block_on(receiver::receive(&there, Void, interrupted, |_| {})));
    let path =
        NamePath::root(Name::new(b"demo").map_err(|error| Failure::new(Exit::Local, error.to_string()))?);
    let runtime = Handle::current();
    let sending = spawn_blocking(move || {
        let plan = Plan { files: [(path, size)].into(), bytes: size, ..Plan::default() };
        let mut job = Job::new(Noise { size }, plan);
        let result = runtime.block_on(job.send(&here, interrupt, |event| progress.observe(event)));
        (progress.tally(), result)
    });
    let panicked = |panic: tokio::task::JoinError| Failure::new(Exit::Local, panic.to_string());
    let broken = |broken: Broken| Failure::new(broken.exit(), broken.to_string());
    let (tally, outcome) = sending.await.map_err(panicked)?;
    outcome.map_err(broken)?;
    receiving.await.map_err(panicked)?.map_err(broken)?;
    Ok(tally)
}

fn report_wire(console: &Console, size: u64, [there, back]: [Traffic; 2], stats: &ConnectionStats) {
    let wire = there.bytes + there.datagrams * UDP_IP;
    // Of next to nothing a share says nothing.
    let more = match size {
        0..MIB => String::new(),
        _ => {
            let more = (wire as f64 / size as f64 - 1.0) * 100.0;
            format!(": {more:.1} % more than the contents, with UDP and IP headers")
        }
    };
    line(
        console,
        "on the wire",
        format_args!("{} datagrams there, {}{more}", HumanCount(there.datagrams), HumanBytes(there.bytes)),
    );
    line(
        console,
        "",
        format_args!(
            "{} datagrams back, {}: acknowledgements",
            HumanCount(back.datagrams),
            HumanBytes(back.bytes)
        ),
    );
    let rtt = stats.rtt.map_or(String::new(), |rtt| format!("; round trip {}", milliseconds(rtt)));
    let sent = HumanCount(stats.messages_sent);
    line(
        console,
        "messages",
        format_args!("{sent}, of those {} sent again{rtt}", HumanCount(stats.messages_resent)),
    );
}

fn line(console: &Console, title: &str, text: std::fmt::Arguments<'_>) {
    console.summary(format_args!("{title:>12}  {text}"));
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// A file of noise: the same for the same size, and nothing a compressor or a cache could help with.
struct Noise {
    size: u64,
}

impl Source for Noise {
    type File = io::Take<blake3::OutputReader>;

    fn open(&self, _path: &NamePath) -> io::Result<Opened<Self::File>> {
        let file = blake3::Hasher::new().update(b"zssp demo").finalize_xof().take(self.size);
        let (size, attributes) = self.state(&file)?;
        Ok(Opened { file, size, attributes })
    }

    fn state(&self, _file: &Self::File) -> io::Result<(u64, Attributes)> {
        Ok((self.size, Attributes { mode: Mode::READ_WRITE, modified: None }))
    }
}

/// Verified contents end here.
#[derive(Clone)]
struct Void;

impl Sink for Void {
    type File = Self;

    fn make_directory(&self, _path: &NamePath, _mode: Mode) -> Result<(), Refusal> {
        Ok(())
    }

    fn place(&self, _path: &NamePath, _size: u64) -> Result<Place, Refusal> {
        Ok(Place::Free)
    }

    fn part(&self, _path: &NamePath, _attributes: &Attributes) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

impl SinkFile for Void {
    fn kept(&self) -> u64 {
        0
    }

    fn read_kept(&mut self, _read: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn write(&mut self, _contents: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn commit(self) -> Result<(), Refusal> {
        Ok(())
    }

    fn discard(self) {}
}
