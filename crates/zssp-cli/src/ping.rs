//! `zssp ping`.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use zssp::{CloseReason, Connection, TrySendError};

use crate::{
    args,
    connect::{Caller, connect, expect_another},
    console::Console,
    exit::{Exit, Failure},
    interrupt::Interrupt,
    key_file,
    measure::{
        round_trips::{RoundTrips, milliseconds},
        wire::{Datagram, PING_HEADER},
    },
    place::Seen,
    purpose::Purpose,
    ratchets::Ratchets,
    transfer::run::GOODBYE,
};

/// An answer that takes longer is missed, if answers do not take as long anyway. It still counts when it comes.
const MISSED_AFTER: Duration = Duration::from_secs(1);
/// Pings that may wait for their answers; the oldest beyond are lost for good.
const MAX_UNANSWERED: usize = 1 << 16;

pub(crate) async fn ping(args: args::Ping, console: &Console) -> Result<Exit, Failure> {
    let key = key_file::load(&args.key)?;
    expect_another(&key, &args.to)?;
    if args.size < PING_HEADER as u64 {
        // What a ping has at most is known with the road; this is worth no connection.
        let message = format!("--size is {}, and a ping has at least {PING_HEADER} bytes", args.size);
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut interrupt = Interrupt::install()?;
    let ratchets = Ratchets::open(&args.remember, console)?;
    let caller = Caller::new(key, Purpose::Measurement, args.timeout, ratchets)?;
    let connection = tokio::select! {
        connected = connect(&caller, &args.to, args.timeout) => connected?,
        exit = interrupt.wait() => return Ok(exit),
    };
    let (peer, address) = (args.to.key.short(), Seen(connection.remote_address()));
    let size = checked_size(args.size, connection.max_datagram_size())?;
    console.summary(format_args!("ping {peer} at {address} with {}, {size} bytes", connection.suite()));

    let start = Instant::now();
    let mut pings = Pings {
        connection: &connection,
        console,
        size,
        sent: 0,
        unanswered: BTreeMap::new(),
        told: 0,
        trips: RoundTrips::default(),
    };
    let ended = pings.run(&args, &mut interrupt).await;
    let seconds = start.elapsed().as_secs_f64();
    console.summary(format_args!("{}, time {seconds:.2} s", pings.counts(&ended)));
    let answered = pings.trips.count() > 0;
    if answered {
        console.summary(format_args!("round trip {}", pings.trips));
    }
    if let Ended::Closed(reason) = &ended {
        console.error(reason);
    }
    // A peer that is gone cannot be waited for.
    let _ = timeout(GOODBYE, connection.close(0, b"done")).await;
    Ok(match ended {
        Ended::Interrupted(Exit::Terminated) => Exit::Terminated,
        _ if answered => Exit::Done,
        _ => Exit::Failed,
    })
}

fn checked_size(size: u64, max: usize) -> Result<usize, Failure> {
    let fits = usize::try_from(size).ok().filter(|size| (PING_HEADER..=max).contains(size));
    fits.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("--size is {size}, and a ping has {PING_HEADER} to {max} bytes"))
    })
}

/// Why no more pings are sent.
enum Ended {
    Closed(CloseReason),
    Complete,
    Interrupted(Exit),
}

/// The pings of one run.
struct Pings<'a> {
    connection: &'a Connection,
    console: &'a Console,
    size: usize,
    sent: u64,
    /// When those without an answer were sent.
    unanswered: BTreeMap<u64, Instant>,
    /// Up to this one they were told to be missed.
    told: u64,
    trips: RoundTrips,
}

impl Pings<'_> {
    async fn run(&mut self, args: &args::Ping, interrupt: &mut Interrupt) -> Ended {
        let mut ticks = interval(args.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = Instant::now();
        loop {
            let all_sent = args.count == Some(self.sent);
            if (all_sent && self.unanswered.is_empty()) || self.console.is_unread() {
                return Ended::Complete;
            }
            tokio::select! {
                exit = interrupt.wait() => return Ended::Interrupted(exit),
                datagram = self.connection.read_datagram() => match datagram {
                    Ok(datagram) => self.take(&datagram),
                    Err(reason) => return Ended::Closed(reason),
                },
                _ = ticks.tick(), if !all_sent => {
                    if let Err(reason) = self.send() {
                        return Ended::Closed(reason);
                    }
                    let none = self.trips.count() == 0;
                    deadline = Instant::now() + if none { args.timeout } else { self.patience() };
                }
                () = sleep_until(deadline.into()), if all_sent => return Ended::Complete,
            }
        }
    }

    fn patience(&self) -> Duration {
        MISSED_AFTER.max(self.trips.max() * 3)
    }

    fn send(&mut self) -> Result<(), CloseReason> {
        self.tell_missed();
        self.sent += 1;
        // Before it is handed over: the answer may be there sooner than this goes on.
        let now = Instant::now();
        match self.connection.try_send_datagram(Datagram::Ping(self.sent).encode(self.size)) {
            // Pings that wait for the socket would measure the queue: this one is lost.
            Ok(()) | Err(TrySendError::Full) => {}
            Err(_) => {
                return Err(self.connection.close_reason().unwrap_or(CloseReason::Local));
            }
        }
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_first();
        }
        self.unanswered.insert(self.sent, now);
        Ok(())
    }

    fn tell_missed(&mut self) {
        let patience = self.patience();
        for (number, sent) in self.unanswered.range(self.told + 1..) {
            if sent.elapsed() < patience {
                break;
            }
            self.told = *number;
            self.console.summary(format_args!("no answer yet: seq={number}"));
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        // Whatever else the peer says was not asked for.
        let Some(Datagram::Pong(number)) = Datagram::parse(datagram) else { return };
        let Some(sent) = self.unanswered.remove(&number) else { return };
        let time = sent.elapsed();
        self.trips.add(time);
        let address = Seen(self.connection.remote_address());
        self.console.summary(format_args!(
            "{} bytes from {address}: seq={number} time={:.3} ms",
            datagram.len(),
            milliseconds(time)
        ));
    }

    fn counts(&self, ended: &Ended) -> Counts {
        let patience = self.patience();
        let under_way = match ended {
            Ended::Interrupted(_) => {
                self.unanswered.values().filter(|sent| sent.elapsed() < patience).count()
            }
            Ended::Closed(_) | Ended::Complete => 0,
        };
        Counts { sent: self.sent, received: self.trips.count(), under_way: under_way as u64 }
    }
}

/// What became of the pings.
#[derive(Clone, Copy, Debug)]
struct Counts {
    sent: u64,
    received: u64,
    /// Nobody can tell yet: sent just before the user ended it.
    under_way: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, under_way } = *self;
        let decided = sent - under_way;
        let lost = (decided - received) as f64 / decided.max(1) as f64 * 100.0;
        write!(f, "{sent} sent, {received} received, ")?;
        if under_way > 0 {
            write!(f, "{under_way} under way, ")?;
        }
        write!(f, "{lost:.1} % lost")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_lost() {
        let counts = |sent, received, under_way| Counts { sent, received, under_way }.to_string();
        assert_eq!(counts(4, 3, 0), "4 sent, 3 received, 25.0 % lost");
        assert_eq!(counts(4, 3, 1), "4 sent, 3 received, 1 under way, 0.0 % lost");
        assert_eq!(counts(1, 0, 1), "1 sent, 0 received, 1 under way, 0.0 % lost");
        assert_eq!(counts(0, 0, 0), "0 sent, 0 received, 0.0 % lost");
    }
}
