//! `zssp bench`.

use std::{fmt, time::Duration};

use indicatif::{BinaryBytes, HumanCount};
use tokio::{task::JoinSet, time::timeout};
use zssp::Connection;

use crate::{
    args,
    connect::{Caller, connect, expect_another},
    console::Console,
    cpu,
    exit::{Exit, Failure},
    interrupt::Interrupt,
    key_file,
    measure::{
        answer::answer,
        load::{Arrived, Load, Way},
    },
    pair::Pair,
    place::Seen,
    purpose::Purpose,
    ratchets::Ratchets,
    transfer::run::GOODBYE,
};

const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

pub(crate) async fn bench(args: args::Bench, console: &Console) -> Result<Exit, Failure> {
    let mut interrupt = Interrupt::install()?;
    // Ends with the command.
    let mut other = JoinSet::new();
    let connection = tokio::select! {
        connected = start(&args, &mut other, console) => connected?,
        exit = interrupt.wait() => return Ok(exit),
    };
    let result = tokio::select! {
        measured = measure(&connection, &args, console) => measured.map(|()| Exit::Done),
        exit = interrupt.wait() => Ok(exit),
    };
    // A peer that is gone cannot be waited for.
    let _ = timeout(GOODBYE, connection.close(0, b"done")).await;
    result
}

/// Connects to the peer, or to one of our own that runs in `other`.
async fn start(
    args: &args::Bench,
    other: &mut JoinSet<()>,
    console: &Console,
) -> Result<Connection, Failure> {
    if let (Some(to), Some(key)) = (&args.to, &args.key) {
        let key = key_file::load(key)?;
        expect_another(&key, to)?;
        let ratchets = Ratchets::open(&args.remember, console)?;
        let caller = Caller::new(key, Purpose::Measurement, args.timeout, ratchets)?;
        return connect(&caller, to, args.timeout).await;
    }
    let pair = Pair::bind().await?;
    let connected = pair.connect().await?;
    other.spawn(async move {
        answer(&connected.bob).await;
        // Until then both sockets are in use.
        drop(pair);
    });
    Ok(connected.alice)
}

async fn measure(connection: &Connection, args: &args::Bench, console: &Console) -> Result<(), Failure> {
    let loads = loads(args, connection.max_datagram_size())?;
    let whose = if args.to.is_some() { "this end" } else { "both ends" };
    let streams = match args.streams {
        1 => "1 stream".into(),
        count => format!("{count} streams"),
    };
    console.summary(format_args!(
        "to {} with {}, {streams}, {} s each; CPU seconds are those of {whose}\n",
        Seen(connection.remote_address()),
        connection.suite(),
        args.duration.as_secs_f64()
    ));
    console.summary(HEADER);
    for (way, load) in Way::ALL.into_iter().zip(loads) {
        let before = cpu::time();
        let arrived = load.run(connection, way).await.map_err(|broken| {
            let exit = connection.close_reason().as_ref().map_or(Exit::Failed, Exit::from);
            Failure::new(exit, format!("{} broke off: {broken}", way.name()))
        })?;
        let cpu = before.zip(cpu::time()).map(|(before, after)| after.saturating_sub(before));
        console.summary(Row { way, size: load.size, arrived, cpu });
    }
    Ok(())
}

/// What to do for each way, in their order.
fn loads(args: &args::Bench, max: usize) -> Result<[Load; 4], Failure> {
    let sizes = match args.size {
        None => [64 << 10, 1 << 10, 64, 1200],
        Some(size) => match usize::try_from(size) {
            Ok(size) if (1..=max).contains(&size) => [size; 4],
            _ => {
                let message = format!("--size is {size}, and messages and datagrams have 1 to {max} bytes");
                return Err(Failure::new(Exit::Usage, message));
            }
        },
    };
    Ok(sizes.map(|size| Load { duration: args.duration, size, streams: args.streams }))
}

const HEADER: &str = "                  size      MiB/s   messages/s   CPU s/GiB     lost";

/// A line of the table.
struct Row {
    way: Way,
    size: usize,
    arrived: Arrived,
    cpu: Option<Duration>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NONE: &str = "-";
        let Arrived { count, sent, elapsed } = self.arrived;
        let bytes = count as f64 * self.size as f64;
        let seconds = elapsed.as_secs_f64().max(1e-6);
        let rate = match self.way {
            // A stream knows no messages.
            Way::Streams => NONE.into(),
            // A cast from a float saturates.
            _ => HumanCount((count as f64 / seconds) as u64).to_string(),
        };
        let cpu = match self.cpu {
            Some(cpu) if count > 0 => format!("{:.2}", cpu.as_secs_f64() / (bytes / GIB)),
            _ => NONE.into(),
        };
        let lost = match self.way {
            Way::Datagrams => {
                format!("{:.1} %", sent.saturating_sub(count) as f64 / sent.max(1) as f64 * 100.0)
            }
            _ => NONE.into(),
        };
        let (name, size) = (self.way.name(), BinaryBytes(self.size as u64).to_string());
        let speed = bytes / MIB / seconds;
        write!(f, "{name:<10}{size:>12} {speed:>10.1} {rate:>12} {cpu:>11} {lost:>8}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_under_its_header() {
        let arrived = Arrived { count: 1 << 20, sent: 1 << 21, elapsed: Duration::from_secs(2) };
        let cpu = Some(Duration::from_secs(3));
        let row = Row { way: Way::Datagrams, size: 1024, arrived, cpu }.to_string();
        assert_eq!(row, "datagrams     1.00 KiB      512.0      524,288        3.00   50.0 %");
        assert_eq!(row.len(), HEADER.len());
        let row = Row { way: Way::Streams, size: 1, arrived, cpu: None }.to_string();
        assert_eq!(row, "streams            1 B        0.5            -           -        -");
    }
}
