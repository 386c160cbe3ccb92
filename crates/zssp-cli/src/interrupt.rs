//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use tokio::sync::watch;

use crate::exit::Exit;

/// Tells everybody who waits that the user wants an end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<Option<Exit>>);

impl Interrupt {
    /// Starts listening for signals.
    pub(crate) fn install() -> std::io::Result<Self> {
        let (tell, told) = watch::channel(None);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            tell.send_replace(Some(signals.next().await));
            let again = signals.next().await;
            // What is unfinished keeps its temporary name.
            std::process::exit(again as i32);
        });
        Ok(Self(told))
    }

    /// Resolves when the user wants an end, with the exit code for it.
    pub(crate) async fn wait(&mut self) -> Exit {
        let exit = self.0.wait_for(Option::is_some).await.map(|exit| *exit);
        match exit {
            Ok(exit) => exit.unwrap_or(Exit::Interrupted),
            // The task that listens lives as long as the runtime.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether the user wants an end.
    pub(crate) fn requested(&self) -> Option<Exit> {
        *self.0.borrow()
    }
}

impl Interrupt {
    /// One that is requested by whoever holds the other half.
    pub(crate) fn by_hand() -> (Stop, Self) {
        let (tell, told) = watch::channel(None);
        (Stop(tell), Self(told))
    }
}

/// Requests an [`Interrupt`].
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<Option<Exit>>);

impl Stop {
    /// Whoever waits ends, with that code.
    pub(crate) fn request(&self, exit: Exit) {
        self.0.send_replace(Some(exit));
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    close: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self { interrupt: ctrl_c()?, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.close.recv() => Exit::Terminated,
            _ = self.shutdown.recv() => Exit::Terminated,
        }
    }
}
